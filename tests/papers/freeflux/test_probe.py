"""The probe on a tiny pipeline: what it draws, what it keeps, how it goes on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade.analysis import LayerScores
from saccade.attach import attach
from saccade.core.errors import MissingError, SelectorError
from saccade.core.site import at
from saccade.metrics.fidelity import psnr
from saccade.metrics.output import pictures
from saccade.models.fingerprint import fingerprint
from saccade.papers.freeflux import known_layers, probe_layers
from saccade.papers.freeflux.probe import MOVES
from saccade.systems.moved_keys import MovedKeys
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host
CALL: dict[str, Any] = {"num_inference_steps": 2, "height": 32, "width": 32, "max_sequence_length": 16}
SITES = ("transformer_blocks.0.attn", "single_transformer_blocks.0.attn")
TEXTS = ["a red circle", "a blue square"]
TWO: dict[str, Any] = {"unrotated": None, "down": (0, 1, 0)}


def probed(cache: Path, pipe: Any = None, **given: Any) -> LayerScores:
    return probe_layers(pipe or tiny_flux(), TEXTS, **{"moves": TWO, "batch": 2, "cache": cache, **CALL, **given})


def drawn(pipe: Any, seed: int = 0) -> list[np.ndarray]:
    noise = [torch.Generator().manual_seed(seed) for _ in TEXTS]
    return pictures(pipe(TEXTS, generator=noise, output_type="np", **CALL))


def test_scores_are_those_of_pictures_drawn_by_hand(tmp_path: Path) -> None:
    found, pipe = probed(tmp_path, seeds=(3,)), tiny_flux()
    reference = drawn(pipe, 3)
    for i, site in enumerate(SITES):
        for j, shift in enumerate((None, (0, 4, 0))):  # all of a grid of 4 x 4
            with attach(pipe, MovedKeys(shift=shift, where=at(site))):
                expected = [psnr(a, b) for a, b in zip(drawn(pipe, 3), reference, strict=True)]
            np.testing.assert_allclose(found.psnr[i, j], expected, rtol=1e-6)
    assert (found.sites, found.moves, found.model) == (SITES, ("unrotated", "down"), fingerprint(pipe.transformer))


def test_a_move_by_nothing_is_bitwise_the_reference(tmp_path: Path) -> None:
    assert not probed(tmp_path, moves={"nothing": (0, 0, 0)}).mse.any()


def test_the_released_moves_are_the_defaults() -> None:
    assert [None if m is None else tuple(64 * x for x in m) for m in MOVES.values()] == [
        None, (0, 10, 10), (0, 0, 20), (0, 64, 0),
    ]  # fmt: skip


class Killed(Exception):
    """As when somebody presses Ctrl-C."""


def test_it_goes_on_where_it_was_killed_and_reads_what_is_done(tmp_path: Path) -> None:
    whole = probed(tmp_path / "whole")
    reports: list[tuple[int, int, str]] = []

    def kill(*now: Any) -> None:
        reports.append(now)
        if "down" in now[2]:
            raise Killed

    with pytest.raises(Killed):
        probed(tmp_path / "cut", progress=kill)
    (notes,) = (tmp_path / "cut").rglob("*.jsonl")
    with notes.open("a") as file:
        file.write('["single_transformer_blocks.0.attn", "unro')  # what was being written
    pipe, calls = tiny_flux(), []
    pipe.transformer.register_forward_hook(lambda *a: calls.append(1))
    again = probed(tmp_path / "cut", pipe=pipe)
    assert np.array_equal(again.mse, whole.mse)
    assert len(calls) == CALL["num_inference_steps"] * (1 + 2)  # the references, and two moves of the second layer
    calls.clear()
    assert np.array_equal(probed(tmp_path / "cut", pipe=pipe).mse, whole.mse) and not calls


def test_it_draws_every_layer_and_move_and_counts_them(tmp_path: Path) -> None:
    reports: list[tuple[int, int, str]] = []
    probed(tmp_path, seeds=(0, 1), progress=lambda *now: reports.append(now))
    assert reports[-1][:2] == (20, 20) and {total for _, total, _ in reports} == {20}  # 4 x (1 + 2 x 2)
    assert [done for done, _, _ in reports] == sorted(done for done, _, _ in reports)


def test_other_settings_are_measured_apart(tmp_path: Path) -> None:
    probed(tmp_path)
    plain = probed(tmp_path, moves={"unrotated": None})
    jpeg = probed(tmp_path, moves={"unrotated": None}, jpeg=True)
    assert len(list(tmp_path.rglob("*.jsonl"))) == 3 and not np.allclose(plain.mse, jpeg.mse)
    assert jpeg.about["jpeg"] and jpeg.mse.max() < 1


def test_the_last_probe_of_this_very_model_is_known(tmp_path: Path) -> None:
    pipe = tiny_flux()
    assert known_layers(pipe, tmp_path) is None
    found = probed(tmp_path, pipe=pipe)
    known = known_layers(tiny_flux(), tmp_path)
    assert known is not None and np.array_equal(known.mse, found.mse) and known.sets() == found.sets()
    with torch.no_grad():
        next(iter(pipe.transformer.parameters())).add_(1e-3)
    assert known_layers(pipe, tmp_path) is None


def test_the_pipeline_is_left_as_it_was(tmp_path: Path) -> None:
    pipe = tiny_flux()
    before, picture = (repr(pipe.transformer), dict(pipe._progress_bar_config)), drawn(pipe)
    probed(tmp_path, pipe=pipe)
    assert (repr(pipe.transformer), dict(pipe._progress_bar_config)) == before
    assert all(np.array_equal(a, b) for a, b in zip(drawn(pipe), picture, strict=True))


@pytest.mark.bad_input
def test_what_cannot_be_is_named(tmp_path: Path) -> None:
    pipe = tiny_flux()
    for given, message in (
        ({"prompts": []}, r"prompts=\[\] leaves nothing to draw"),
        ({"prompts": "a circle"}, "prompts='a circle' leaves nothing to draw; give a list"),
        ({"seeds": ()}, r"seeds=\(\) leaves nothing"),
        ({"moves": {}}, "moves={} leaves nothing"),
        ({"batch": 0}, "batch=0 must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            probe_layers(pipe, **{"prompts": TEXTS, "cache": tmp_path, **given})
    with pytest.raises(SelectorError, match="matches no layer"):
        probed(tmp_path, where=at("other*"))
    with pytest.raises(MissingError, match="rotary"):
        probe_layers(tiny_sd3(), TEXTS, cache=tmp_path, **CALL)
    assert not list(tmp_path.rglob("*.json"))
