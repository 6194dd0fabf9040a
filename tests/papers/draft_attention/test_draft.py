"""The draft and what it keeps: pooling, thresholds, guards, and the attention they lead to."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.errors import RefusedError
from saccade.core.layout import Layout
from saccade.core.masks import Lowered
from saccade.core.state import Memory
from saccade.mechanisms.region_grid import RegionGrid
from saccade.ops import attend, gather, reference, triton_kernel, warm
from saccade.ops.region_pattern import side
from saccade.ops.triton_kernel.lists import kernel_lists
from saccade.papers.draft_attention.draft import draft_map, guarded, keep_strongest, patches, pool_patches
from saccade.papers.draft_attention.draft_regions import DraftRegions
from tests.hosts.test_waits import waits
from tests.papers.draft_attention.by_hand import regions, table

GRID, POOL = (2, 16, 32), (8, 16)
CPU = torch.device("cpu")


def drawn(layout: Layout, b: int = 1, h: int = 2, hk: int | None = None, d: int = 8, seed: int = 0) -> AttentionCall:
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(b, layout.n, h, d, generator=g).transpose(1, 2)
    k, v = (torch.randn(b, hk or h, layout.n, d, generator=g) for _ in range(2))
    return plain_call(q, k, v, layout=layout)


def masked(call: AttentionCall, sparsity: float = 0.6, pool: tuple[int, int] = POOL, **options: Any) -> AttentionCall:
    """The call with its mask chosen."""
    mechanism = DraftRegions(sparsity=sparsity, pool=pool, **options)
    mechanism.check(call.layout_q, call.layout_k)
    return call.replace(mask=mechanism.pairs(call, Memory()).mask)


def allowed(call: AttentionCall) -> Tensor:
    """The verdicts between regions."""
    assert isinstance(call.mask, Lowered) and isinstance(call.mask.mask, RegionGrid)
    return call.mask.mask.allow


def out(call: AttentionCall) -> Tensor:
    return attend(call).out


def test_a_pooled_mean_is_the_mean_of_the_tokens_that_one_block_holds() -> None:
    call, partition = drawn(Layout.image_only(GRID)), patches(Layout.image_only(GRID), POOL, CPU)
    order = side(partition, 0, 128).order
    assert torch.equal(order.sort().values, torch.arange(1024))
    assert torch.equal(order[side(partition, 0, 128).back], torch.arange(1024))
    pooled = pool_patches(call.q, GRID, POOL)
    torch.testing.assert_close(call.q[:, :, order].unflatten(2, (-1, 128)).mean(3), pooled)
    frames = call.q.transpose(2, 3).reshape(-1, 1, 16, 32)
    by_torch = torch.nn.functional.avg_pool2d(frames, POOL).reshape(1, 2, 8, 8).transpose(2, 3)
    torch.testing.assert_close(by_torch, pooled)


def test_tokens_of_a_region_stand_in_the_order_of_the_paper() -> None:
    frames, (high, wide), (ph, pw) = 2, GRID[1:], POOL
    wanted = [
        f * high * wide + (i * ph + u) * wide + (j * pw + v)
        for f in range(frames) for i in range(high // ph) for j in range(wide // pw)
        for u in range(ph) for v in range(pw)
    ]  # fmt: skip
    assert side(patches(Layout.image_only(GRID), POOL, CPU), 0, 128).order.tolist() == wanted


@given(
    grid=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    pool=st.tuples(st.integers(1, 4), st.integers(1, 4)), how=st.sampled_from(("mean", "max")),
)  # fmt: skip
def test_patches_at_the_border_pool_real_tokens_alone(grid: Any, pool: Any, how: Any) -> None:
    layout = Layout.image_only(grid)
    q = drawn(layout).q
    wanted = [(q[:, :, t].mean(2) if how == "mean" else q[:, :, t].amax(2)) for t in regions(layout, pool)]
    torch.testing.assert_close(pool_patches(q, grid, pool, how), torch.stack(wanted, dim=2))


@given(
    grid=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)), sparsity=st.floats(0, 0.99),
    pool=st.tuples(st.integers(1, 4), st.integers(1, 4)), text=st.integers(0, 5), first=st.booleans(),
    rows=st.integers(1, 2), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=12)
def test_it_is_attention_over_the_regions_chosen_by_hand(
    grid: Any, sparsity: float, pool: Any, text: int, first: bool, rows: int, seed: int
) -> None:
    layout = Layout.joint(text=text, grid=grid, text_first=first)
    call = drawn(layout, b=rows, h=2, hk=1, seed=seed)
    by_hand = reference.run(call.replace(mask=table(call, pool, sparsity))).out
    torch.testing.assert_close(out(masked(call, sparsity, pool)), by_hand, atol=1e-5, rtol=1e-4)


@given(g=st.integers(1, 12), sparsity=st.floats(0, 0.999))
def test_one_more_than_the_share_stays(g: int, sparsity: float) -> None:
    values = torch.randperm(g * g).double().view(1, 1, g, g)
    dropped = int(sparsity * g * g)
    keep = keep_strongest(values, sparsity)
    assert int(keep.sum()) == (g * g - dropped + 1 if dropped else g * g)
    assert dropped == 0 or values[keep].min() > values[~keep].max() or keep.all()


def test_the_count_of_the_papers_largest_video() -> None:
    values = torch.randperm(990**2).view(1, 1, 990, 990)
    assert int(keep_strongest(values.double(), 0.9).sum()) == 98_011
    assert (33 * 48 * 80) ** 2 == 990**2 * 16_384  # pairs of tokens, and of regions: the cost of the draft


def test_equal_values_all_stay() -> None:
    """As of a blank video."""
    assert keep_strongest(torch.full((1, 2, 5, 5), 0.2), 0.9).all()
    blank = drawn(Layout.image_only((1, 4, 4)))
    blank = blank.replace(q=torch.ones_like(blank.q), k=torch.ones_like(blank.k))
    assert masked(blank, 0.9, (2, 2)).mask is None


def test_keeping_all_is_dense_attention() -> None:
    call = drawn(Layout.image_only((2, 5, 7)))
    for sparsity in (0.0, 1.5 / 24**2):  # none dropped; and a threshold that all values reach
        assert torch.equal(out(masked(call, sparsity, (2, 2))), out(call))


def test_constant_regions_keep_exactly_the_strongest_pairs_of_tokens() -> None:
    layout = Layout.image_only(GRID)
    label = patches(layout, POOL, CPU).label
    g = torch.Generator().manual_seed(3)
    q, k = (torch.randn(1, 2, 8, 8, generator=g)[:, :, label] for _ in range(2))
    weights = torch.softmax(q @ k.mT * 8**-0.5, -1)  # of a token: its region's, over 128
    draft = draft_map(q, k, 8**-0.5, GRID, POOL)
    torch.testing.assert_close(draft[:, :, label][..., label] / 128, weights)
    keep = keep_strongest(draft, 0.6)[:, :, label][..., label]
    for head in range(2):
        assert weights[0, head][keep[0, head]].min() > weights[0, head][~keep[0, head]].max()


def test_values_of_regions_that_are_dropped_do_not_matter_and_text_sees_all() -> None:
    layout = Layout.joint(text=6, grid=GRID, text_first=False)
    call = masked(drawn(layout, h=1))
    allow, label = allowed(call)[0, 0], patches(layout, POOL, CPU).label
    i, j = (~allow).nonzero()[0].tolist()
    other = call.v.clone()
    other[:, :, label == j] += 100.0
    changed, same = out(call.replace(v=other)), out(call)
    assert torch.equal(changed[:, :, label == i], same[:, :, label == i])
    seeing = allow[:, j].nonzero()[0].item()
    assert not torch.allclose(changed[:, :, label == seeing], same[:, :, label == seeing])
    assert allow[-1].all() and allow[:, -1].all() and (label[-6:] == 8).all()
    dense = out(call.replace(mask=None))
    torch.testing.assert_close(same[:, :, -6:], dense[:, :, -6:])


def test_weights_sum_to_one() -> None:
    call = masked(drawn(Layout.image_only((2, 9, 11))), 0.9, (4, 4))
    torch.testing.assert_close(out(call.replace(v=torch.ones_like(call.v))), torch.ones_like(call.v))


def test_masks_differ_by_head_row_and_input_and_are_the_same_each_time() -> None:
    call = drawn(Layout.image_only(GRID), b=2)
    first, again, other = (allowed(masked(each)) for each in (call, call, drawn(call.layout_q, b=2, seed=1)))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0, 0], first[0, 1]) and not torch.equal(first[0], first[1])


def test_rows_of_a_batch_are_what_they_are_alone() -> None:
    call = drawn(Layout.joint(text=3, grid=(2, 6, 9)), b=3)
    both = out(masked(call, 0.8, (2, 3)))
    for row in range(3):
        alone = call.replace(q=call.q[row : row + 1], k=call.k[row : row + 1], v=call.v[row : row + 1])
        torch.testing.assert_close(out(masked(alone, 0.8, (2, 3))), both[row : row + 1])


def test_frames_in_another_order_give_outputs_in_that_order() -> None:
    call = drawn(Layout.image_only((4, 6, 8)))
    shuffled = torch.tensor([2, 0, 3, 1])
    moved = lambda x: x.unflatten(2, (4, 48))[:, :, shuffled].flatten(2, 3)  # noqa: E731
    other = call.replace(q=moved(call.q), k=moved(call.k), v=moved(call.v))
    torch.testing.assert_close(out(masked(other, 0.7, (3, 4))), moved(out(masked(call, 0.7, (3, 4)))))


def sharpened(call: AttentionCall) -> AttentionCall:
    """One region whose row of the draft is flat: all its values fall below the threshold."""
    q = call.q.clone() * 20
    q[:, :, regions(call.layout_q, (2, 2))[0]] = 0.0
    return call.replace(q=q)


@pytest.mark.parametrize("guard", ["best", "diagonal"])
def test_a_region_that_lost_all_its_keys_keeps_one(guard: Any) -> None:
    call = sharpened(drawn(Layout.image_only((1, 8, 8)), h=1))
    draft = draft_map(call.q, call.k, call.scale, (1, 8, 8), (2, 2))
    keep = keep_strongest(draft, 0.9)
    assert not keep[0, 0, 0].any()
    allow = guarded(keep, draft, guard)
    assert allow.any(-1).all() and torch.equal(allow | keep, allow)
    if guard == "best":
        lost = ~keep.any(-1)
        assert torch.equal(allow[~lost], keep[~lost]) and int(allow[lost].sum()) == int(lost.sum())
    else:
        assert torch.equal(allow, keep | torch.eye(16, dtype=torch.bool))
    assert out(masked(call, 0.9, (2, 2), guard=guard)).isfinite().all()


@pytest.mark.bad_input
def test_without_a_guard_a_query_without_a_key_is_an_error() -> None:
    call = sharpened(drawn(Layout.image_only((1, 8, 8)), h=1))
    with pytest.raises(RefusedError, match=r"query 0 of batch row 0, head 0 has no key"):
        out(masked(call, 0.9, (2, 2), guard=None))
    text = sharpened(drawn(Layout.joint(text=2, grid=(1, 8, 8), text_first=False), h=1))
    assert out(masked(text, 0.9, (2, 2), guard=None)).isfinite().all()  # it sees the text


def test_maxima_are_another_draft() -> None:
    call = drawn(Layout.image_only(GRID))
    mean, most = (allowed(masked(call, pooling=how)) for how in ("mean", "max"))
    assert not torch.equal(mean, most)


def test_gradients_are_those_over_the_same_regions() -> None:
    call = drawn(Layout.joint(text=3, grid=(2, 4, 6)))
    grads = []
    for run, mask in ((attend, masked(call, 0.6, (2, 2)).mask), (reference.run, table(call, (2, 2), 0.6))):
        leaves = [x.clone().requires_grad_() for x in (call.q, call.k, call.v)]
        (run(call.replace(q=leaves[0], k=leaves[1], v=leaves[2], mask=mask)).out ** 2).sum().backward()
        grads.append([x.grad for x in leaves])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_at_length_it_runs_by_blocks_without_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warm() is None

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a search")

    monkeypatch.setattr("saccade.core.blocks.survey", refuse)
    call = masked(drawn(Layout.joint(text=50, grid=(3, 20, 40), text_first=False), h=1), 0.8)
    found = attend(call, "native")
    torch.testing.assert_close(found.out, reference.run(call).out, atol=1e-5, rtol=1e-4)


def test_a_warm_call_asks_the_device_for_three_numbers_and_no_more() -> None:
    """Pairs allowed and patches without a key, read together, and the number of blocks: on a card two waits."""
    call = drawn(Layout.joint(text=256, grid=(2, 16, 32), text_first=False), h=2)
    costs = triton_kernel.COSTS[torch.float32]

    def prepared() -> None:
        made = masked(call)
        found = gather.found_pattern(made, costs)
        assert found.mixed == 0 and kernel_lists(found).forward.cols.numel() == found.kept

    prepared()
    with waits() as asked:
        prepared()
    assert asked == ["_local_scalar_dense"] * 3


@pytest.mark.bad_input
def test_layouts_that_have_no_draft_are_refused() -> None:
    mechanism = DraftRegions(sparsity=0.5, pool=(8, 16), strict=True)
    with pytest.raises(ValueError, match=r"a grid of 2 x 45 x 80 tokens is no whole number of patches pool=\(8, 16\)"):
        mechanism.check(*[Layout.image_only((2, 45, 80))] * 2)
    mechanism.check(*[Layout.image_only((2, 48, 80))] * 2)
    with pytest.raises(ValueError, match=r"0 image grids where one is needed: text 5"):
        mechanism.check(Layout.plain(5), Layout.plain(5))
    with pytest.raises(
        ValueError, match=r"keys are text 5 and queries image 16 \(1x4x4\); a draft is of attention of a"
    ):
        mechanism.check(Layout.image_only((1, 4, 4)), Layout.plain(5))
