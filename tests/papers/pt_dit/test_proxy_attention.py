"""Proxies, their injection, and the two mixers."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from saccade.models import DiT
from saccade.models.macs import macs
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_mixer
from saccade.papers.pt_dit.proxies import Proxies, mixing_macs, mixing_pairs
from saccade.papers.pt_dit.proxy_attention import ProxyInjection, ProxyMixer, WindowAttention
from saccade.papers.pt_dit.windows import merge, partition

GRID, PLACE = (8, 8), TokenPositions(grid=(8, 8))


def _stirred(module: Any) -> Any:
    """Weights that are no longer zero anywhere."""
    torch.manual_seed(0)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return module.eval()


def _attended(layer: Any, x: torch.Tensor, source: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Multi-head attention (n d) on (m d), a head at a time."""
    q, k, v = layer.q(x), layer.k(source), layer.v(source)
    heads = []
    for each in torch.arange(q.shape[1]).chunk(layer.heads):
        scores = q[:, each] @ k[:, each].T / len(each) ** 0.5
        scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
        heads.append(scores.softmax(-1) @ v[:, each])
    return layer.out(torch.cat(heads, dim=1))


def _normed(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()


# ---- proxies


def test_mean_first_and_random() -> None:
    x = torch.randn(2, 64, 5)
    windows = partition(x, GRID, (4, 2))
    assert torch.equal(Proxies(window=(4, 2)).pool(x, GRID), windows.mean(2))
    assert torch.equal(Proxies(window=(4, 2), choice="first").pool(x, GRID), windows[:, :, 0])
    drawn = Proxies(window=(4, 2), choice="random").pool(x, GRID)
    same = (windows == drawn[:, :, None]).all(-1)
    assert torch.equal(same.sum(-1), torch.ones(2, 8, dtype=torch.long))
    assert torch.equal(same[0], same[1])  # both halves of a guided batch


@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=10)
def test_mean_does_not_see_the_order_inside_a_window(seed: int) -> None:
    x = torch.randn(1, 64, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    windows = partition(x, GRID, (4, 4))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
    mixed = merge(windows[:, :, order], GRID, (4, 4))
    torch.testing.assert_close(Proxies(window=(4, 4)).pool(mixed, GRID), Proxies(window=(4, 4)).pool(x, GRID))


def test_draws_are_fixed_in_evaluation_new_in_training_and_independent() -> None:
    grid, numbers = (128, 128), torch.arange(4.0)
    inside = merge(numbers[None, None, :, None].expand(1, 4096, 4, 1), grid, (2, 2))
    draws = Proxies(window=(2, 2), choice="random", seed=3)
    once = draws.pool(inside, grid).flatten().long()
    assert torch.equal(once, draws.pool(inside, grid).flatten().long())
    assert not torch.equal(once, Proxies(window=(2, 2), choice="random", seed=4).pool(inside, grid).flatten())
    pairs = (4 * once[::2] + once[1::2]).bincount(minlength=16).double()
    assert float(((pairs - 128) ** 2 / 128).sum()) < 37.7  # chi squared of 15 degrees, exceeded once in a thousand
    torch.manual_seed(0)
    new = [draws.pool(inside, grid, training=True) for _ in range(2)]
    torch.manual_seed(0)
    assert not torch.equal(*new) and torch.equal(draws.pool(inside, grid, training=True), new[0])


def test_parts_of_a_window_are_contiguous_or_strided() -> None:
    column = torch.arange(8.0).expand(8, 8).reshape(1, 64, 1)
    contiguous = Proxies(window=(8, 8), inner=(4, 4)).members(column, GRID)
    strided = Proxies(window=(8, 8), inner=(4, 4), order="strided").members(column, GRID)
    assert [sorted({*part.flatten().tolist()}) for part in contiguous[0]] == [[0, 1, 2, 3], [4, 5, 6, 7]] * 2
    assert [sorted({*part.flatten().tolist()}) for part in strided[0]] == [[0, 2, 4, 6], [1, 3, 5, 7]] * 2


def test_spreading_repeats_or_interpolates() -> None:
    proxies, ramp = Proxies(window=(4, 4), inner=(2, 2)), torch.arange(8.0).expand(8, 8).reshape(1, 64, 1)
    y = proxies.pool(ramp, GRID)
    repeated = proxies.spread(y, GRID, "nearest").view(8, 8)
    smooth = proxies.spread(y, GRID, "linear").view(8, 8)
    assert torch.equal(repeated[5], torch.tensor([0.5, 0.5, 2.5, 2.5, 4.5, 4.5, 6.5, 6.5]))
    torch.testing.assert_close(smooth[:, 1:-1], ramp.view(8, 8)[:, 1:-1])
    video = Proxies(window=(2, 2, 2))
    numbers = torch.arange(8.0).view(1, 8, 1)
    assert torch.equal(video.pool(video.spread(numbers, (4, 4, 4), "nearest"), (4, 4, 4)), numbers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choice": "median"}, "choice='median' must be one of mean, first, random"),
        ({"order": "spiral"}, "order='spiral' must be one of contiguous, strided"),
        ({"window": (8, 8), "inner": (3, 4)}, r"inner=\(3, 4\) does not fit into window=\(8, 8\): height of 8 tokens"),
        ({"window": (4, 8, 8), "inner": (1, 4, 4)}, r"inner=\(1, 4, 4\) splits time.* begin it with 4"),
    ],
)
def test_bad_proxies(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Proxies(**options)


# ---- cost


@pytest.mark.parametrize(
    ("inside", "tokens", "share"), [(4, 256, 34.4), (16, 1024, 9.77), (64, 4096, 4.71), (256, 16384, 3.52)]
)
def test_cost_beside_full_attention(inside: int, tokens: int, share: float) -> None:
    side, edge = round(tokens**0.5), round(inside**0.5)
    found = 100 * mixing_macs((side, side), (edge, edge), 24) / (2 * tokens**2 * 24)
    assert float(f"{found:.3g}") == share


@pytest.mark.parametrize("options", [{}, {"inner": (2, 2)}, {"shifted": False}, {"proxies": "none"}])
def test_cost_is_what_runs(options: dict[str, Any]) -> None:
    mixer, x = ProxyMixer(16, 2, window=(4, 4), **options), torch.zeros(1, 64, 16)
    counts = {
        "proxies": 0 if "proxies" in options else 4 if "inner" in options else 1,
        "windows": 2 - ("shifted" in options),
    }
    ran = macs(mixer, x, PLACE) - macs(mixer, x, PLACE, attention=False)
    assert ran == mixing_macs(GRID, (4, 4), 16, **counts)


def test_pairs_by_hand() -> None:
    assert mixing_pairs((8, 8), (4, 4), proxies=4, text=10) == 16**2 + 64 * 16 + 2 * 64 * 16 + 64 * 10


# ---- injection


def test_every_token_hears_every_proxy() -> None:
    inject: Any
    for inject, reached in (("cross", 16), ("linear", 1)):
        step = _stirred(ProxyInjection(8, 2, Proxies(window=(4, 4), inner=(2, 2)), inject=inject))
        y = torch.randn(1, 16, 8, requires_grad=True)
        step._handed(torch.randn(1, 64, 8), y, GRID)[0, 9].sum().backward()
        assert y.grad is not None and int(y.grad.abs().sum(-1).gt(0).sum()) == reached


@pytest.mark.parametrize("inject", ["cross", "linear", "interpolate"])
def test_injection_against_a_plain_rewrite(inject: Any) -> None:
    step, x = (
        _stirred(ProxyInjection(8, 2, Proxies(window=(4, 4)), inject=inject)).double(),
        torch.randn(64, 8).double(),
    )
    cells = x.view(8, 8, 8)
    y = torch.stack([cells[i : i + 4, j : j + 4].reshape(16, 8).mean(0) for i in (0, 4) for j in (0, 4)])
    y = _normed(y + _attended(step.attention, _normed(y), _normed(y)))
    if inject == "cross":
        wanted = _attended(step.cross, _normed(x), y)
    else:
        mode = {"linear": "nearest", "interpolate": "bilinear"}[inject]
        wanted = F.interpolate(y.T.view(1, 8, 2, 2), (8, 8), mode=mode).view(8, 64).T
    torch.testing.assert_close(step(x[None], GRID)[0], step.out(wanted))


def test_modulated_by_nothing_is_unmodulated() -> None:
    step, x = _stirred(ProxyInjection(8, 2, Proxies())), torch.randn(2, 64, 8)
    none, one = torch.zeros(2, 1, 8), torch.ones(2, 1, 8)
    assert torch.equal(step(x, GRID, (none, none, one)), step(x, GRID))
    assert not torch.equal(step(x, GRID, (none, one, one)), step(x, GRID))


def test_bad_injections() -> None:
    with pytest.raises(ValueError, match="inject='copy' must be one of cross, linear, interpolate"):
        ProxyInjection(8, 2, Proxies(), inject="copy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="inject='linear' needs proxies with a place; order='strided'"):
        ProxyInjection(8, 2, Proxies(window=(4, 4), inner=(2, 2), order="strided"), inject="linear")


# ---- windows as mixers


@pytest.mark.parametrize("shifted", [False, True])
def test_window_attention_against_a_plain_rewrite(shifted: bool) -> None:
    mixer, x = _stirred(WindowAttention(8, 2, window=(4, 2), shifted=shifted)).double(), torch.randn(64, 8).double()
    places = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    from_start = (places - torch.tensor([2, 1]) * shifted) % 8 // torch.tensor([4, 2])
    together = (from_start[:, None] == from_start).all(-1) & (
        (places[:, None] - places).abs() < torch.tensor([4, 2])
    ).all(-1)
    torch.testing.assert_close(mixer(x[None], PLACE).out[0], _attended(mixer.attention, x, x, together))


def test_one_window_is_full_attention() -> None:
    mixer, x = _stirred(WindowAttention(8, 2, window=(8, 8))), torch.randn(2, 64, 8)
    torch.testing.assert_close(mixer(x, PLACE).out, mixer.attention(x))
    torch.testing.assert_close(Proxies(window=(8, 8)).pool(x, GRID), x.mean(1, keepdim=True))


def test_windows_of_one_token() -> None:
    x = torch.randn(2, 64, 8)
    chosen = [Proxies(window=(1, 1), choice=choice).pool(x, GRID) for choice in ("mean", "first", "random")]
    assert all(torch.equal(each, x) for each in chosen)
    near = _stirred(WindowAttention(8, 2, window=(1, 1)))
    torch.testing.assert_close(near(x, PLACE).out, near.attention.out(near.attention.v(x)))
    step = _stirred(ProxyInjection(8, 2, Proxies(window=(1, 1)))).double()
    x = x[0].double()
    every = x + _attended(step.attention, _normed(x), _normed(x))
    wanted = step.out(_attended(step.cross, _normed(x), _normed(every)))
    torch.testing.assert_close(step(x[None], GRID)[0], wanted)


def test_another_grid_brings_its_own_mask() -> None:
    mixer, small, large = (
        _stirred(WindowAttention(8, 2, window=(2, 2), shifted=True)),
        torch.randn(1, 16, 8),
        torch.randn(1, 64, 8),
    )
    before = mixer(small, TokenPositions(grid=(4, 4))).out
    mixer(large, PLACE)
    wide = mixer(small, TokenPositions(grid=(2, 8))).out
    assert torch.equal(mixer(small, TokenPositions(grid=(4, 4))).out, before) and not torch.equal(wide, before)


# ---- the whole mixer


def test_fresh_mixer_is_window_attention() -> None:
    mixer: Any = ProxyMixer(8, 2, window=(4, 4))
    x = torch.randn(2, 64, 8)
    assert torch.equal(mixer(x, PLACE).out, mixer.near(x, PLACE).out)
    mixer(x, PLACE).out.square().sum().backward()
    for layer in (mixer.injection.out, mixer.far_out):
        assert layer.weight.grad.any() and layer.bias.grad.any()


def test_mixer_is_the_sum_of_its_steps() -> None:
    mixer, x = _stirred(ProxyMixer(8, 2, window=(4, 4))).double(), torch.randn(2, 64, 8).double()
    informed = x + mixer.injection(x, GRID)
    near = informed + mixer.near(informed, PLACE).out
    far = near + mixer.far_out(mixer.far(_normed(near), PLACE).out)
    torch.testing.assert_close(mixer(x, PLACE).out, far - x)


@pytest.mark.parametrize(
    "options", [{"proxies": "none"}, {"shifted": False}, {"local": False}, {"inject": "interpolate"}]
)
def test_every_arm_learns_and_keeps_rows_apart(options: dict[str, Any]) -> None:
    mixer, x = _stirred(ProxyMixer(8, 2, window=(4, 4), **options)), torch.randn(3, 64, 8)
    torch.testing.assert_close(mixer(x, PLACE).out[1:2], mixer(x[1:2], PLACE).out)
    mixer(x, PLACE).out.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in mixer.parameters())


def test_proxies_alone_do_not_begin_at_zero() -> None:
    assert ProxyMixer(8, 2, local=False)(torch.randn(1, 64, 8), PLACE).out.any()


def test_named_in_a_model() -> None:
    model: Any = DiT(
        depth=2, width=32, heads=2, side=8, channels=3, classes=5, mixer="proxy(window=(2, 2), proxies='random')"
    )
    batch = torch.randn(2, 3, 8, 8), torch.rand(2), torch.tensor([0, 4])
    assert not model(*batch).out.any() and not model.blocks[0].mixer.far_out.weight.any()
    _stirred(model)
    assert torch.equal(model(*batch).out, copy.deepcopy(model)(*batch).out)


def test_bad_places() -> None:
    x = torch.randn(1, 16, 8)
    for name in ("proxy", "window"):
        mixer = make_mixer(name, 8, 2)
        with pytest.raises(ValueError, match=rf"{name} needs a grid of 16 tokens; place.grid=\(3, 4\)"):
            mixer(x, TokenPositions(grid=(3, 4)))
        with pytest.raises(ValueError, match=f"{name} looks both ways on a full grid"):
            mixer(x, TokenPositions(grid=(4, 4), keep=torch.ones(1, 16, dtype=torch.bool)))
    with pytest.raises(ValueError, match="proxies='none' and local=False leave nothing"):
        ProxyMixer(8, 2, proxies="none", local=False)


@pytest.mark.compile
def test_one_graph() -> None:
    mixer, x = _stirred(ProxyMixer(8, 2, window=(4, 4))), torch.randn(2, 64, 8)
    compiled = torch.compile(mixer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, PLACE).out, mixer(x, PLACE).out)
