"""Compression and reconstruction: what each token depends on, and shapes of any grid."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from saccade.papers.e_mmdit.compression import TokenCompressor, TokenReconstructor, compressed

GRID = (8, 12)


@given(h=st.integers(1, 3), w=st.integers(1, 3))
@settings(deadline=None, max_examples=9)
def test_there_and_back_keeps_the_shape(h: int, w: int) -> None:
    grid, x = (4 * h, 4 * w), torch.randn(2, 16 * h * w, 16)
    small = TokenCompressor(16)(x, grid)
    assert small.shape == (2, compressed(grid), 16) and compressed(grid) == 5 * h * w
    assert TokenReconstructor(16)(small, x, grid).shape == x.shape


def test_256_tokens_become_80() -> None:
    assert compressed((16, 16)) == 80


def test_a_compressed_token_depends_on_its_cell_alone() -> None:
    model, x = TokenCompressor(8), torch.randn(1, 96, 8, requires_grad=True)
    out = model(x, GRID)
    for token, cell, (i, j) in ((1 * 6 + 4, 2, (1, 4)), (24 + 1 * 3 + 2, 4, (1, 2))):
        grad = torch.autograd.grad(out[0, token].sum(), x, retain_graph=True)[0].view(8, 12, 8)
        inside = torch.zeros(8, 12, dtype=torch.bool)
        inside[cell * i : cell * (i + 1), cell * j : cell * (j + 1)] = True
        assert torch.equal(grad.any(-1), inside)


def test_a_reconstructed_token_depends_on_the_cells_above_it_and_itself() -> None:
    model = TokenReconstructor(16)
    x, kept = (torch.randn(1, n, 16, requires_grad=True) for n in (30, 96))
    out = model(x, kept, GRID).view(8, 12, 16)
    fine, own = torch.autograd.grad(out[3, 9].sum(), (x, kept))
    assert fine[0].any(-1).nonzero().flatten().tolist() == [(3 // 2) * 6 + 9 // 2, 24 + (3 // 4) * 3 + 9 // 4]
    assert own[0].any(-1).nonzero().flatten().tolist() == [3 * 12 + 9]


def test_equals_a_plain_rewrite() -> None:
    model, x = TokenCompressor(8, cells=(2,)).double(), torch.randn(1, 16, 8, dtype=torch.double)
    _, inner, _, outer = model.paths[0].children()
    cells = x.view(2, 2, 2, 2, 8).permute(0, 2, 4, 1, 3).reshape(4, 32)  # a cell's channels, row, column
    wanted = F.gelu(cells @ inner.weight[..., 0, 0].T + inner.bias, approximate="tanh")
    torch.testing.assert_close(model(x, (4, 4))[0], wanted @ outer.weight[..., 0, 0].T + outer.bias)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"grid=\(8, 6\) of tokens must have sides that are multiples of 4"):
        TokenCompressor(8)(torch.randn(1, 48, 8), (8, 6))
    with pytest.raises(ValueError, match="width=8 must be a multiple of 16 to unfold cells of 4"):
        TokenReconstructor(8)
