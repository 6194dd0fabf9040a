"""Routers, tail dropping, de-chunk and the ratio loss: laws, and plain rewrites in float64."""

from collections.abc import Callable
from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from saccade.nn.packing import ragged
from saccade.nn.part import TokenPositions
from saccade.papers.dc_dit.chunking import Budget, Chunk, RatioLoss, drop_tail, keep_rates, kept, plug
from saccade.papers.dc_dit.conv_residual import ConvResidual, ConvStack, group_norm
from saccade.papers.dc_dit.dechunking import Dechunk, nearest_cell, nearest_in_sequence, smoothing_map
from saccade.papers.dc_dit.keep_routers import SCORES, KeepRouter, keep_router

GRID = (4, 6)
CELLS = GRID[0] * GRID[1]
ROUTERS = sorted(SCORES)


def random_keep(seed: int, rows: int = 2, n: int = CELLS) -> Tensor:
    torch.manual_seed(seed)
    keep = torch.rand(rows, n) < 0.4
    keep[torch.arange(rows), torch.randint(n, (rows,))] = True
    return keep


class Given(torch.nn.Module):
    """Scores that the test chooses."""

    def __init__(self, p: Tensor) -> None:
        super().__init__()
        self.p = torch.nn.Parameter(p)

    def forward(self, x: Tensor, place: TokenPositions) -> Tensor:
        return self.p.expand(x.shape[:2])


@pytest.mark.parametrize("name", ROUTERS)
def test_ends_are_kept_and_learn_nothing(name: str) -> None:
    torch.manual_seed(0)
    router, x = keep_router(name, 32), torch.randn(2, CELLS, 32, requires_grad=True)
    routing = router(x, TokenPositions(grid=GRID))
    assert (routing.probs[:, [0, -1], 1] == 1).all() and kept(routing)[:, [0, -1]].all()
    assert ((routing.probs >= 0) & (routing.probs <= 1)).all()
    torch.testing.assert_close(routing.weight[..., 0], routing.probs.amax(-1))
    routing.probs[:, [0, -1], 1].sum().backward(retain_graph=True)
    assert x.grad is not None and not x.grad.any()
    routing.probs[..., 1].sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in router.parameters())


def test_a_tie_is_dropped() -> None:
    routing = KeepRouter(Given(torch.tensor([0.1, 0.5, 0.6, 0.2])))(torch.zeros(1, 4, 3), TokenPositions())
    assert kept(routing).tolist() == [[True, False, True, True]]


def test_sequences_end_where_their_padding_begins() -> None:
    routing = KeepRouter(Given(torch.full((5,), 0.7)))(torch.zeros(2, 5, 3), TokenPositions(keep=ragged((3, 5))))
    assert routing.probs[0, :, 1].tolist() == pytest.approx([1, 0.7, 1, 0, 0])
    assert kept(routing).sum(1).tolist() == [3, 5]


def test_rates_tell_what_is_kept() -> None:
    routing = KeepRouter(Given(torch.tensor([0.1, 0.5, 0.6, 0.2])))(
        torch.zeros(2, 4, 3), TokenPositions(keep=ragged((4, 2)))
    )
    rates = keep_rates(routing)  # rows of 3 and 2 kept tokens
    assert rates == pytest.approx((5 / 8, (2 + 0.5 + 0.6 + 2) / 8, 4 / 3, 2))


def test_predictability_rewritten() -> None:
    torch.manual_seed(0)
    score = SCORES["predictability"](32).double()
    x = torch.randn(2, CELLS, 32, dtype=torch.float64)
    weights = dict(score.named_parameters())
    z = x.mT.reshape(2, 32, *GRID)
    z = torch.einsum("oi,bihw->bohw", weights["proj.weight"][..., 0, 0], z) + weights["proj.bias"][:, None, None]
    e = z - _conv(z, weights["context.weight"], weights["context.bias"])
    h = _conv(e, weights["scorer.0.weight"], weights["scorer.0.bias"])
    h = h.view(2, 8, -1)  # one channel a group
    h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    logit = torch.einsum("i,bin->bn", weights["scorer.3.weight"].flatten(), h * h.sigmoid()) - 1.1
    torch.testing.assert_close(score(x, TokenPositions(grid=GRID)), logit.sigmoid())


def test_neighbours_rewritten() -> None:
    torch.manual_seed(0)
    score, x = SCORES["neighbours"](8).double(), torch.randn(1, CELLS, 8, dtype=torch.float64)
    cells = (x / x.norm(dim=-1, keepdim=True)).view(*GRID, 8)
    for row, column in product(*map(range, GRID)):
        around = cells[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].sum((0, 1)) / 9
        wanted = (1 - cells[row, column] @ around) / 2
        torch.testing.assert_close(score(x, TokenPositions(grid=GRID))[0, row * GRID[1] + column], wanted)


def test_sequence_rewritten() -> None:
    score, x = SCORES["sequence"](8).double(), torch.randn(1, 5, 8, dtype=torch.float64)
    unit = x[0] / x[0].norm(dim=-1, keepdim=True)
    wanted = [1.0] + [(1 - float(unit[t - 1] @ unit[t])) / 2 for t in range(1, 5)]
    torch.testing.assert_close(score(x, TokenPositions())[0], torch.tensor(wanted, dtype=torch.float64))


def _conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3x3, zeros around, as nine shifted products."""
    padded, (h, w) = F.pad(x, (1, 1, 1, 1)), x.shape[-2:]
    shifts = product(range(3), range(3))
    parts = (torch.einsum("oi,bihw->bohw", weight[..., i, j], padded[..., i : i + h, j : j + w]) for i, j in shifts)
    return sum(parts) + bias[:, None, None]  # type: ignore[return-value]


@pytest.mark.parametrize("name", ROUTERS)
def test_scores_are_single_whatever_the_rest_is(name: str) -> None:
    torch.manual_seed(0)
    router, x = keep_router(name, 32), torch.randn(1, CELLS, 32)
    wanted = router(x, TokenPositions(grid=GRID)).probs
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(router(x, TokenPositions(grid=GRID)).probs, wanted)
    half = router.bfloat16()(x.bfloat16(), TokenPositions(grid=GRID)).probs
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, wanted, atol=0.05, rtol=0)


@given(seed=st.integers(0, 99), tenths=st.integers(0, 9), more=st.integers(0, 9))
def test_tails_are_nested_and_counted_exactly(seed: int, tenths: int, more: int) -> None:
    keep, p = random_keep(seed, rows=3, n=40), torch.rand(3, 40)
    few, many = sorted((tenths, more))
    after, least = (drop_tail(keep, p, Budget(rho=each / 10).shares(3, p.device)) for each in (few, many))
    for before, left in zip(keep.sum(1).tolist(), after.sum(1).tolist(), strict=True):
        assert left == before - before * Fraction(few, 10).numerator // Fraction(few, 10).denominator >= 1
    assert not (least & ~after).any() and not (after & ~keep).any()
    gone = keep & ~after
    assert (p.masked_fill(~gone, -1).amax(1) <= p.masked_fill(~after, 2).amin(1)).all()


def test_the_product_is_taken_in_single_precision() -> None:
    keep, p = torch.ones(1, 90, dtype=torch.bool), torch.rand(1, 90)
    assert int(90 * 0.7) == 62  # what a product in double precision comes to
    assert drop_tail(keep, p, Budget(rho=0.7).shares(1, p.device)).sum() == 27


def test_every_row_has_its_own_share() -> None:
    keep, p = torch.ones(3, 10, dtype=torch.bool), torch.rand(3, 10)
    shares = Budget(rho=torch.tensor([0.0, 0.5, 0.9])).shares(3, p.device)
    assert drop_tail(keep, p, shares).sum(1).tolist() == [10, 5, 1]


@given(seed=st.integers(0, 99))
def test_chunks_keep_the_order_and_end_in_padding(seed: int) -> None:
    keep = random_keep(seed, rows=3)
    x, chunk = torch.randn(3, CELLS, 2), Chunk.of(keep)
    taken = chunk.take(x)
    for row in range(3):
        assert torch.equal(taken[row][chunk.there[row]], x[row][keep[row]])
        assert chunk.there[row].sum() == keep[row].sum() and chunk.there[row].int().diff().le(0).all()
    assert chunk.there.shape[1] == keep.sum(1).max()


@given(seed=st.integers(0, 99), sigma=st.sampled_from((0.5, 1.0, 2.0)), flat=st.booleans())
def test_smoothing_rewritten(seed: int, sigma: float, flat: bool) -> None:
    grid = () if flat else GRID
    keep = random_keep(seed)
    chunk = Chunk.of(keep)
    h = torch.randn(*chunk.index.shape, 3, dtype=torch.float64)
    p = torch.rand(2, CELLS, dtype=torch.float64) / 2 + 0.5
    out = Dechunk(sigma=sigma)(h, p, chunk, grid)
    for row in range(2):
        cells = keep[row].nonzero()[:, 0].tolist()
        sure = [min(max(float(p[row, cell]), 1e-4), 1 - 1e-4) for cell in cells]
        away = [[_away(a, b, flat) for b in cells] for a in cells]
        weights = (-torch.tensor(away, dtype=torch.float64) / (2 * sigma**2)).exp() * torch.tensor(sure).double()
        mean = weights / weights.sum(1, keepdim=True) @ h[row, : len(cells)]
        mixed = [s * h[row, i] + (1 - s) * mean[i] for i, s in enumerate(sure)]
        for cell in range(CELLS):
            nearest = min(range(len(cells)), key=lambda i: _away(cell, cells[i], flat))  # the first of equals
            torch.testing.assert_close(out[row, cell], mixed[nearest], atol=1e-6, rtol=1e-6)


def _away(a: int, b: int, flat: bool) -> float:
    return float((a - b) ** 2 if flat else (a // GRID[1] - b // GRID[1]) ** 2 + (a % GRID[1] - b % GRID[1]) ** 2)


def test_rows_of_weights_sum_to_one_and_leave_padding_out() -> None:
    there = ragged((2, 4))
    weights = smoothing_map(torch.randn(2, 4, 2), torch.rand(2, 4) / 2 + 0.5, there, 1.0)
    torch.testing.assert_close(weights.sum(-1), there.float())
    assert not weights[0, :, 2:].any()


def test_all_tokens_kept_with_certainty_come_back() -> None:
    keep = torch.ones(2, CELLS, dtype=torch.bool)
    h, p, chunk = torch.randn(2, CELLS, 3), torch.ones(2, CELLS), Chunk.of(keep)
    assert torch.equal(nearest_cell(chunk, GRID), torch.arange(CELLS).expand(2, -1))
    assert torch.equal(nearest_in_sequence(chunk), torch.arange(CELLS).expand(2, -1))
    assert torch.equal(Dechunk(how="nearest")(h, p, chunk, GRID), h)
    assert (Dechunk()(h, p, chunk, GRID) - h).abs().max() <= 1e-4 * (h.abs().max() * 2)


def test_a_narrow_kernel_smooths_nothing() -> None:
    keep = random_keep(0)
    chunk, p = Chunk.of(keep), torch.rand(2, CELLS) / 2 + 0.5
    h = torch.randn(*chunk.index.shape, 3)
    narrow, none = (each(h, p, chunk, GRID) for each in (Dechunk(sigma=1e-3), Dechunk(how="nearest")))
    torch.testing.assert_close(narrow, none)


@pytest.mark.parametrize("how", ["smooth", "nearest", "ema"])
def test_one_kept_token_fills_every_cell(how: str) -> None:
    keep = torch.zeros(1, CELLS, dtype=torch.bool)
    keep[0, 7] = True
    h = torch.randn(1, 1, 3)
    out = Dechunk(how=how)(h, torch.full((1, CELLS), 1.0), Chunk.of(keep), GRID)  # type: ignore[arg-type]
    torch.testing.assert_close(out, h.expand(1, CELLS, 3) * (1 - 1e-4 if how == "ema" else 1))


@given(seed=st.integers(0, 99))
def test_the_nearest_in_a_sequence_is_the_left_of_two(seed: int) -> None:
    keep = random_keep(seed)
    found = nearest_in_sequence(Chunk.of(keep))
    for row in range(2):
        places = keep[row].nonzero()[:, 0].tolist()
        wanted = [min(range(len(places)), key=lambda i: abs(places[i] - cell)) for cell in range(CELLS)]
        assert found[row].tolist() == wanted


def test_distances_are_taken_in_parts() -> None:
    grid = (80, 60)  # more cells than are held at a time
    keep = torch.zeros(1, 4800, dtype=torch.bool)
    keep[0, [0, 59, 4799]] = True
    found = nearest_cell(Chunk.of(keep), grid).view(grid)
    assert (found[0, 0], found[0, 59], found[79, 59]) == (0, 1, 2) and found[0, 29] == 0 and found[79, 0] == 2


@given(seed=st.integers(0, 99))
def test_running_mean_rewritten(seed: int) -> None:
    keep = random_keep(seed)
    chunk, p = Chunk.of(keep), torch.rand(2, CELLS, dtype=torch.float64)
    h = torch.randn(*chunk.index.shape, 3, dtype=torch.float64)
    out = Dechunk(how="ema")(h, p, chunk)
    for row in range(2):
        means, mean = [], torch.zeros(3, dtype=torch.float64)
        for i, cell in enumerate(keep[row].nonzero()[:, 0].tolist()):
            sure = min(max(float(p[row, cell]), 1e-4), 1 - 1e-4)
            mean = sure * h[row, i] + (1 - sure) * mean
            means.append(mean)
        rank = -1
        for cell in range(CELLS):
            rank += int(keep[row, cell])
            torch.testing.assert_close(out[row, cell], means[max(rank, 0)])


@pytest.mark.parametrize("how", ["smooth", "ema"])
def test_rows_do_not_see_each_other_nor_padding(how: str) -> None:
    keep = torch.zeros(2, CELLS, dtype=torch.bool)
    keep[0, [1, 8]] = keep[1, [0, 3, 9, 20]] = True
    p, chunk = torch.rand(2, CELLS), Chunk.of(keep)
    h = torch.randn(2, 4, 3)
    both = Dechunk(how=how)(h, p, chunk, GRID)  # type: ignore[arg-type]
    alone = Dechunk(how=how)(h[:1, :2], p[:1], Chunk.of(keep[:1]), GRID)  # type: ignore[arg-type]
    torch.testing.assert_close(both[:1], alone)


def test_the_way_back_is_single_whatever_autocast_says() -> None:
    chunk, p = Chunk.of(random_keep(0)), torch.rand(2, CELLS)
    h = torch.randn(*chunk.index.shape, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = Dechunk()(h, p, chunk, GRID)
    assert torch.equal(out, Dechunk()(h, p, chunk, GRID)) and out.dtype == torch.float32


def test_plugging_adds_nothing_forward_and_a_factor_backward() -> None:
    x, q = torch.randn(2, 5, 3, requires_grad=True), torch.rand(2, 5, requires_grad=True)
    out, weight = plug(x, q), torch.randn(2, 5, 3)
    assert torch.equal(out, x)
    (out * weight).sum().backward()
    torch.testing.assert_close(q.grad, (weight * x).sum(-1))
    assert torch.equal(x.grad, weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("ratio", [1.5, 4.0, 16.0])
def test_the_ratio_loss_at_its_corners(ratio: float) -> None:
    loss = RatioLoss()
    none, every = torch.zeros(2, 8, dtype=torch.bool), torch.ones(2, 8, dtype=torch.bool)
    torch.testing.assert_close(loss(none, torch.zeros(2, 8), ratio), torch.tensor(ratio / (ratio - 1)))
    torch.testing.assert_close(loss(every, torch.ones(2, 8), ratio), torch.tensor(ratio))


def test_the_ratio_loss_is_least_where_one_in_n_is_kept() -> None:
    found = {}
    for count in range(17):
        keep = torch.arange(16)[None] < count
        found[count] = float(RatioLoss()(keep, torch.full((1, 16), count / 16), 4.0))
    assert min(found, key=lambda count: found[count]) == 4 and found[4] == pytest.approx(1)


@given(count=st.integers(0, 16))
def test_the_ratio_loss_pulls_p_the_right_way_and_the_mask_not(count: int) -> None:
    keep, p = torch.arange(16)[None] < count, torch.rand(1, 16, requires_grad=True)
    RatioLoss()(keep, p, 4.0).backward()
    assert p.grad is not None
    assert torch.equal(p.grad.sign(), torch.tensor(float(count) - 4).sign().expand(1, 16))


def test_groups_and_padding_of_the_ratio_loss() -> None:
    keep, p = random_keep(0, rows=4), torch.rand(4, CELLS)
    halves = [RatioLoss()(keep[i : i + 2], p[i : i + 2], 4.0) for i in (0, 2)]
    torch.testing.assert_close(RatioLoss(group=2)(keep, p, 4.0), torch.stack(halves).mean())
    there = ragged((5,), CELLS)
    torch.testing.assert_close(RatioLoss()(keep[:1], p[:1], 4.0, there), RatioLoss()(keep[:1, :5], p[:1, :5], 4.0))


@pytest.mark.parametrize(("width", "out"), [(32, 64), (64, 32), (32, 32)])
def test_a_convolution_block_rewritten(width: int, out: int) -> None:
    torch.manual_seed(0)
    block, inner = ConvResidual(width, out, 5).double(), min(width, out)
    x, c = torch.randn(2, width, *GRID, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    w = dict(block.named_parameters())
    h = _conv(_silu(_grouped(x, 32)), w["conv1.weight"], w["conv1.bias"])
    h = h + (_silu(c) @ w["condition.weight"].T + w["condition.bias"]).view(2, inner, 1, 1)
    h = _conv(_silu(_grouped(h, 32)), w["conv2.weight"], w["conv2.bias"])
    skip = x
    if width != out:
        skip = torch.einsum("oi,bihw->bohw", w["skip.weight"][..., 0, 0], x) + w["skip.bias"][:, None, None]
    torch.testing.assert_close(block(x, c), h + skip)


def _silu(x: Tensor) -> Tensor:
    return x * x.sigmoid()


def _grouped(x: Tensor, groups: int) -> Tensor:
    parts = x.reshape(len(x), groups, -1)
    normed = (parts - parts.mean(-1, keepdim=True)) / (parts.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    return normed.view(x.shape)


def test_norms_and_convolutions_leave_padding_out() -> None:
    torch.manual_seed(0)
    stack = ConvStack((32, 64), 5, axes=1)
    keep, x, c = ragged((3, 6)), torch.randn(2, 6, 32), torch.randn(2, 5)
    both = stack(x, c, TokenPositions(keep=keep))
    torch.testing.assert_close(both[:1, :3], stack(x[:1, :3], c[:1], TokenPositions()))
    torch.testing.assert_close(both[1:], stack(x[1:], c[1:], TokenPositions()))
    norm = torch.nn.GroupNorm(4, 32)
    everything = torch.ones(2, 1, 6, dtype=torch.bool)
    torch.testing.assert_close(group_norm(norm, x.mT, everything), norm(x.mT))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Budget(ratio=1.0), r"ratio=1.0 must be above 1"),
        (lambda: Budget(rho=1.0), r"rho=1.0 must be in \[0, 1\); at 1 every token would be dropped"),
        (lambda: Budget(rho=torch.tensor([0.5, -0.25])), r"rho=-0.25 must be in \[0, 1\)"),
        (lambda: Budget(rho=torch.zeros(2, 2)), r"rho of shape \(2, 2\) must be one number, or one for each row"),
        (lambda: Budget(rho=torch.zeros(3)).shares(2, torch.device("cpu")), "rho has 3 numbers for 2 rows"),
        (lambda: RatioLoss()(random_keep(0), torch.rand(2, CELLS), 0.5), "ratio=0.5 must be above 1"),
        (
            lambda: RatioLoss(group=3)(random_keep(0), torch.rand(2, CELLS), 4.0),
            "a batch of 2 rows cannot be parted into groups of group=3",
        ),
        (lambda: Chunk.of(torch.tensor([[True, False], [False, False]])), "row 1 keeps no token"),
        (lambda: Dechunk(sigma=0.0), "sigma=0.0 must be above 0"),
        (lambda: Dechunk(how="mean"), "dechunk='mean' must be one of smooth, nearest, ema"),  # type: ignore[arg-type]
        (lambda: keep_router("cosine", 32), "router='cosine' is unknown; choose one of predictability, neighbours"),
        (lambda: keep_router("predictability", 24), "width=24 must be a multiple of 32"),
        (lambda: ConvResidual(48, 64, 5), "width=48 must be a multiple of 32"),
        (lambda: ConvResidual(64, 48, 5), "out=48 must be a multiple of 32"),
        (
            lambda: keep_router("predictability", 32)(torch.zeros(1, 10, 32), TokenPositions()),
            r"predictability needs a grid \(h, w\) of 10 tokens; place.grid=\(\)",
        ),
        (
            lambda: keep_router("neighbours", 8)(torch.zeros(1, 9, 8), TokenPositions(grid=(2, 4))),
            r"neighbours needs a grid",
        ),
        (
            lambda: ConvStack((32, 32), 5)(torch.zeros(1, 10, 32), torch.zeros(1, 5), TokenPositions()),
            "a convolution needs a",
        ),
    ],
)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
