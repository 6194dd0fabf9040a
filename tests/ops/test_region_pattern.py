"""Patterns of verdicts between regions: the mask exactly, made without a search, and attended to by every kernel."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.core.call import AttentionCall, plain_call
from saccade.core.errors import RefusedError
from saccade.core.layout import Layout, Segment
from saccade.core.masks import Table
from saccade.core.regions import Partition, Regions
from saccade.mechanisms.region_grid import RegionGrid
from saccade.ops import attend, choose, gather, native, sdpa, warm
from saccade.ops.block_cost import BlockCost
from saccade.ops.region_pattern import cheapest_size, region_pattern, side
from saccade.ops.split_mask import split_mask
from tests.ops.cases import allowed_error, error, operands, padding, truth
from tests.ops.test_pattern import rebuilt


def grid(label: torch.Tensor, b: int = 1, h: int = 1, seed: int = 0, keep: float = 0.3) -> RegionGrid:
    """Random verdicts; every region sees itself."""
    partition = Partition.of(label)
    allow = torch.rand(b, h, *(partition.count,) * 2, generator=torch.Generator().manual_seed(seed)) < keep
    return RegionGrid(partition, allow | torch.eye(partition.count, dtype=torch.bool))


LABELS = {
    "one after another": torch.arange(400) // 100,
    "whole blocks": torch.arange(512) // 128,
    "mingled": torch.randperm(512, generator=torch.Generator().manual_seed(1)) % 4,
    "of all sizes": (torch.randperm(450, generator=torch.Generator().manual_seed(2)).double() ** 0.3).long(),
    "with an empty one": torch.arange(300) // 100 * 2,
}
every_partition = pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)


def a_call(mask: RegionGrid, h: int = 2, b: int = 2, extra: int = 0, padded: bool = False, **how: Any) -> AttentionCall:
    n = mask.partition.n
    layout = Layout.plain(n)
    longer = layout.append(Segment("memory", "extra", extra)) if extra else layout
    q, k, v = operands(b, h, h, n, n + extra, **how)
    made = mask.lowered(layout, longer)
    assert made is not None
    return replace(
        plain_call(q, k, v), layout_q=layout, layout_k=longer, mask=made & padding(b, n + extra) if padded else made
    )


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=60), size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    extra=st.sampled_from((0, 0, 1, 5)), seed=st.integers(0, 99), dims=st.tuples(st.integers(1, 2), st.integers(1, 3)),
)  # fmt: skip
def test_the_pattern_is_the_mask(
    labels: list[int], size: tuple[int, int], extra: int, seed: int, dims: tuple[int, int]
) -> None:
    mask, layout = grid(torch.tensor(labels), *dims, seed=seed), Layout.plain(len(labels))
    longer = layout.append(Segment("memory", "extra", extra))
    found = region_pattern(Regions(mask.partition, mask.allow), longer.n, size)
    k = side(mask.partition, extra, size[1])
    whole = mask.materialize(layout, longer)
    assert torch.equal(_pairs(found, k.back), whole)
    by_token = Table(mask.partition.label, mask.partition.label, mask.allow)
    assert torch.equal(whole, by_token.materialize(layout, longer))


def _pairs(found: Any, back_k: torch.Tensor) -> torch.Tensor:
    """The token map of a pattern; what it says of fillers is left out, but none may be seen."""
    tiles = found.tiles[found.tile_of.long()] & (found.map != 0)[..., None, None]
    b, h, q, k, s, c = tiles.shape
    flat = tiles.transpose(3, 4).reshape(b, h, q * s, k * c)
    filler = torch.ones(k * c, dtype=torch.bool).index_fill(0, back_k, False)
    assert not flat[..., filler].any()
    rows = torch.arange(found.n) if found.back is None else found.back
    return flat[:, :, rows][..., back_k]


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=50), seed=st.integers(0, 99), extra=st.integers(0, 3))
def test_counts_and_lonely_queries_are_those_of_the_map(labels: list[int], seed: int, extra: int) -> None:
    partition, layout = Partition.of(torch.tensor(labels)), Layout.plain(len(labels))
    g = torch.Generator().manual_seed(seed)
    allow = torch.rand(2, 2, partition.count, partition.count, generator=g) < 0.3
    longer = layout.append(Segment("memory", "extra", extra))
    bound = RegionGrid(partition, allow).bind(layout, longer)
    whole = bound.token()
    lone = (~whole.any(-1)).nonzero()
    assert bound.regions is not None and bound.pairs() == int(whole.sum())
    assert bound.empty_row() == (tuple(lone[0].tolist()) if len(lone) else None)


def test_blocks_of_one_region_hold_its_tokens_in_order() -> None:
    label = LABELS["mingled"]
    made = side(Partition.of(label), 0, 128)
    blocks = made.order.view(-1, 128)
    assert (label[blocks] == made.region[:, None]).all() and made.tails == () and made.moved and not made.gaps
    assert (blocks.diff(dim=1) > 0).all() and torch.equal(made.order[made.back], torch.arange(512))


def test_regions_in_a_row_that_fill_blocks_move_nothing() -> None:
    mask = grid(LABELS["whole blocks"])
    found = region_pattern(Regions(mask.partition, mask.allow), 512, (64, 64))
    assert found.order is None and found.order_q is None and found.back is None and found.mixed == 0
    assert torch.equal(rebuilt(found), mask.materialize(Layout.plain(512), Layout.plain(512)))


def test_what_depends_on_the_partition_alone_is_made_once() -> None:
    mask = grid(LABELS["of all sizes"])
    first, second = (region_pattern(Regions(mask.partition, mask.allow), 450, (64, 64)) for _ in range(2))
    assert first.order_q is second.order_q and first.tiles is second.tiles and first.rows is not second.rows


def test_block_sizes_are_weighed_by_what_they_waste() -> None:
    costs = (BlockCost((128, 128), 1.1, 1.2), BlockCost((32, 16), 1.3, 1.4))
    assert cheapest_size(Partition.of(torch.arange(1280) // 128), costs) == (128, 128)
    assert cheapest_size(Partition.of(torch.arange(1280) // 16), costs) == (32, 16)


@every_partition
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_kernel_attends_to_them(label: torch.Tensor, padded: bool, dtype: torch.dtype) -> None:
    assert warm() is None
    at = a_call(grid(label, b=2, h=2), extra=40 * padded, padded=padded, dtype=dtype)
    true = truth(at)
    for kernel in (native, gather, sdpa):
        out = attend(at, kernel.NAME, want_lse=True)
        assert error(out.out, true.out) <= allowed_error(at, true.out)
        assert out.lse is not None and true.lse is not None
        assert error(out.lse, true.lse) < (1e-4 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("name", ["mingled", "of all sizes"])
def test_gradients_are_those_of_the_reference(name: str) -> None:
    at = a_call(grid(LABELS[name], h=2), padded=True, d=8, dv=8)
    grads = []
    for kernel in ("gather", "reference"):
        leaves = [x.clone().requires_grad_() for x in (at.q, at.k, at.v)]
        out = attend(at.replace(q=leaves[0], k=leaves[1], v=leaves[2]), kernel).out
        (out.double() ** 2).sum().backward()
        grads.append([x.grad for x in leaves])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_mask_made_in_every_call_is_never_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warm() is None

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a search")

    for name in ("saccade.core.blocks.survey", "saccade.ops.gather.cheapest", "saccade.ops.gather.pattern"):
        monkeypatch.setattr(name, refuse)
    at = a_call(grid(torch.arange(2048) // 128, h=2, keep=0.1))
    assert choose(at).kernel == "native"
    assert attend(at).out.isfinite().all()


def test_training_after_inference_reads_what_that_prepared() -> None:
    mask = grid(LABELS["mingled"].clone(), h=2)
    with torch.inference_mode():
        attend(a_call(mask), "gather")
    at = a_call(mask)
    q = at.q.clone().requires_grad_()
    attend(at.replace(q=q), "gather").out.sum().backward()
    assert q.grad is not None


@settings(max_examples=4)
@given(seed=st.integers(0, 99))
def test_beside_another_mask_the_conjunction_is_searched_and_right(seed: int) -> None:
    label = torch.randperm(90, generator=torch.Generator().manual_seed(seed)) % 5
    mask, layout = grid(label, seed=seed), Layout.plain(90)
    half = Table(torch.arange(90) // 45, torch.arange(90) // 45, torch.ones(2, 2, dtype=torch.bool).tril())
    both = mask & half | grid(label, keep=0)
    q, k, v = operands(1, 1, 1, 90, 90)
    at = plain_call(q, k, v, layout=layout, mask=both)
    assert split_mask(at).fixed is not None
    assert error(attend(at, "gather").out, truth(at).out) < 1e-5


@pytest.mark.bad_input
def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"label=-1 is below 0; number the regions from 0"):
        Partition.of(torch.tensor([0, -1]))
    partition = Partition.of(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"allow \(1, 1, 3, 3\) does not fit 2 regions; give"):
        RegionGrid(partition, torch.ones(1, 1, 3, 3, dtype=torch.bool))
    lonely = RegionGrid(partition, torch.tensor([[[[True, True], [False, False]]]]))
    at = plain_call(*operands(1, 1, 1, 2, 2), mask=lonely.lowered(Layout.plain(2), Layout.plain(2)))
    with pytest.raises(RefusedError, match=r"query 1 of batch row 0, head 0 has no key"):
        attend(at)
