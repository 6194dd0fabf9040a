"""Masks of subjects: which colour is whose, how pixels come to latents, and how frames become one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from saccade.papers.dreamrelation import latent_masks, read_frames, subject_masks
from saccade.papers.dreamrelation.masks import shrunk

GREEN, RED, BLUE = (0, 128, 0), (128, 0, 0), (0, 0, 200)


def coloured(frames: int, *colours: tuple[int, int, int], size: tuple[int, int] = (12, 10)) -> np.ndarray:
    """Stripes of these colours on black, from top to bottom."""
    made = np.zeros((frames, *size, 3), np.uint8)
    for i, colour in enumerate(colours):
        made[:, 4 * i + 1 : 4 * i + 3, 2:7] = colour
    return made


def test_subjects_come_in_the_order_of_their_colours() -> None:
    masks = subject_masks(coloured(3, RED, GREEN))
    assert masks.shape == (3, 2, 12, 10)
    assert masks[:, 0, 5:7, 2:7].all() and masks[:, 1, 1:3, 2:7].all() and masks.sum() == 3 * 20  # green, then red


def test_one_subject_leaves_the_second_mask_empty_and_a_subject_may_leave() -> None:
    frames = coloured(3, RED)
    frames[1] = 0
    masks = subject_masks(frames)
    assert masks[0, 0].any() and not masks[1].any() and not masks[:, 1].any()


def test_more_frames_than_the_video_has_are_cut_by_the_offset() -> None:
    frames = np.concatenate((coloured(2, RED, GREEN, BLUE), coloured(5, GREEN), coloured(1, BLUE)))
    assert torch.equal(subject_masks(frames, frames=5, offset=2), subject_masks(coloured(5, GREEN)))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**16))
def test_no_pixel_of_a_subject_is_lost(h: int, w: int, y: int, x: int, seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    masks = (torch.rand(2, 2, h, w, generator=made) < 0.2).float()
    small = shrunk(masks, (y, x))
    assert set(small.unique().tolist()) <= {0.0, 1.0}
    for f, s, i, j in masks.nonzero().tolist():
        assert (
            small[
                f,
                s,
                min(int(np.floor(np.float32(i) * np.float32(y / h))), y - 1),
                min(int(np.floor(np.float32(j) * np.float32(x / w))), x - 1),
            ]
            == 1
        )
    assert not small[~masks.flatten(2).any(-1)].any()


@pytest.mark.parametrize(
    ("frames", "strides", "latents"),
    [(61, (6, 8), 11), (13, (6, 8), 3), (49, (4, 8), 13), (1, (6, 8), 1), (9, (2, 4), 5)],
)
def test_the_first_frame_stands_alone_and_the_rest_is_averaged(
    frames: int, strides: tuple[int, int], latents: int
) -> None:
    masks = (torch.rand(frames, 2, 16, 24) < 0.005).float()
    found, (time, space) = latent_masks(masks, strides=strides), strides
    assert found.shape == (latents, 2, 16 // space, 24 // space)
    small = shrunk(masks, (16 // space, 24 // space))
    assert torch.equal(found[0], small[0])
    for i in range(1, latents):
        torch.testing.assert_close(found[i], small[1 + (i - 1) * time : 1 + i * time].mean(0))


def test_frames_are_sorted_by_number(tmp_path: Path) -> None:
    for i in (10, 2, 0, 1):
        Image.new("RGB", (4, 3), (i, 0, 0)).save(tmp_path / f"frame{i}.png")
    assert read_frames(tmp_path)[:, 0, 0, 0].tolist() == [0, 1, 2, 10]
