"""CPE: the grid by its formula, its laws, lookups, and that points find the token they are over."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from saccade.nn.cross_attention import CrossAttention
from saccade.papers import CorrespondingPositions
from tests.papers.diffeye import plain

SMALL = CorrespondingPositions(16, (6, 9))
GRID = torch.from_numpy(plain.grid(6, 9, 16)).float()


def middles(y: torch.Tensor, x: torch.Tensor, pixels: tuple[int, int]) -> torch.Tensor:
    """Points in the middle of pixels, (b n 2) in [-1, 1]."""
    return torch.stack(((2 * x + 1) / pixels[1] - 1, (2 * y + 1) / pixels[0] - 1), dim=-1)[None]


def everywhere(pixels: tuple[int, int]) -> torch.Tensor:
    y, x = torch.meshgrid(*(torch.arange(side) for side in pixels), indexing="ij")
    return middles(y.flatten(), x.flatten(), pixels)


def test_it_has_no_parameters_and_no_state() -> None:
    assert not list(SMALL.parameters()) and not SMALL.state_dict()


@pytest.mark.parametrize("lookup", ["nearest", "bilinear"])
def test_in_the_middle_of_a_pixel_it_is_the_formula(lookup: str) -> None:
    found = SMALL.at(everywhere((6, 9)), lookup).view(6, 9, 16)  # type: ignore[arg-type]
    torch.testing.assert_close(found, GRID, atol=1e-5, rtol=0)


def test_every_pixel_has_the_same_norm() -> None:
    positions = CorrespondingPositions(64, (224, 224))
    squares = positions.at(everywhere((224, 224))).square().sum(-1)
    torch.testing.assert_close(squares, torch.full_like(squares, 32.0), atol=1e-4, rtol=0)


@given(dy=st.integers(0, 5), dx=st.integers(0, 8))
def test_products_depend_on_the_distance_alone(dy: int, dx: int) -> None:
    table = GRID.double()
    products = (table[: 6 - dy, : 9 - dx] * table[dy:, dx:]).sum(-1)
    torch.testing.assert_close(products, products[:1, :1].expand_as(products), atol=1e-5, rtol=0)


def test_tokens_are_the_grid_interpolated() -> None:
    positions = CorrespondingPositions(16, (24, 36))
    whole = positions.at(everywhere((24, 36))).view(24, 36, 16)
    wanted = F.interpolate(whole.permute(2, 0, 1)[None], size=(4, 9), mode="bilinear", align_corners=False)
    torch.testing.assert_close(positions.tokens((4, 9)), wanted[0].flatten(1).mT, atol=1e-5, rtol=0)


def test_the_best_token_of_a_pixel_is_its_own_patch() -> None:
    positions, rng = CorrespondingPositions(64, (224, 224)), np.random.default_rng(0)
    y, x = (torch.from_numpy(rng.integers(224, size=2000)) for _ in range(2))
    found = (positions.at(middles(y, x, (224, 224)))[0] @ positions.tokens((32, 32)).mT).argmax(1)
    assert torch.equal(found, y // 7 * 32 + x // 7)


def test_between_pixels_bilinear_is_that_of_images_with_its_gradient() -> None:
    points = (torch.rand(2, 7, 2, dtype=torch.float64) * 2.4 - 1.2).requires_grad_()
    positions = CorrespondingPositions(16, (6, 9)).double()
    found = positions.at(points, "bilinear")
    table = positions.at(everywhere((6, 9)).double()).view(6, 9, 16).permute(2, 0, 1)
    options = {"mode": "bilinear", "align_corners": False, "padding_mode": "border"}
    wanted = F.grid_sample(table[None].expand(2, -1, -1, -1), points[:, None], **options)[:, :, 0].mT  # type: ignore[arg-type]
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    weights = torch.randn_like(found)
    (ours,), (theirs,) = (torch.autograd.grad((each * weights).sum(), points) for each in (found, wanted))
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)
    assert bool(ours.any())
    assert not positions.at(points, "nearest").requires_grad


@given(at=st.floats(1, 50))
def test_outside_the_picture_it_is_that_of_the_border(at: float) -> None:
    corner = torch.tensor([[[at, -at]]])
    for lookup in ("nearest", "bilinear"):
        torch.testing.assert_close(SMALL.at(corner, lookup)[0, 0], GRID[0, -1], atol=1e-5, rtol=0)  # type: ignore[arg-type]


def test_a_picture_of_one_pixel_has_one_position() -> None:
    one = CorrespondingPositions(8, (1, 1))
    for lookup in ("nearest", "bilinear"):
        assert torch.equal(one.at(torch.rand(1, 3, 2), lookup), one.tokens((1, 1)).expand(1, 3, -1))  # type: ignore[arg-type]


def identity(width: int) -> CrossAttention:
    """Attention of one head whose projections are the identity."""
    attend = CrossAttention(width, 1)
    for layer in (attend.q, attend.k, attend.v, attend.out):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return attend.eval()


@torch.no_grad()
def test_without_content_and_sharp_a_point_reads_the_patch_it_is_over() -> None:
    positions, attend, rng = CorrespondingPositions(64, (64, 64)), identity(64), np.random.default_rng(0)
    y, x = (torch.from_numpy(rng.integers(64, size=200)) for _ in range(2))
    queries, keys = 1000 * positions.at(middles(y, x, (64, 64))), positions.tokens((8, 8))[None]
    found = attend(queries, keys)[0]
    torch.testing.assert_close(found, keys[0, y // 8 * 8 + x // 8], atol=1e-4, rtol=0)


@given(dy=st.integers(0, 3), dx=st.integers(0, 3))
def test_moving_tokens_and_points_by_a_patch_leaves_scores(dy: int, dx: int) -> None:
    """Away from the borders, where an interpolated token is no other than those inside."""
    positions = CorrespondingPositions(32, (64, 64))
    keys = positions.tokens((8, 8)).view(8, 8, 32)
    y, x = torch.arange(8, 24), torch.arange(24, 8, -1)
    before = positions.at(middles(y, x, (64, 64)))[0] @ keys[1:4, 1:4].flatten(0, 1).mT
    moved = positions.at(middles(y + 8 * dy, x + 8 * dx, (64, 64)))[0]
    after = moved @ keys[1 + dy : 4 + dy, 1 + dx : 4 + dx].flatten(0, 1).mT
    torch.testing.assert_close(before, after, atol=1e-4, rtol=0)


@pytest.mark.bad_input
def test_bad_input_is_named() -> None:
    lost = torch.zeros(2, 3, 2)
    lost[1, 2, 0] = torch.nan
    with pytest.raises(ValueError, match="points of row 1 hold NaN"):
        SMALL.at(lost)
    with pytest.raises(ValueError, match="lookup='cubic' is unknown; choose one of nearest, bilinear"):
        SMALL.at(lost[:1], "cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"grid=\(7, 9\) must be within pixels=\(6, 9\)"):
        SMALL.tokens((7, 9))
    with pytest.raises(ValueError, match="width=18 must be a multiple of 4"):
        CorrespondingPositions(18)
    with pytest.raises(ValueError, match=r"pixels=\(0, 9\) must be"):
        CorrespondingPositions(16, (0, 9))
