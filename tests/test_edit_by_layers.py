"""FreeFlux's edits by the verb, on tiny pipelines: what must hold whatever the weights."""

from typing import Any

import numpy as np
import pytest
import torch

import saccade
from saccade.analysis import LayerScores, LayerSets
from saccade.core.site import Where
from saccade.edit import Edited
from saccade.metrics.output import pictures
from saccade.papers.clear import Clear
from saccade.papers.freeflux import AddObject, KeepRegion, Reshape
from saccade.pipelines.flow import Flow
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host

SOURCE, TARGET = "a red circle on a gray background", "a red circle and a blue square on a gray background"
SIZES: dict[str, Any] = {"height": 32, "width": 40, "steps": 4, "text_tokens": 24}
JOINT = Where(kinds=("joint",))
SITES = ("transformer_blocks.0.attn", "single_transformer_blocks.0.attn")
SETS = LayerSets(sites=SITES, position=SITES[:1], content=SITES[1:])
PICTURE = np.random.default_rng(0).random((32, 40, 3)).astype(np.float32)
KINDS: dict[str, dict[str, Any]] = {
    "add": {"kind": AddObject(), "word": "blue square"},
    "reshape": {"kind": Reshape()},
    "keep": {"kind": KeepRegion(), "word": "circle"},
}
every_kind = pytest.mark.parametrize("name", KINDS)


def edited(**given: Any) -> Edited:
    pipe = given.pop("pipe", None) or tiny_flux()
    defaults = {"source": SOURCE, "target": TARGET, "layers": SETS, "watch": JOINT, **SIZES}
    return saccade.edit(pipe, **{**defaults, **given})


def plain(*prompts: str) -> list[np.ndarray]:
    noise = [torch.Generator().manual_seed(0) for _ in prompts]
    sizes = {"height": 32, "width": 40, "num_inference_steps": 4, "max_sequence_length": 24}
    return pictures(tiny_flux()(list(prompts), generator=noise, output_type="np", **sizes))


@every_kind
def test_a_target_that_is_the_source_changes_nothing(name: str) -> None:
    given = {**KINDS[name], "word": "circle"} if name != "reshape" else KINDS[name]
    found = edited(target=SOURCE, **given)
    assert np.array_equal(found.after, found.before)


@every_kind
def test_an_edit_differs_from_plain_generation_and_leaves_its_source(name: str) -> None:
    found = edited(**KINDS[name])
    before, after = plain(SOURCE, TARGET)
    assert np.allclose(found.before, before, atol=1e-5) and found.rebuilt is found.before
    assert np.abs(found.after - after).max() > 1e-6
    assert (found.source, found.target) == (SOURCE, TARGET)
    if name == "reshape":
        assert found.mask is None and not found.heat
    else:
        assert found.mask is not None and found.mask.shape == (4, 5) and not found.mask.all() and found.mask.any()
        assert set(found.heat) == {KINDS[name]["word"]}


def test_no_layers_or_steps_are_plain_generation_bit_by_bit() -> None:
    before, after = plain(SOURCE, TARGET)
    for given in ({"kind": Reshape(), "layers": LayerSets(sites=SITES)}, {"kind": Reshape(steps=0)}):
        found = edited(**given)
        assert np.array_equal(found.before, before) and np.array_equal(found.after, after)


def test_a_mask_says_where_to_edit() -> None:
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[1:3, 1:3] = True
    added, kept = edited(kind=AddObject(), mask=mask), edited(kind=KeepRegion(), mask=mask)
    assert torch.equal(added.mask, mask) and torch.equal(kept.mask, mask)
    assert np.array_equal(added.after, edited(kind=AddObject(free=mask), mask=mask).after)
    assert np.array_equal(kept.after, edited(kind=KeepRegion(keep=~mask), mask=mask).after)


def test_what_is_kept_moves() -> None:
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[1:3, 1:3] = False
    found = edited(kind=KeepRegion(by=(1, 2)), mask=mask)
    assert torch.equal(found.mask, torch.roll(mask, (1, 2), (0, 1)))
    assert not np.array_equal(found.after, edited(kind=KeepRegion(), mask=mask).after)


def test_a_segmenter_refines_what_is_kept() -> None:
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    def segment(picture: np.ndarray, clicks: np.ndarray) -> np.ndarray:
        asked.append((picture, clicks))
        mask = np.zeros((32, 40), bool)
        mask[8:16, 16:24] = True
        return mask

    word = edited(kind=KeepRegion(), word="circle")
    found = edited(kind=KeepRegion(), word="circle", segment=segment)
    ((picture, clicks),) = asked
    assert np.allclose(picture, found.before[0], atol=1e-5) and clicks.dtype.kind == "i" and len(clicks) <= 4
    inside = ~word.changed
    assert all(inside[y, x] for x, y in clicks)
    expected = torch.ones(4, 5, dtype=torch.bool)
    expected[1, 2] = False
    assert torch.equal(found.mask, expected)


@every_kind
def test_a_picture_of_yours_is_held_on_its_inversion(name: str) -> None:
    pipe = tiny_flux()
    given = {**KINDS[name], "source": PICTURE, "prompt": SOURCE, "height": None, "width": None, "pipe": pipe}
    found = edited(**given)
    flow = Flow(pipe=pipe, height=32, width=40, text_tokens=24)
    nudged = flow.decode(1.15 * flow.encode(PICTURE[None]))
    assert np.array_equal(found.before, PICTURE[None]) and np.allclose(found.rebuilt, nudged, atol=1e-6)
    assert np.abs(found.after - found.rebuilt).max() > 1e-4


@every_kind
@pytest.mark.parametrize("given", [{}, {"source": PICTURE, "prompt": SOURCE, "height": None, "width": None}])
def test_progress_counts_every_call_of_the_model(name: str, given: dict[str, Any]) -> None:
    reports: list[tuple[int, int, str]] = []
    edited(**KINDS[name], **given, progress=lambda *now: reports.append(now))
    total = reports[-1][1]
    assert [(done, of) for done, of, _ in reports] == [(i, total) for i in range(1, total + 1)]
    looks = sum(what == "find the words" for *_, what in reports)
    assert looks == (0 if name == "reshape" else 1)  # the first pass ends early: step 0 of 4 holds 14 %


def test_when_words_are_looked_for_is_the_watchs_to_say() -> None:
    reports: list[str] = []
    late = Where(kinds=("joint",), during=(0.5, 0.75))
    found = edited(**KINDS["add"], watch=late, progress=lambda done, total, what: reports.append(what))
    assert reports.count("find the words") == 3
    assert not torch.equal(found.heat["blue square"], edited(**KINDS["add"]).heat["blue square"])


def test_scores_of_a_probe_serve_as_layers(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mse = np.array([0.5, 0.1]).reshape(2, 1, 1)
    scores = LayerScores(model="m", sites=SITES, moves=("unrotated",), mse=mse)
    assert scores.sets() == SETS
    assert np.array_equal(edited(kind=Reshape(), layers=scores).after, edited(kind=Reshape()).after)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pipe = tiny_flux()
    with pytest.raises(ValueError, match="no probe of this FluxTransformer2DModel is known; run saccade probe"):
        edited(pipe=pipe, kind=Reshape(), layers=None)
    from saccade.papers.freeflux import probe_layers

    call = {"num_inference_steps": 1, "height": 32, "width": 40, "max_sequence_length": 24}
    measured = probe_layers(pipe, [SOURCE], moves={"unrotated": None}, **call)
    given = edited(pipe=pipe, kind=Reshape(), layers=measured)
    assert np.array_equal(edited(pipe=pipe, kind=Reshape(), layers=None).after, given.after)


def test_sd3_keeps_a_region_without_a_probe() -> None:
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[1:3, 1:3] = False
    found = edited(pipe=tiny_sd3(), kind=KeepRegion(), mask=mask, layers=None)
    assert np.abs(found.after - found.before).max() > 1e-6


def test_the_pipeline_is_left_as_it_was() -> None:
    pipe = tiny_flux()
    before = repr(pipe.transformer), dict(pipe._progress_bar_config)
    first = edited(pipe=pipe, **KINDS["add"])
    with pytest.raises(ValueError, match="not in the prompt"):
        edited(pipe=pipe, kind=AddObject(), word="cat")
    assert (repr(pipe.transformer), dict(pipe._progress_bar_config)) == before
    assert np.array_equal(edited(pipe=pipe, **KINDS["add"]).after, first.after)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": AddObject()}, "word=None names no new object; give its word in the target, or a mask"),
        ({"kind": KeepRegion()}, "word=None names nothing to keep; give its word in the source"),
        ({"kind": AddObject(), "word": "cat"}, "word='cat' is not in the prompt 'a red circle and"),
        ({"kind": KeepRegion(), "word": "square"}, "word='square' is not in the prompt 'a red circle on"),
        ({"kind": Reshape(), "word": "circle"}, "Reshape edits everywhere; leave them out"),
        ({"kind": Reshape(), "strength": 0.5}, "strength=0.5 and keep=False belong to edits without kind="),
        ({"kind": Reshape(), "keep": True}, "keep=True belong to edits without kind="),
        ({"kind": None}, "layers and segment belong to a kind of edit"),
        ({"kind": Reshape(), "segment": print}, "segment refines the region of a word that KeepRegion keeps"),
        (
            {"kind": Reshape(), "source": PICTURE, "height": None, "width": None},
            "prompt=None says nothing of the picture",
        ),
        ({"kind": KeepRegion(by=(3, 0)), "word": "circle"}, r"by=\(3, 0\) \(rows, columns\) moves a region out of its"),
        ({"kind": AddObject(), "word": "square", "threshold": 1.0}, "threshold=1.0 must be in"),
        ({"kind": Reshape(), "height": 30}, "height=30 must be a multiple of 8 pixels"),
    ],
)
def test_what_cannot_be_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edited(**given)


@every_kind
def test_another_system_runs_beside_the_edit(name: str) -> None:
    alone, beside = (edited(target=TARGET, systems=s, **KINDS[name]) for s in ((), (Clear(radius=1),)))
    assert np.abs(alone.after - beside.after).max() > 5e-5
    assert (alone.mask is None) == (beside.mask is None)
