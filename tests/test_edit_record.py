"""Records of edits: rounds, pictures, masks, kinds and systems are kept, and make the pictures again bit for bit."""

from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import saccade
from saccade.analysis import LayerSets
from saccade.core.errors import SaccadeError
from saccade.core.site import Where
from saccade.edit import Edited, Record, replay
from saccade.papers.clear import Clear
from saccade.papers.consistedit import ConsistEdit
from saccade.papers.freeflux import AddObject, KeepRegion, Reshape
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host
SOURCE, TARGET = "a red circle left of a blue square", "a green circle left of a blue square"
SIZES: dict[str, Any] = {"height": 32, "width": 40, "steps": 3, "text_tokens": 24}
PICTURE = np.random.default_rng(0).random((32, 40, 3))
JOINT = Where(kinds=("joint",))
SITES = ("transformer_blocks.0.attn", "single_transformer_blocks.0.attn")
LAYERS = LayerSets(sites=SITES, position=SITES[:1], content=SITES[1:])
FREE = torch.eye(4, 5, dtype=torch.bool)
GIVEN: dict[str, dict[str, Any]] = {
    "words": {"word": ("circle", "square"), "strength": (1.0, 0.3), "threshold": 0.2, "smooth": 3, "watch": JOINT},
    "mask": {"mask": np.eye(32, 40, dtype=bool), "seed": 5, "systems": (Clear(radius=2.0),)},
    "mask on tokens": {"mask": FREE, "where": JOINT, "guidance": 2.0},
    "picture": {"source": PICTURE, "prompt": SOURCE, "word": "circle", "height": None, "width": None},
    "add": {"kind": AddObject(), "word": "green circle", "layers": LAYERS, "watch": JOINT},
    "add, placed": {"kind": AddObject(free=FREE, operands="v"), "layers": LAYERS},
    "reshape": {"kind": Reshape(steps=0.5), "layers": LAYERS, "systems": (Clear(radius=2.0),)},
    "keep": {"kind": KeepRegion(by=(1, 0)), "mask": ~FREE & ~FREE.roll(1, 1) | (torch.arange(4) > 1)[:, None]},
}


def edited(pipe: Any, **given: Any) -> Edited:
    return saccade.edit(pipe, **{"source": SOURCE, "target": TARGET, **SIZES, **given})


def kept(found: Edited, folder: Path) -> Record:
    return Record.load(found.record.save(folder / "new" / "r.safetensors"))


@pytest.mark.parametrize("name", GIVEN)
def test_a_record_makes_the_edit_again_bit_for_bit(name: str, tmp_path: Path) -> None:
    first = edited(tiny_flux(), **GIVEN[name])
    record = kept(first, tmp_path)
    (again,) = replay(tiny_flux(), record)  # a pipeline opened anew
    for part in ("before", "after", "rebuilt"):
        assert np.array_equal(getattr(again, part), getattr(first, part))
    assert again.record.digests == record.digests == first.record.digests and record.differs(first.record) == {}
    assert (again.mask is None) == (first.mask is None)
    assert first.mask is None or again.mask is None or torch.equal(again.mask, first.mask)


def test_what_was_asked_is_in_the_record(tmp_path: Path) -> None:
    (asked,) = kept(edited(tiny_flux(), **GIVEN["words"]), tmp_path).rounds
    assert (asked.words, asked.strengths, asked.threshold) == (("circle", "square"), (1.0, 0.3), 0.2)
    assert (asked.watch, asked.where, asked.source, asked.picture) == (JOINT, None, SOURCE, None)
    (asked,) = kept(edited(tiny_flux(), **GIVEN["add, placed"]), tmp_path).rounds
    assert isinstance(asked.kind, AddObject) and asked.kind.free is not None and torch.equal(asked.kind.free, FREE)
    assert asked.layers == LAYERS and asked.kind.operands == "v"
    (asked,) = kept(edited(tiny_flux(), **GIVEN["picture"]), tmp_path).rounds
    assert asked.picture is not None and np.array_equal(asked.picture[0], PICTURE.astype(np.float32))
    (asked,) = kept(edited(tiny_flux(), **GIVEN["mask"]), tmp_path).rounds
    assert (
        asked.mask is not None
        and np.array_equal(asked.mask, np.eye(32, 40))
        and asked.systems == ("clear(radius=2.0)",)
    )


@pytest.mark.parametrize("make", [tiny_flux, tiny_sd3])
def test_rounds_are_made_again_one_after_the_other(make: Any, tmp_path: Path) -> None:
    pipe = make()
    one = edited(pipe, word="circle", keep=True)
    last = {"target": "a green circle left of a yellow square", "word": "square", "height": None, "width": None}
    two = edited(pipe, source=one, **last)
    record = kept(two, tmp_path)
    assert [asked.goes_on for asked in record.rounds] == [False, True] and len(record.digests) == 4
    again = replay(pipe, record)
    assert [np.array_equal(a.after, b.after) for a, b in zip(again, (one, two), strict=True)] == [True, True]
    assert again[-1].record.digests == record.digests and again[0].record.digests == record.digests[:2]


def test_what_a_segmenter_said_is_kept_and_nobody_is_asked_again(tmp_path: Path) -> None:
    mask = np.zeros((32, 40), bool)
    mask[8:16, 16:24] = True
    given: dict[str, Any] = {"kind": KeepRegion(), "target": "a red circle on white", "word": "circle", "watch": JOINT}
    first = edited(tiny_flux(), **given, segment=lambda picture, clicks: mask)
    record = kept(first, tmp_path)
    assert record.rounds[0].segmented is not None and np.array_equal(record.rounds[0].segmented, mask)
    (again,) = replay(tiny_flux(), record)
    assert np.array_equal(again.after, first.after) and again.record.digests == record.digests


def test_a_record_of_another_model_or_stack_is_refused_and_other_bits_are_warned_of(tmp_path: Path) -> None:
    pipe, other = tiny_flux(), tiny_flux()
    record = edited(pipe, word="circle").record
    torch.nn.init.zeros_(other.transformer.proj_out.weight)
    with pytest.raises(SaccadeError, match="the record was made with another weights"):
        replay(other, record)
    with pytest.raises(ValueError, match=r"systems=\['clear\(radius=2.0\)'\] are not the record's, \[\]"):
        replay(pipe, record, systems=[Clear(radius=2.0)])
    old = changed(record, digests=("0", "0"), made_by={**record.made_by, "torch": "1.0"})
    with pytest.warns(UserWarning, match="the pictures are not those of the record bit for bit: torch 1.0 -> 2"):
        replay(pipe, old)
    (tmp_path / "x").write_text("nothing")
    with pytest.raises(ValueError, match="is no record of edit"):
        Record.load(tmp_path / "x")


def test_systems_that_text_does_not_say_whole_are_given_again() -> None:
    masked = ConsistEdit(mask=torch.eye(4, 5), where=JOINT)
    pipe = tiny_flux()
    record = edited(pipe, strength=0.0, systems=(masked,)).record
    with pytest.raises(ValueError, match="tensor"):
        replay(pipe, record)
    assert replay(pipe, record, systems=(masked,))[0].record.digests == record.digests
