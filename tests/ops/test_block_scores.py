"""Block scores are what softmaxes over the whole map give, or an lse of elsewhere, and no whole map is ever held."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from saccade.core.biases import DenseBias, LowRank, PerKey
from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding
from saccade.core.places import Disc
from saccade.ops import attend
from saccade.ops.block_scores import block_mass, block_scores

GRID = (1, 3, 5)
LAYOUT = Layout.joint(text=4, grid=GRID)


def operands(n: int, *, heads: int = 3, key_heads: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, h, n, 4, generator=g, dtype=dtype) for h in (heads, key_heads, key_heads))


def by_hand(scores: Tensor, block: int, apart: Sequence[bool], counted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Means over blocks of whole maps, filled up with zeros; `counted` (b n) says which queries are real."""
    n = scores.shape[-1]
    mine = torch.tensor(apart).repeat_interleave(block)[:n]
    maps = scores.softmax(-1), scores.masked_fill(~mine, -torch.inf).softmax(-1).nan_to_num(0)
    real = torch.ones(1, n, dtype=torch.bool) if counted is None else counted
    short, sides = -n % block, (len(apart), block)
    filled = (torch.nn.functional.pad(p * real[:, None, :, None], (0, short, 0, short)) for p in maps)
    whole, alone = (x.unflatten(3, sides).unflatten(2, sides).mean((3, 5)) for x in filled)
    return whole, alone


@given(
    n=st.integers(1, 23),
    block=st.integers(1, 9),
    marks=st.lists(st.booleans(), min_size=23, max_size=23),
    seed=st.integers(0, 99),
)
def test_equal_the_whole_maps_averaged(n: int, block: int, marks: list[bool], seed: int) -> None:
    apart = marks[: -(-n // block)]
    q, k, v = operands(n, seed=seed)
    scores = block_scores(plain_call(q, k, v), block, apart)
    whole, alone = by_hand(q @ k.mT / 2, block, apart)
    torch.testing.assert_close(scores.whole, whole, atol=1e-14, rtol=0)
    torch.testing.assert_close(scores.apart, alone, atol=1e-14, rtol=0)
    assert scores.open.all()


def test_keys_shared_among_heads_count_for_each() -> None:
    q, k, v = operands(11, heads=6, key_heads=2)
    scores = block_scores(plain_call(q, k, v), 4, (False, False, True))
    whole, alone = by_hand(q @ k.repeat_interleave(3, 1).mT / 2, 4, (False, False, True))
    torch.testing.assert_close(scores.whole, whole, atol=1e-14, rtol=0)
    torch.testing.assert_close(scores.apart, alone, atol=1e-14, rtol=0)


def test_biases_and_fixed_masks_are_in_the_scores() -> None:
    q, k, v = operands(LAYOUT.n)
    low = LowRank(torch.randn(1, 3, 19, 2).double(), torch.randn(1, 1, 19, 2).double())
    bias = low + DenseBias(torch.randn(2, 1, 19, 19).double()) + PerKey(torch.randn(2, 1, 19).double())
    apart = (False, True, True, False)
    scores = block_scores(plain_call(q, k, v, layout=LAYOUT, bias=bias, mask=Disc(1.5)), 5, apart)
    logits = (q @ k.mT / 2 + bias.materialize(19, 19)).masked_fill(~Disc(1.5).materialize(LAYOUT, LAYOUT), -torch.inf)
    whole, alone = by_hand(logits, 5, apart)
    torch.testing.assert_close(scores.whole, whole, atol=1e-14, rtol=0)
    torch.testing.assert_close(scores.apart, alone, atol=1e-14, rtol=0)


@pytest.mark.parametrize("told_by", ["mask", "bias", "finite bias"])
def test_padding_gets_nothing_and_its_queries_do_not_count(told_by: str) -> None:
    q, k, v = operands(14)
    keep = torch.arange(14) >= torch.tensor([[5], [0]])
    shut = torch.zeros(2, 1, 14).double().masked_fill(~keep[:, None], -torch.inf if told_by == "bias" else -1e30)
    added: dict[str, Any] = {"mask": KeyPadding(keep)} if told_by == "mask" else {"bias": PerKey(shut)}
    apart = (False, False, True, True)
    scores = block_scores(plain_call(q, k, v, **added), 4, apart)
    logits = (q @ k.mT / 2).masked_fill(~keep[:, None, None], -torch.inf)
    whole, alone = by_hand(logits, 4, apart, counted=keep)
    torch.testing.assert_close(scores.whole, whole, atol=1e-14, rtol=0)
    torch.testing.assert_close(scores.apart, alone, atol=1e-14, rtol=0)
    assert scores.open.tolist() == [[False, True, True, True], [True] * 4]
    assert not scores.whole[0, :, :, 0].any()


def test_a_part_far_below_the_rest_is_still_ranked() -> None:
    """In one shared softmax the second part would be zero to the last bit."""
    q, k, v = operands(12, dtype=torch.float32)
    q[..., 0], k[..., 0] = 40, torch.where(torch.arange(12) < 4, 20.0, -20.0)
    scores = block_scores(plain_call(q, k, v), 4, (False, True, True))
    _, alone = by_hand(q.double() @ k.double().mT / 2, 4, (False, True, True))
    assert not scores.whole[..., 1:].any()
    torch.testing.assert_close(scores.apart.double(), alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_scores_are_summed_in_float32(dtype: torch.dtype) -> None:
    q, k, v = operands(40, dtype=dtype)
    scores = block_scores(plain_call(q, k, v), 8, (False, False, True, True, True))
    whole, _ = by_hand(q.double() @ k.double().mT / 2, 8, (False, False, True, True, True))
    assert scores.whole.dtype == torch.float32
    torch.testing.assert_close(scores.whole.double(), whole, atol=2e-6 if dtype == torch.float32 else 2e-3, rtol=0)


@given(n=st.integers(1, 40), block=st.integers(2, 9), queries=st.integers(1, 10), seed=st.integers(0, 99))
def test_some_queries_stand_for_all_of_their_block(n: int, block: int, queries: int, seed: int) -> None:
    q, k, v = operands(n, seed=seed)
    count = -(-n // block)
    apart = [j % 2 == 1 for j in range(count)]
    scores = block_scores(plain_call(q, k, v), block, apart, queries)
    whole, alone = by_hand(q @ k.mT / 2, block, apart)
    maps = (q @ k.mT / 2).softmax(-1)
    for i in range(count):
        length = min(block, n - i * block)
        chosen = [i * block + (2 * at + 1) * length // (2 * queries) for at in range(queries)]
        mean = maps[:, :, chosen].mean(2) * length / block
        expected = torch.nn.functional.pad(mean, (0, -n % block)).unflatten(-1, (-1, block)).mean(-1)
        if queries < block:
            torch.testing.assert_close(scores.whole[:, :, i], expected, atol=1e-14, rtol=0)
    if queries >= block:
        torch.testing.assert_close(scores.whole, whole, atol=1e-14, rtol=0)
        torch.testing.assert_close(scores.apart, alone, atol=1e-14, rtol=0)


def test_at_least_one_query_is_scored() -> None:
    with pytest.raises(ValueError, match="queries=0 must be at least 1 of each block; None scores all"):
        block_scores(plain_call(*operands(8)), 4, (False, True), 0)


@pytest.mark.parametrize("room", [1, 40], ids="{} rows of scores".format)
@pytest.mark.parametrize("masked", [False, True], ids=["open", "masked"])
@pytest.mark.parametrize("keys", [1, 4096], ids="{} keys".format)
def test_scores_keep_to_their_room_and_do_not_depend_on_it(
    room: int, masked: bool, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, block, heads = 96, 16, 3
    layout = Layout.image_only((1, 8, 12))
    q, k, v = operands(n, heads=heads, key_heads=heads)
    call, apart = plain_call(q, k, v, layout=layout, mask=Disc(4) if masked else None), [False] * 4 + [True] * 2
    usual = block_scores(call, block, apart)
    monkeypatch.setattr("saccade.ops.block_scores.ROOM", dict.fromkeys(("cpu", "cuda"), room * n * 8))
    monkeypatch.setattr("saccade.ops.block_scores.KEYS", keys)
    with Largest() as largest:
        scores = block_scores(call, block, apart)
    torch.testing.assert_close(scores.whole, usual.whole, atol=1e-15, rtol=0)
    torch.testing.assert_close(scores.apart, usual.apart, atol=1e-15, rtol=0)
    rows = max(room, 2 * heads) if masked else room  # a map is added to all heads at once
    assert 0 < largest.numel <= max(rows * n, q.numel())


def mass_by_hand(scores: Tensor, lse: Tensor, block: int) -> Tensor:
    """(b h Q K) of exp(scores - lse), from the whole map."""
    short = -scores.shape[-1] % block
    p = torch.nn.functional.pad((scores - lse[..., None]).exp(), (0, short, 0, short))
    return p.unflatten(3, (-1, block)).unflatten(2, (-1, block)).sum((3, 5))


@given(n=st.integers(1, 23), block=st.integers(1, 9), moved=st.floats(-3, 3), seed=st.integers(0, 99))
def test_mass_by_an_lse_of_elsewhere(n: int, block: int, moved: float, seed: int) -> None:
    q, k, v = operands(n, seed=seed)
    scores = q @ k.mT / 2
    for lse in (scores.logsumexp(-1), scores.logsumexp(-1) + moved * torch.randn(2, 3, n, dtype=torch.float64)):
        mass = block_mass(plain_call(q, k, v), lse, block)
        torch.testing.assert_close(mass, mass_by_hand(scores, lse, block), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mass_by_the_calls_own_lse_sums_to_the_rows(dtype: torch.dtype) -> None:
    call = plain_call(*operands(45, dtype=dtype))
    lse = attend(call, want_lse=True).lse
    assert lse is not None and lse.dtype == torch.float32
    rows = torch.tensor([8.0] * 5 + [5.0])
    slack = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(block_mass(call, lse, 8).sum(-1), rows.expand(2, 3, 6), atol=slack, rtol=0)


def test_mass_has_the_calls_masks_padding_and_biases() -> None:
    q, k, v = operands(LAYOUT.n)
    keep = torch.arange(19) >= torch.tensor([[3], [0]])
    bias = DenseBias(torch.randn(2, 1, 19, 19).double()) + PerKey(torch.randn(2, 1, 19).double())
    logits = (q @ k.mT / 2 + bias.materialize(19, 19)).masked_fill(~Disc(1.5).materialize(LAYOUT, LAYOUT), -torch.inf)
    logits = logits.masked_fill(~keep[:, None, None], -torch.inf)
    lse = torch.randn(2, 3, 19, dtype=torch.float64)
    mass = block_mass(plain_call(q, k, v, layout=LAYOUT, bias=bias, mask=Disc(1.5) & KeyPadding(keep)), lse, 5)
    expected = mass_by_hand(logits.masked_fill(~keep[:, None, :, None], -torch.inf), lse, 5)
    torch.testing.assert_close(mass, expected, atol=1e-12, rtol=1e-12)


def test_mass_of_a_few_queries_stands_for_their_block() -> None:
    shared = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0)).repeat_interleave(6, 2)[:, :, :21]
    call = plain_call(shared, shared, shared)
    lse = attend(call, want_lse=True).lse
    assert lse is not None
    torch.testing.assert_close(block_mass(call, lse, 6, queries=1), block_mass(call, lse, 6), atol=1e-5, rtol=1e-5)


def test_mass_far_above_an_lse_stays_finite() -> None:
    q, k, v = operands(12, dtype=torch.float32)
    assert block_mass(plain_call(q, k, v), torch.full((2, 3, 12), -300.0), 4).isfinite().all()


def test_mass_keeps_to_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    n, block = 96, 16
    call = plain_call(*operands(n))
    lse = torch.randn(2, 3, n, dtype=torch.float64)
    usual = block_mass(call, lse, block)
    monkeypatch.setattr("saccade.ops.block_scores.ROOM", dict.fromkeys(("cpu", "cuda"), 4 * n * 8))
    monkeypatch.setattr("saccade.ops.block_scores.KEYS", 32)
    with Largest() as largest:
        mass = block_mass(call, lse, block)
    torch.testing.assert_close(mass, usual, atol=1e-12, rtol=1e-12)
    assert 0 < largest.numel <= max(4 * n, call.q.numel())


class Largest(TorchDispatchMode):
    """The largest tensor any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        out = func(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(x.numel() for x in tree_leaves(out) if torch.is_tensor(x))])
        return out
