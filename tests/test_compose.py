"""Compositions on tiny pipelines: what is asked is what is drawn, and a record draws it again bit for bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import saccade
from saccade.attach import attach
from saccade.compose import Composed, Record, replay, write_sheet
from saccade.core.errors import SaccadeError
from saccade.core.site import at
from saccade.papers.clear import Clear
from saccade.papers.lamic import Box, Entity, Lamic
from saccade.pipelines.references import Reference, reference_pictures
from saccade.pipelines.words import count_tokens, piece_tokens
from tests.hosts.test_references import ONE, TWO, kontext
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
TEXTS, SHARED = ("a red circle", "a blue square"), "above a cross"
BOXES = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))
SMALL: dict[str, Any] = {"steps": 2, "height": 32, "width": 32, "text_tokens": 24, "first_stage": 0.5}
ASKED: dict[str, Any] = {"texts": TEXTS, "boxes": BOXES, "interaction": SHARED, **SMALL}


@pytest.fixture(scope="module")
def pipe() -> Any:
    return kontext()


def composed(pipe: Any, **given: Any) -> Composed:
    return saccade.compose(pipe, **{**ASKED, "references": (ONE[0], TWO[0]), **given})


def test_it_is_the_pipeline_under_lamic_bit_by_bit(pipe: Any) -> None:
    found = composed(pipe, seeds=(3, 4))
    entities = tuple(
        Entity(words=words, region=Box(x0=x, y0=0, x1=x + 0.5, y1=1), reference=f"reference{i}")
        for i, (words, x) in enumerate((((0, 1, 2), 0), ((3, 4, 5), 0.5)), start=1)
    )
    system = Lamic(entities=entities, interaction=(6, 7, 8), first_stage=0.5)
    with (
        reference_pictures(pipe, [Reference(picture=ONE), Reference(picture=TWO)]),
        attach(pipe, system),
    ):
        for picture, seed in zip(found.pictures, (3, 4), strict=True):
            wanted = pipe(
                prompt=" ".join((*TEXTS, SHARED)), height=32, width=32, max_area=1024, num_inference_steps=2,
                output_type="np", max_sequence_length=24, guidance_scale=2.5,
                generator=torch.Generator().manual_seed(seed),
            ).images[0]  # fmt: skip
            assert np.array_equal(picture, wanted)
    assert found.pictures.shape == (2, 32, 32, 3) and 0.5 < found.density < 1
    assert found.regions.shape == (2, 32, 32) and found.regions[0, :, :16].all() and not found.regions[0, :, 16:].any()


def test_a_record_is_drawn_again_bit_for_bit(pipe: Any, tmp_path: Path) -> None:
    mask = np.zeros((32, 32), np.float32)
    mask[:, 16:] = 1
    first = composed(
        pipe, boxes=(BOXES[0], None), masks=(None, mask), seeds=(0, 5), apart={1: (0,)}, strengths=(1.0, 0.5),
        systems=(Clear(radius=2.0, where=at("single*")),),
    )  # fmt: skip
    file = first.record.save(tmp_path / "new" / "r.safetensors")
    record = Record.load(file)
    again = replay(pipe, record)
    assert np.array_equal(again.pictures, first.pictures) and again.record.digests == first.record.digests
    (system,) = again.record.request.systems
    assert system.startswith("clear(radius=2.0, where=Where(pattern='single*'")
    assert record.made_by["pipeline"] == "FluxKontextPipeline" and record.made_by["torch"] == torch.__version__
    assert np.array_equal(record.regions, first.record.regions) and record.differs(first.record) == {}
    assert replay(kontext(), record).record.digests == record.digests  # a pipeline opened anew


def test_a_record_of_another_model_or_stack_is_refused_and_other_bits_are_warned_of(pipe: Any, tmp_path: Path) -> None:
    record = composed(pipe).record
    other = kontext()
    torch.nn.init.zeros_(other.transformer.proj_out.weight)
    with pytest.raises(SaccadeError, match="the record was made with another weights"):
        replay(other, record)
    with pytest.raises(ValueError, match=r"systems=\['clear\(radius=2.0\)'\] are not the record's, \[\]"):
        replay(pipe, record, systems=[Clear(radius=2.0)])
    old = replace(record, digests=("0",), made_by={**record.made_by, "torch": "1.0"})
    with pytest.warns(UserWarning, match="not those of the record bit for bit: torch 1.0 -> 2"):
        replay(pipe, old)
    (tmp_path / "x").write_text("nothing")
    with pytest.raises(ValueError, match="is no record of compose"):
        Record.load(tmp_path / "x")
    with pytest.raises(ValueError, match="is no record of compose"):
        Record.load(tmp_path / "y")


def test_texts_and_places_alone_work_on_flux() -> None:
    flux = tiny_flux()
    found = saccade.compose(flux, **ASKED)
    assert not np.array_equal(found.pictures, saccade.compose(flux, **{**ASKED, "boxes": BOXES[::-1]}).pictures)
    whole = saccade.compose(flux, **{**ASKED, "texts": TEXTS[:1], "boxes": None, "interaction": ""})
    plain = flux(
        TEXTS[0], height=32, width=32, num_inference_steps=2, max_sequence_length=24, output_type="np",
        guidance_scale=2.5, generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    assert np.array_equal(whole.pictures, plain) and whole.density == 1


def test_pixels_and_shares_name_the_same_box(pipe: Any) -> None:
    shares, pixels = composed(pipe), composed(pipe, boxes=((0, 0, 16, 32), (16, 0, 32, 32)))
    assert np.array_equal(shares.pictures, pixels.pictures)


@pytest.mark.slow
def test_other_references_and_other_padding_are_other_pictures(pipe: Any) -> None:
    one = composed(pipe)
    for given in (
        {"references": (TWO[0], ONE[0])}, {"references": (ONE[0], None)}, {"padding": "isolated"},
        {"padding": "dropped"}, {"compat": "official"}, {"first_stage": 0.0}, {"strengths": 0.5},
        {"reference_size": 400}, {"interaction": ""},
    ):  # fmt: skip
        assert not np.array_equal(composed(pipe, **given).pictures, one.pictures), given


def test_pieces_are_found_by_their_characters_and_counted_as_released() -> None:
    flux = tiny_flux()
    assert piece_tokens(flux, (*TEXTS, SHARED)) == ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    assert count_tokens(flux, " ".join(TEXTS)) == 6
    flux.tokenizer_2 = flux.tokenizer  # one that adds marks, at the beginning and at the end
    assert piece_tokens(flux, TEXTS) == ((1, 2, 3), (4, 5, 6)) and count_tokens(flux, " ".join(TEXTS)) == 8
    assert piece_tokens(flux, TEXTS, counted=True) == (tuple(range(5)), tuple(range(5, 10)))
    with pytest.raises(ValueError, match="has 8 tokens, and 7 are read of it; shorten it"):
        piece_tokens(flux, TEXTS, max_sequence_length=7)
    with pytest.raises(ValueError, match="piece='' has no token"):
        piece_tokens(flux, ("a red circle", ""))


def test_progress_counts_steps_over_all_pictures(pipe: Any) -> None:
    seen: list[tuple[int, int, str]] = []
    composed(pipe, seeds=(0, 1), progress=lambda *now: seen.append(now))
    assert seen == [(i, 4, "compose") for i in range(1, 5)]


def test_the_pipeline_is_left_as_it_was(pipe: Any) -> None:
    before = repr(pipe.transformer), dict(pipe._progress_bar_config), "prepare_latents" in vars(pipe)
    composed(pipe)
    with pytest.raises(ValueError, match="covers no image token"):
        composed(pipe, boxes=((0.0, 0.0, 0.01, 0.01), BOXES[1]))
    assert (repr(pipe.transformer), dict(pipe._progress_bar_config), "prepare_latents" in vars(pipe)) == before


def test_sizes_are_rounded_down_with_a_warning(pipe: Any) -> None:
    with pytest.warns(UserWarning, match="a canvas of 35 x 39 pixels is rounded down to 32 x 32"):
        found = composed(pipe, height=35, width=39)
    assert np.array_equal(found.pictures, composed(pipe).pictures)
    with pytest.warns(UserWarning, match="reaches beyond the canvas of .*; it is clipped"):
        composed(pipe, boxes=(BOXES[0], (16, 0, 40, 32)))
    with pytest.warns(UserWarning, match="mixes shares and pixels"):
        composed(pipe, boxes=(BOXES[0], (0.5, 0, 32, 32)))


@pytest.mark.parametrize("name", ["s.png", "s.html"])
def test_a_sheet_shows_references_places_and_pictures(pipe: Any, tmp_path: Path, name: str) -> None:
    path = write_sheet(composed(pipe, seeds=(0, 1)), tmp_path / "new" / name)
    if name.endswith("html"):
        assert path.read_text().count("<img ") == 8
    else:
        with Image.open(path) as sheet:
            assert sheet.width > sheet.height  # four panels in each of two rows


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"texts": ()}, "name nothing to compose"),
        ({"texts": "a circle"}, "must be a text for each entity"),
        ({"boxes": BOXES[:1]}, "boxes holds 1 entries for 2 texts"),
        ({"references": (ONE[0],)}, "references holds 1 entries for 2 texts"),
        ({"masks": (np.ones((4, 4)), None)}, "'a red circle' has a box and a mask"),
        ({"boxes": None, "masks": (np.full((4, 4), 2.0), None)}, r"the mask of 'a red circle', \(4, 4\), must be"),
        ({"boxes": ((0, 0, 1, 1), None)}, r"box=\(0, 0, 1, 1\) may be shares or pixels; give unit=.*'a red circle'"),
        ({"boxes": ((0.5, 0.0, 0.5, 1.0), None)}, r"must be x0 < x1 and y0 < y1, as shares.*'a red circle'"),
        ({"boxes": ((0.5, 0.0, 1.0), None)}, r"box=\(0.5, 0.0, 1.0\) must be four numbers"),
        ({"apart": {2: (0,)}}, "names entity 2, and there are 2"),
        ({"apart": {0: (0,)}}, r"apart=\[0\] of entity 0 \('a red circle'\) must be numbers among \[1\]"),
        ({"padding": "open"}, "padding='open' is unknown"),
        ({"compat": "old"}, "compat='old' must be 'official'"),
        ({"steps": 0}, "steps=0 must be a whole number of at least 1"),
        ({"steps": 1.5}, "steps=1.5 must be a whole number of at least 1"),
        ({"seeds": ()}, r"seeds=\(\) must be a whole number of at least 0, or several, one at least"),
        ({"seeds": (1, "2")}, "seeds=.* must be a whole number of at least 0"),
        ({"height": -8}, "height=-8 must be a whole number of at least 1"),
        ({"text_tokens": 0}, "text_tokens=0 must be a whole number of at least 1"),
        ({"guidance": "strong"}, "guidance='strong' must be a number"),
        ({"texts": ("a red circle", 3)}, "must be texts"),
        ({"interaction": 3}, "interaction=3 must be texts"),
        ({"unit": "cm"}, "unit='cm' is unknown; choose one of share, pixel"),
        ({"strengths": "all"}, "strengths holds 3 entries for 2 texts"),
        ({"strengths": ("one", 1.0)}, "strengths='one' must be a number"),
        ({"apart": {0: 1}}, r"apart=\{0: 1\} must name entities from each"),
        ({"apart": {"circle": (1,)}}, "names entity circle, and there are 2"),
        ({"references": ("a.png", None)}, "a picture of str must be a PIL image or an array"),
        ({"text_tokens": 4}, "has 9 tokens, and 4 are read of it"),
        ({"height": 4}, "smaller than a token of 8"),
        ({"first_stage": 2.0}, "first_stage=2.0 must be"),
    ],
)
def test_what_does_not_fit_together_is_named(pipe: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        composed(pipe, **given)


def test_a_pipeline_that_takes_none_of_it_is_named() -> None:
    from tests.tiny_sd3 import tiny_sd3

    with pytest.raises(ValueError, match="StableDiffusion3Pipeline is none of FluxPipeline, FluxKontextPipeline"):
        saccade.compose(tiny_sd3(), **ASKED)
    with pytest.raises(ValueError, match="FluxPipeline takes no reference pictures"):
        saccade.compose(tiny_flux(), **ASKED, references=(ONE[0], None))
