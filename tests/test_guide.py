"""`saccade.guide` and its record: what was asked is kept and makes the pictures again bit for bit."""

from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import saccade
from saccade.core.errors import SaccadeError
from saccade.core.rows import Rows
from saccade.guide import Guided, Record, replay
from saccade.papers.clear import Clear
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host
PROMPT = "a red circle left of a blue square"
SIZES: dict[str, Any] = {"steps": 2, "height": 32, "width": 32, "layers": (1,), "options": {"max_sequence_length": 24}}
GIVEN: dict[str, dict[str, Any]] = {
    "heads": {"heads": [(0, 1), [0, 0]], "layers": (), "w": (1, 4.5), "u": 0.5, "kind": "uniform", "seed": 3},
    "layer": {"kind": "temperature", "tau": 2.0, "scope": "all"},
    "beside another": {"systems": (Clear(radius=1.0),), "w": 2},
}


def guided(pipe: Any, **given: Any) -> Guided:
    return saccade.guide(pipe, PROMPT, **{**SIZES, **given})


@pytest.mark.parametrize("name", GIVEN)
def test_a_record_makes_the_pictures_again_bit_for_bit(name: str, tmp_path: Path) -> None:
    first = guided(tiny_flux(), **GIVEN[name])
    record = Record.load(first.record.save(tmp_path / "new" / "r.safetensors"))
    assert record.request == first.record.request and record.differs(first.record) == {}
    again = replay(tiny_flux(), record)  # a pipeline opened anew
    assert again.record.digests == record.digests and len(record.digests) == 1 + len(first.guided)
    assert all(np.array_equal(again.panels()[name], picture) for name, picture in first.panels().items())
    assert again.systems == first.systems


def test_guidance_and_rows_are_kept(tmp_path: Path) -> None:
    options = {"max_sequence_length": 24, "guidance_scale": 4.0, "negative_prompt": "a blue square"}
    rows = Rows.of("uncond", "cond")
    first = guided(tiny_sd3(), options=options, rows=rows, heads=((0, 0),), layers=())
    record = Record.load(first.record.save(tmp_path / "r.safetensors"))
    assert record.request.options == options and record.request.rows == rows
    assert replay(tiny_sd3(), record).record.digests == record.digests


def test_a_record_of_another_model_or_stack_is_refused_and_other_bits_are_warned_of(tmp_path: Path) -> None:
    pipe, other = tiny_flux(), tiny_flux()
    record = guided(pipe).record
    torch.nn.init.zeros_(other.transformer.proj_out.weight)
    with pytest.raises(SaccadeError, match="the record was made with another weights"):
        replay(other, record)
    with pytest.raises(ValueError, match=r"systems=\['clear\(radius=2.0\)'\] are not the record's, \[\]"):
        replay(pipe, record, systems=[Clear(radius=2.0)])
    old = changed(record, digests=("0",), made_by={**record.made_by, "torch": "1.0"})
    with pytest.warns(UserWarning, match="the pictures are not those of the record bit for bit: torch 1.0 -> 2"):
        replay(pipe, old)
    (tmp_path / "x").write_text("nothing")
    with pytest.raises(ValueError, match="is no record of guide"):
        Record.load(tmp_path / "x")


def test_an_option_that_is_no_plain_value_is_drawn_and_not_kept(tmp_path: Path) -> None:
    options = {"max_sequence_length": 24, "callback_on_step_end": lambda pipe, step, time, tensors: tensors}
    made = guided(tiny_flux(), options=options)
    with pytest.raises(ValueError, match=r"options\['callback_on_step_end'\]=<function .* is no plain value, which a"):
        made.record.save(tmp_path / "r.safetensors")


def test_progress_counts_pictures() -> None:
    seen: list[tuple[int, int, str]] = []
    guided(tiny_flux(), w=(1, 2), progress=lambda *now: seen.append(now))
    assert seen == [(0, 3, "w = 1"), (1, 3, "w = 2"), (2, 3, "plain")]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": ()}, "leave nothing to weaken; give"),
        ({"w": ()}, r"w=\(\) must name one strength at least, and each once"),
        ({"w": (1, 1.0)}, r"w=\(1, 1.0\) must name one strength at least, and each once"),
        ({"w": "strong"}, "w='strong' must be a number"),
        ({"w": float("inf")}, "w=inf must be a finite number"),
        ({"u": 2.0}, r"u=2.0 must be in \[0, 1\]"),
        ({"tau": 0.0}, "tau=0.0 must be above 0"),
        ({"kind": "blur"}, "kind='blur' must be one of"),
        ({"scope": "text"}, "scope='text' must be one of"),
        ({"heads": (3,)}, "must be pairs"),
        ({"heads": ((1, 0),)}, "all of whose heads are given by layers; drop one"),
        ({"seed": -1}, "seed=-1 must be a whole number of at least 0"),
        ({"steps": 0}, "steps=0 must be a whole number of at least 1"),
        ({"height": 0}, "height=0 must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_is_named_before_anything_is_sampled(given: dict[str, Any], message: str) -> None:
    pipe = tiny_flux()
    pipe.transformer.forward = None  # whoever asks it has gone too far
    with pytest.raises(ValueError, match=message):
        guided(pipe, **given)


@pytest.mark.bad_input
def test_other_things_than_systems_and_prompts_are_refused() -> None:
    with pytest.raises(TypeError, match="Clear is a class; give a system made from it"):
        guided(tiny_flux(), systems=(Clear,))
    with pytest.raises(ValueError, match="must be one text"):
        saccade.guide(tiny_flux(), [PROMPT], **SIZES)  # type: ignore[arg-type]
