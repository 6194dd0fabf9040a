"""Boxes and masks of a canvas, as the tokens they cover."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.mechanisms.canvas import Box, on_tokens


@given(*[st.integers(0, 15) for _ in range(4)])
def test_pixels_are_rounded_down_to_cells_and_tokens_are_covered_by_three_of_four(
    a: int, b: int, c: int, d: int
) -> None:
    """By hand: a cell is 8 pixels, a token 2 x 2 cells."""
    x0, y0, x1, y1 = 8 * min(a, b) + 3, 8 * min(c, d) + 5, 8 * max(a, b) + 8, 8 * max(c, d) + 8
    found = on_tokens(Box(x0=x0, y0=y0, x1=x1, y1=y1, of=(128, 128)), (8, 8))
    for row in range(8):
        for column in range(8):
            cells = sum(
                x0 // 8 <= 2 * column + i < x1 // 8 and y0 // 8 <= 2 * row + j < y1 // 8 for i in (0, 1) for j in (0, 1)
            )
            assert bool(found[row, column]) is (cells >= 3)


def test_a_mask_on_tokens_or_larger_is_itself() -> None:
    tokens = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    assert torch.equal(on_tokens(tokens, (6, 5)), tokens)
    assert torch.equal(on_tokens(tokens.repeat_interleave(16, 0).repeat_interleave(16, 1), (6, 5)), tokens)
    assert torch.equal(on_tokens(tokens.repeat_interleave(2, 0).repeat_interleave(2, 1).float(), (6, 5)), tokens)
    assert on_tokens(None, (2, 3)).all()


def test_half_a_token_is_not_in_a_region() -> None:
    assert on_tokens(Box(x0=0, y0=0, x1=0.75, y1=1), (1, 2)).tolist() == [[True, False]]
    assert on_tokens(Box(x0=0, y0=0, x1=0.75, y1=1), (1, 2), cells=4).tolist() == [[True, False]]


def test_plain_numbers_are_shares_or_pixels() -> None:
    assert Box.parse((0, 0.5, 1, 1), (64, 32)) == Box(x0=0, y0=0.5, x1=1, y1=1)
    assert Box.parse((0, 8, 16, 64), (64, 32)) == Box(x0=0, y0=8, x1=16, y1=64, of=(64, 32))
    assert Box.parse((0, 0, 1, 1), (64, 32), "pixel").of == (64, 32)
    assert Box.parse((0, 0, 1, 1), (64, 32), "share").of is None


def test_what_reaches_beyond_is_clipped_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"box=\(-4, 8, 40, 64\) reaches beyond the canvas of \(64, 32\) pixels"):
        assert Box.parse((-4, 8, 40, 64), (64, 32)).corners == (0, 8, 32, 64)
    with pytest.warns(UserWarning, match="mixes shares and pixels; it is read as pixels"):
        assert Box.parse((0.5, 8, 20, 64), (64, 32)).corners == (0.5, 8, 20, 64)


@pytest.mark.bad_input
def test_boxes_without_area_or_meaning_are_named() -> None:
    with pytest.raises(ValueError, match=r"box=\(0.5, 0, 0.5, 1\) must be x0 < x1 and y0 < y1, as shares in \[0, 1\]"):
        Box(x0=0.5, y0=0, x1=0.5, y1=1)
    with pytest.raises(ValueError, match="on a canvas of 64 x 32 pixels"):
        Box(x0=0, y0=0, x1=64, y1=32, of=(64, 32))
    with pytest.raises(ValueError, match=r"box=\(0, 0, 1, 1\) may be shares or pixels; give unit="):
        Box.parse((0, 0, 1, 1), (64, 32))
    with pytest.raises(ValueError, match="must be four numbers"):
        Box.parse((0, 0, 1), (64, 32))
