"""Insertions on tiny pipelines: what is asked is what is drawn, and a record draws it again bit for bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import saccade
from saccade.attach import attach
from saccade.core.errors import SaccadeError
from saccade.core.site import at
from saccade.insert import Inserted, Record, replay, write_sheet
from saccade.papers.clear import Clear
from saccade.papers.in_context_brush import InContextBrush, make_diptych, on_white
from saccade.pipelines.latent_blending import LatentBlending
from saccade.pipelines.latents import encoded, start_noise
from tests.tiny_fill import tiny_fill
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host
RNG = np.random.default_rng(0)
SUBJECT, TARGET = (RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(2))
OWN = np.zeros((32, 32), bool)
OWN[8:24, 8:24] = True
PLACE = np.zeros((32, 32), np.float32)
PLACE[8:24, 4:20] = 1
PROMPT = "a red circle above a cross"
ASKED: dict[str, Any] = {
    "subject": SUBJECT, "into": TARGET, "mask": PLACE, "prompt": PROMPT, "subject_mask": OWN, "steps": 2,
    "text_tokens": 16,
}  # fmt: skip
MAKERS = {"fill": tiny_fill, "flux": tiny_flux, "sd3": tiny_sd3}


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_fill()


def inserted(pipe: Any, **given: Any) -> Inserted:
    return saccade.insert(pipe, **{**ASKED, **given})


def floats(picture: np.ndarray) -> np.ndarray:
    return picture[None].astype(np.float32) / 255


@pytest.mark.parametrize("name", MAKERS)
def test_it_is_the_pipeline_under_the_system_and_the_blending_bit_by_bit(name: str) -> None:
    pipe = MAKERS[name]()
    found = inserted(pipe, seeds=(3, 4))
    shown = make_diptych(on_white(floats(SUBJECT), OWN), floats(TARGET), PLACE)
    masked = {"image": shown.picture, "mask_image": shown.mask[None, ..., None]} if name == "fill" else {}
    for picture, seed in zip(found.pictures, (3, 4), strict=True):
        generator = torch.Generator().manual_seed(seed)
        blend = LatentBlending.of(pipe, shown.picture, shown.mask, generator)
        with attach(pipe, InContextBrush()):
            wanted = pipe(
                PROMPT, height=64, width=32, num_inference_steps=2, output_type="np", max_sequence_length=16,
                generator=generator, latents=blend.noise, callback_on_step_end=blend, **masked,
            ).images[0]  # fmt: skip
        assert np.array_equal(picture, wanted[32:])
    assert found.pictures.shape == (2, 32, 32, 3) and found.diptychs.shape == (2, 64, 32, 3)
    assert found.density > 1


def test_with_all_of_it_off_it_is_the_fill_pipeline(pipe: Any) -> None:
    found = inserted(pipe, alpha_text=0, alpha_demo=0, beta=0, blend=False)
    generator = torch.Generator().manual_seed(0)
    noise = start_noise(pipe, 64, 32, generator)
    shown = found.shown
    wanted = pipe(
        PROMPT, image=shown.picture, mask_image=shown.mask[None, ..., None], height=64, width=32, latents=noise,
        num_inference_steps=2, output_type="np", max_sequence_length=16, generator=generator,
    ).images  # fmt: skip
    assert np.array_equal(found.diptychs, wanted) and np.array_equal(found.pictures, wanted[:, 32:])


@pytest.mark.parametrize("name", MAKERS)
def test_the_subjects_half_is_the_subject_up_to_the_autoencoder(name: str) -> None:
    """And so is what lies outside the mask: a tiny mask leaves latents that decode to the autoencoder's own picture."""
    pipe = MAKERS[name]()
    place = np.zeros((32, 32), np.float32)
    place[28:, 28:] = 1
    found = inserted(pipe, mask=place)
    latents = encoded(pipe, found.shown.picture)
    if hasattr(pipe, "_unpack_latents"):
        latents = pipe._unpack_latents(latents, 64, 32, pipe.vae_scale_factor)
    with torch.no_grad():
        kept = pipe.image_processor.postprocess(pipe.vae.decode(latents).sample, output_type="np")
    far = np.abs(found.diptychs - kept).max(axis=(0, 3))
    assert far[48:, 16:].max() > 1e-4 and np.median(far[:16]) < 1e-2


def test_a_record_is_drawn_again_bit_for_bit(pipe: Any, tmp_path: Path) -> None:
    first = inserted(
        pipe, seeds=(0, 5), beta=0.5, words="real", mask_rule="area", systems=(Clear(radius=2.0, where=at("single*")),)
    )
    file = first.record.save(tmp_path / "new" / "r.safetensors")
    record = Record.load(file)
    again = replay(tiny_fill(), record)
    assert np.array_equal(again.pictures, first.pictures) and again.record.digests == first.record.digests
    (system,) = record.request.systems
    assert system.startswith("clear(radius=2.0, where=Where(pattern='single*'")
    assert record.made_by["pipeline"] == "FluxFillPipeline" and record.differs(first.record) == {}
    bare = inserted(pipe, subject_mask=None).record
    assert Record.load(bare.save(tmp_path / "bare.safetensors")).request.subject_mask is None


def test_a_record_of_another_model_verb_or_stack_is_refused_and_other_bits_are_warned_of(
    pipe: Any, tmp_path: Path
) -> None:
    record = inserted(pipe).record
    with pytest.raises(SaccadeError, match="the record was made with another pipeline"):
        replay(tiny_flux(), record)
    with pytest.raises(ValueError, match=r"systems=\['clear\(radius=2.0\)'\] are not the record's, \[\]"):
        replay(pipe, record, systems=[Clear(radius=2.0)])
    old = replace(record, digests=("0",), made_by={**record.made_by, "torch": "1.0"})
    with pytest.warns(UserWarning, match="not those of the record bit for bit: torch 1.0 -> 2"):
        replay(pipe, old)
    from saccade.compose import Record as Composition

    with pytest.raises(ValueError, match="is no record of compose"):
        Composition.load(record.save(tmp_path / "r.safetensors"))
    with pytest.raises(ValueError, match="is no record of insert"):
        Record.load(tmp_path / "none")


def test_a_subject_is_found_by_what_is_handed_in(pipe: Any) -> None:
    found = inserted(
        pipe, subject_mask=None, phrase="barn", detect=lambda picture, phrase: (8, 8, 24, 24),
        segment=lambda picture, box: OWN,
    )  # fmt: skip
    assert np.array_equal(found.pictures, inserted(pipe).pictures)
    with pytest.raises(ValueError, match="'barn' was not found in the subject's picture"):
        inserted(pipe, subject_mask=None, phrase="barn", detect=lambda *_: None, segment=lambda *_: OWN)


def test_places_are_masks_pictures_or_boxes(pipe: Any) -> None:
    one = inserted(pipe).record.request.mask
    for given in (
        PLACE > 0, (255 * PLACE).astype(np.uint8), Image.fromarray((255 * PLACE).astype(np.uint8)),
        (4, 8, 20, 24), (0.125, 0.25, 0.625, 0.75),
    ):  # fmt: skip
        assert np.array_equal(inserted(pipe, mask=given, steps=1).record.request.mask, one)


@pytest.mark.slow
def test_other_options_are_other_pictures(pipe: Any) -> None:
    one = inserted(pipe)
    for given in (
        {"alpha_text": 0.0}, {"alpha_demo": 0.6}, {"beta": 0.0}, {"rows": "all"}, {"compat": "official"},
        {"blend": False}, {"words": "real"}, {"subject_mask": None}, {"guidance": 5.0}, {"seeds": 1},
    ):  # fmt: skip
        assert not np.array_equal(inserted(pipe, **given).pictures, one.pictures), given


def test_halves_have_the_targets_size_and_the_subject_keeps_its_proportions(pipe: Any) -> None:
    wide = np.zeros((16, 32, 3), np.uint8)
    found = inserted(pipe, subject=wide, subject_mask=None, height=24, width=24)
    assert found.pictures.shape == (1, 24, 24, 3)
    top = found.shown.picture[0, :24]
    assert (top[:6] == 1).all() and (top[6:18] == 0).all() and (top[18:] == 1).all()
    stretched = inserted(pipe, subject=wide, subject_mask=None, compat="official", height=24, width=24)
    assert (stretched.shown.picture[0, :24] == 0).all()
    with pytest.warns(UserWarning, match="a picture of 35 x 39 pixels is rounded down to 32 x 32"):
        assert inserted(pipe, height=35, width=39).pictures.shape == (1, 32, 32, 3)


def test_progress_counts_steps_and_the_pipeline_is_left_as_it_was(pipe: Any) -> None:
    seen: list[tuple[int, int, str]] = []
    before = repr(pipe.transformer), dict(pipe._progress_bar_config)
    inserted(pipe, seeds=(0, 1), progress=lambda *now: seen.append(now))
    assert seen == [(i, 4, "insert") for i in range(1, 5)]
    assert (repr(pipe.transformer), dict(pipe._progress_bar_config)) == before


@pytest.mark.parametrize("name", ["s.png", "s.html"])
def test_a_sheet_shows_subject_place_and_picture(pipe: Any, tmp_path: Path, name: str) -> None:
    path = write_sheet(inserted(pipe, seeds=(0, 1)), tmp_path / "new" / name)
    if name.endswith("html"):
        assert path.read_text().count("<img ") == 6
    else:
        with Image.open(path) as sheet:
            assert sheet.width > sheet.height


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mask": np.zeros((32, 32))}, "mask: mask is empty"),
        ({"mask": np.ones((64, 32))}, r"mask: mask \(64, 32\) must be of the picture's size, \(32, 32\)"),
        ({"mask": 2 * PLACE}, r"mask: mask in \[0, 2\] must be in \[0, 1\]"),
        ({"mask": (0.5, 0.5, 0.5, 0.9)}, "must be x0 < x1 and y0 < y1"),
        ({"subject_mask": np.zeros((32, 32))}, "subject_mask: mask is empty"),
        ({"subject_mask": OWN[:16]}, r"subject_mask: mask \(16, 32\) must be of"),
        ({"phrase": "barn"}, "subject_mask and phrase, detect and segment both say"),
        ({"subject_mask": None, "phrase": "barn"}, "phrase, detect and segment find a subject together"),
        ({"subject": SUBJECT[..., 0]}, r"must be \(h w 3\)"),
        ({"prompt": " "}, "prompt='' says nothing of the result"),
        ({"alpha_demo": -1.5}, "alpha_demo=-1.5 must be at least -1"),
        ({"beta": -1.0}, "beta=-1.0 must be at least 0"),
        ({"rows": "text"}, "rows='text' is unknown"),
        ({"compat": "old"}, "compat='old' must be 'official'"),
        ({"words": "some"}, "words='some' is unknown; choose one of all, real"),
        ({"mask_rule": "tiles"}, "mask_rule='tiles' is unknown"),
        ({"steps": 0}, "steps=0 must be a whole number of at least 1"),
        ({"steps": 1.5}, "steps=1.5 must be a whole number of at least 1"),
        ({"seeds": ()}, r"seeds=\(\) must be a whole number of at least 0, or several, one at least"),
        ({"seeds": (1, "2")}, "seeds=.* must be a whole number of at least 0"),
        ({"height": -8}, "height=-8 must be a whole number of at least 1"),
        ({"text_tokens": 0}, "text_tokens=0 must be a whole number of at least 1"),
        ({"guidance": "strong"}, "guidance='strong' must be a number"),
        ({"blend": "always"}, "blend='always' must be True or False"),
        ({"into": None}, "a picture of NoneType must be a PIL image or an array"),
        ({"prompt": 3}, "says nothing of the result"),
        ({"height": 4}, "smaller than a token of 8"),
        ({"words": "real", "text_tokens": 4}, "has 6 tokens, and 4 are read of it"),
    ],
)
def test_what_does_not_fit_together_is_named_before_anything_is_drawn(
    pipe: Any, given: dict[str, Any], message: str
) -> None:
    ran: list[object] = []
    hook = pipe.transformer.register_forward_pre_hook(lambda *seen: ran.append(seen))
    with pytest.raises(ValueError, match=message):
        inserted(pipe, **given)
    hook.remove()
    assert not ran


@pytest.mark.bad_input
def test_pipelines_without_a_mask_are_kept_by_blending_alone_and_others_refused() -> None:
    with pytest.raises(ValueError, match="blend=False, and FluxPipeline has no inpainting channels"):
        inserted(tiny_flux(), blend=False)
    from tests.hosts.test_references import kontext

    with pytest.raises(ValueError, match="FluxKontextPipeline is none of FluxFillPipeline, FluxPipeline, Stable"):
        inserted(kontext())
    other = tiny_flux()
    from diffusers import FlowMatchHeunDiscreteScheduler

    other.scheduler = FlowMatchHeunDiscreteScheduler()
    with pytest.raises(ValueError, match="must be a FlowMatchEulerDiscreteScheduler"):
        inserted(other)
