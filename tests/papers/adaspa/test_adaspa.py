"""AdaSpa over whole runs, against the paper rewritten plainly in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.core.call import plain_call
from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.layout import Layout, Segment
from saccade.core.masks import KeyPadding
from saccade.core.partial import Parts
from saccade.core.places import Causal, Disc
from saccade.core.site import Site, at
from saccade.core.stack import make_plan, run_plan
from saccade.core.state import Memory
from saccade.mechanisms.frozen_pattern import FrozenPattern
from saccade.ops.parts import attend_parts
from saccade.papers.adaspa import AdaSpa
from saccade.papers.adaspa.search import FindMask, MassChoice, RefreshMask
from tests.papers.adaspa.plain import (
    LAYOUT,
    SITE,
    STEPS,
    adaptive_mask,
    dense,
    exact,
    expanded,
    lse_of,
    mass_of,
    memory_of,
    operands,
    text_blocks,
    walk,
)

INPUTS = [operands(seed=step) for step in range(STEPS)]
FIRST, LATER = 0, 2  # the searches of five steps


def masks(block: int, sparsity: float, layout: Layout = LAYOUT, head_adaptive: bool = True) -> dict[int, torch.Tensor]:
    """The token map in force at every sparse step, by hand."""
    text, lse = text_blocks(layout, block), lse_of(*INPUTS[FIRST][:2])
    found = {
        step: adaptive_mask(mass_of(*INPUTS[step][:2], lse, block), text, sparsity, head_adaptive)
        for step in (FIRST, LATER)
    }
    return {s: expanded(found[FIRST if s < LATER else LATER], block, layout.n) for s in range(1, STEPS)}


@settings(max_examples=12)
@given(
    block=st.integers(2, 9), sparsity=st.floats(1 / 3, 0.95), head_adaptive=st.booleans(), where=st.sampled_from("flx")
)
def test_equals_the_paper(block: int, sparsity: float, head_adaptive: bool, where: str) -> None:
    """Text first, last or absent; dense, searched, sparse, refreshed by the kept lse, sparse."""
    grid = Layout.image_only((1, 1, LAYOUT.n))
    layout = {"f": Layout.joint(text=5, grid=(2, 3, 4)), "l": LAYOUT, "x": grid}[where]
    outs = walk(AdaSpa(sparsity=sparsity, block=block, head_adaptive=head_adaptive), INPUTS, layout)
    wanted = masks(block, sparsity, layout, head_adaptive)
    for step, operands_ in enumerate(INPUTS):
        torch.testing.assert_close(outs[step], dense(*operands_, wanted.get(step)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_give_the_masked_softmax_and_rows_sum_to_one(dtype: torch.dtype) -> None:
    inputs = [tuple(x.to(dtype) for x in step) for step in INPUTS]
    outs = walk(AdaSpa(sparsity=0.6, block=4), inputs, attend=attend_parts)
    wanted = masks(4, 0.6)
    for step, operands_ in enumerate(INPUTS):
        torch.testing.assert_close(outs[step].double(), dense(*operands_, wanted.get(step)), atol=1e-5, rtol=0)
    ones = walk(AdaSpa(sparsity=0.6, block=4), [(q, k, torch.ones_like(v)) for q, k, v in INPUTS])
    torch.testing.assert_close(torch.stack(ones), torch.ones(STEPS, *ones[0].shape).double(), atol=1e-12, rtol=0)


def test_text_rows_equal_dense_rows() -> None:
    outs = walk(AdaSpa(sparsity=0.8, block=4), INPUTS)
    for out, operands_ in zip(outs, INPUTS, strict=True):
        torch.testing.assert_close(out[:, :, 24:], dense(*operands_)[:, :, 24:], atol=1e-12, rtol=0)
    assert (outs[-1] - dense(*INPUTS[-1])).abs().max() > 1e-3


def test_sparsity_0_is_dense_at_every_step() -> None:
    system = AdaSpa(sparsity=0, head_adaptive=False)
    assert all(system.plan(SITE, Clock(step=step, num_steps=50)) == () for step in range(50)) and not system.timed
    assert system.density(50) == system.cost(50) == 1
    memory = memory_of()
    walk(AdaSpa(sparsity=1e-9, head_adaptive=False, block=4), INPUTS, memory=memory)
    assert memory.get("blocks").all()


def test_a_run_is_dense_then_searches_reuses_refreshes_and_reuses() -> None:
    plans = [AdaSpa().plan(SITE, Clock(step=step, num_steps=50)) for step in range(50)]
    kinds = [type(plan[0]) if plan else None for plan in plans]
    assert kinds == [None] * 9 + [FindMask] + [FrozenPattern] * 19 + [RefreshMask] + [FrozenPattern] * 20
    assert len({plan for plan in plans}) == 4
    again = AdaSpa(lse_cache=False).plan(SITE, Clock(step=29, num_steps=50))
    assert again == (FindMask(choice=MassChoice(sparsity=0.8, block=64), keep_lse=False),)


def test_the_published_steps_and_cost() -> None:
    """Ten dense of 50, each search half an attention; 2.07x end to end where attention is 500 of 600 PFLOPs."""
    system = AdaSpa()
    assert system.search_steps(50) == (9, 29) and AdaSpa(searches=(0, 0.6)).search_steps(50) == (0, 29)
    assert system.density(50) == pytest.approx((10 + 40 * 0.2) / 50)
    assert system.cost(50) == pytest.approx((10 + 0.5 + 40 * 0.2 + 0.5) / 50)
    assert 600 / (100 + 500 * system.cost(50)) == pytest.approx(2.07, abs=5e-3)
    assert AdaSpa(lse_cache=False).cost(50) == pytest.approx((11 + 39 * 0.2 + 1) / 50)


@given(steps=st.integers(1, 200), begin=st.integers(0, 200), shares=st.lists(st.floats(0, 1), min_size=1, unique=True))
def test_searches_fall_among_the_steps_that_run(steps: int, begin: int, shares: list[float]) -> None:
    """Below full strength, for a model that takes over late, and in runs of few steps."""
    begin = begin % steps
    system = AdaSpa(searches=tuple(sorted(shares)))
    found = system.search_steps(steps, begin=begin)
    if begin == steps - 1:
        assert found == ()
    assert list(found) == sorted(set(found)) and all(begin <= step < steps for step in found)
    clocks = [Clock(step=step, num_steps=steps, first=begin) for step in range(begin, steps)]
    kinds = [type(plan[0]) if (plan := system.plan(SITE, clock)) else None for clock in clocks]
    if not found:
        assert kinds == [None] * len(clocks)
    else:
        assert kinds.index(FindMask) == found[0] - begin and kinds.count(FindMask) == 1
        assert [begin + i for i, kind in enumerate(kinds) if kind is RefreshMask] == list(found[1:])


def test_a_model_that_begins_late_searches_at_once() -> None:
    assert AdaSpa().search_steps(50, begin=15) == (15, 29)
    assert AdaSpa().search_steps(50, begin=35) == (35,)
    assert [AdaSpa().search_steps(steps) for steps in (1, 2, 4, 20)] == [(), (0,), (0, 1), (3, 11)]


def test_the_lse_is_kept_in_float32_and_only_where_it_is_read() -> None:
    low = [tuple(x.bfloat16() for x in step) for step in INPUTS]
    memory = memory_of()
    walk(AdaSpa(block=4), low, attend=attend_parts, memory=memory)
    lse = memory.get("lse")
    assert lse.dtype == torch.float32 and lse.shape == (2, 4, LAYOUT.n)
    torch.testing.assert_close(lse.double(), lse_of(*(x.double() for x in low[FIRST][:2])), atol=1e-2, rtol=1e-2)
    for system in (AdaSpa(block=4, searches=(0.2,)), AdaSpa(block=4, lse_cache=False)):
        walk(system, INPUTS, memory=(other := memory_of()))
        assert other.has("blocks") and not other.has("lse")


def test_a_refresh_on_unchanged_operands_finds_the_same_mask() -> None:
    first, both = memory_of(), memory_of()
    walk(AdaSpa(block=4, searches=(0.2,)), [INPUTS[0]] * STEPS, memory=first)
    walk(AdaSpa(block=4), [INPUTS[0]] * STEPS, memory=both)
    assert torch.equal(first.get("blocks"), both.get("blocks"))
    moved = memory_of()
    walk(AdaSpa(block=4), INPUTS, memory=moved)
    assert not torch.equal(first.get("blocks"), moved.get("blocks"))


def test_a_constant_of_each_row_of_blocks_in_the_lse_changes_no_row_wise_mask() -> None:
    call = plain_call(*INPUTS[1], layout=LAYOUT)
    choice = MassChoice(sparsity=0.7, block=4, head_adaptive=False)
    lse = lse_of(*INPUTS[0][:2])
    moved = lse + torch.randn(2, 4, 8, dtype=torch.float64).repeat_interleave(4, 2)[..., : LAYOUT.n]
    assert torch.equal(choice.blocks(call, lse), choice.blocks(call, moved))


def test_few_queries_stand_for_their_block() -> None:
    """All queries of a block alike: any one of them measures its mass."""
    shared = tuple(x[:, :, :6].repeat_interleave(4, 2) for x in INPUTS[0])
    call, lse = plain_call(*shared, layout=Layout.image_only((1, 4, 6))), lse_of(*shared[:2])
    all_, one = (MassChoice(sparsity=0.6, block=4, queries=some).blocks(call, lse) for some in (None, 1))
    assert torch.equal(all_, one) and not all_.all()


def test_text_is_the_layouts_or_the_range_that_is_given() -> None:
    call, lse = plain_call(*INPUTS[0], layout=LAYOUT), lse_of(*INPUTS[0][:2])
    plain = plain_call(*INPUTS[0], layout=Layout.plain(LAYOUT.n))
    given_ = MassChoice(sparsity=0.8, block=4, text=(24, 29)).blocks(plain, lse)
    assert torch.equal(given_, MassChoice(sparsity=0.8, block=4).blocks(call, lse))
    boundary = MassChoice(sparsity=0.8, block=4, text=(0, 5)).blocks(call, lse)  # the second block holds both kinds
    assert boundary[..., :2].all() and boundary[..., :2, :].all()
    assert (boundary[..., 2:, 2:].sum(-1) <= max(round(0.3 * 8), 1)).all()


def test_padded_text_is_masked_everywhere() -> None:
    keep = torch.arange(LAYOUT.n) < torch.tensor([[25], [29]])
    system, memory = AdaSpa(sparsity=0.6, block=2), memory_of()
    outs = walk(system, INPUTS, memory=memory, mask=KeyPadding(keep))
    changed = [tuple(torch.where(keep[:, None, :, None], x, 9.0) for x in step) for step in INPUTS]
    others = walk(system, changed, mask=KeyPadding(keep))
    for out, other in zip(outs, others, strict=True):
        torch.testing.assert_close(out[0, :, :25], other[0, :, :25], atol=1e-12, rtol=0)
    blocks = memory.get("blocks")
    assert not blocks[0, :, :, 13:].any() and blocks[1, :, :, 12:].all()


def test_a_padded_row_is_what_it_is_alone() -> None:
    """Its share is of its own blocks."""
    keep = torch.arange(LAYOUT.n) < torch.tensor([[25], [29]])
    padded, alone = memory_of(), memory_of()
    walk(AdaSpa(sparsity=0.6, block=5), INPUTS, memory=padded, mask=KeyPadding(keep))
    short = Layout.joint(text=1, grid=(2, 3, 4), text_first=False)
    walk(AdaSpa(sparsity=0.6, block=5), [tuple(x[:1, :, :25] for x in s) for s in INPUTS], short, memory=alone)
    assert torch.equal(padded.get("blocks")[:1, :, :5, :5], alone.get("blocks"))


def test_rows_of_guidance_are_independent() -> None:
    both = walk(AdaSpa(sparsity=0.6, block=4), INPUTS)
    for row in (0, 1):
        alone = walk(AdaSpa(sparsity=0.6, block=4), [tuple(x[row : row + 1] for x in s) for s in INPUTS])
        for out, other in zip(both, alone, strict=True):
            torch.testing.assert_close(out[row : row + 1], other, atol=1e-12, rtol=0)


def test_another_mask_leaves_every_query_a_key() -> None:
    memory = memory_of()
    outs = walk(AdaSpa(sparsity=0.9, block=2), INPUTS, memory=memory, mask=Disc(1.0))
    assert memory.get("blocks").diagonal(dim1=2, dim2=3).all() and all(out.isfinite().all() for out in outs)


def test_gradients_reach_the_kept_keys_alone() -> None:
    q, k, v = (x.clone().requires_grad_() for x in INPUTS[LATER])
    inputs = [*INPUTS[:LATER], (q, k, v), *INPUTS[LATER + 1 :]]
    walk(AdaSpa(sparsity=0.7, block=4), inputs)[LATER][0, 0, 0].sum().backward()
    assert v.grad is not None and torch.equal(v.grad[0, 0].any(-1), masks(4, 0.7)[LATER][0, 0, 0])
    q, k, v = (x.clone().requires_grad_() for x in INPUTS[0])
    memory = memory_of()
    dense_out = walk(AdaSpa(block=4), [(q, k, v), *INPUTS[1:]], memory=memory)[0]
    assert dense_out.requires_grad and not memory.get("lse").requires_grad


def test_an_output_made_by_another_system_leaves_the_searched_mask() -> None:
    """It hands on no lse; the call's own is measured then."""
    call, memory = plain_call(*INPUTS[0], layout=LAYOUT, site=SITE), memory_of()
    FindMask(choice=MassChoice(sparsity=0.6, block=4)).observe(call, Parts(torch.zeros_like(call.v)[None]), memory)
    memory.tick()
    walk(AdaSpa(sparsity=0.6, block=4, searches=(0.2,)), INPUTS, memory=(other := memory_of()))
    assert torch.equal(memory.get("blocks"), other.get("blocks"))


def test_only_chosen_sites_and_steps_are_sparse() -> None:
    clock = Clock(step=30, num_steps=50)
    assert AdaSpa(where=at(kind="cross")).plan(Site(name="x", kind="cross"), clock) == ()
    assert AdaSpa(where=at("other*")).plan(SITE, clock) == ()
    early = AdaSpa(where=at(during=(0, 0.5)))
    assert [bool(early.plan(SITE, Clock(step=s, num_steps=10))) for s in range(10)] == [False] + [True] * 4 + [
        False
    ] * 5


def run(system: AdaSpa, layout: Layout = LAYOUT, **fields: object) -> None:
    walk(system, INPUTS, layout, **fields)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdaSpa(sparsity=0.3), r"sparsity=0.3 must be in \[1/3, 1\); head_adaptive=False takes less"),
        (lambda: AdaSpa(sparsity=0), r"sparsity=0 must be in \[1/3, 1\); head_adaptive=False takes less, down to 0"),
        (lambda: AdaSpa(sparsity=1), r"sparsity=1 must be in \[1/3, 1\)"),
        (lambda: AdaSpa(sparsity=math.nan), r"sparsity=nan must be in \[1/3, 1\)"),
        (lambda: AdaSpa(sparsity=-0.1, head_adaptive=False), r"sparsity=-0.1 must be in \[0, 1\)$"),
        (lambda: AdaSpa(sparsity=1.5, head_adaptive=False), r"sparsity=1.5 must be in \[0, 1\)$"),
        (lambda: AdaSpa(searches=()), r"searches=\(\) must hold rising shares of the run, at least one"),
        (lambda: AdaSpa(searches=(0.6, 0.2)), r"searches=\(0.6, 0.2\) must hold rising shares of the run"),
        (lambda: AdaSpa(searches=(10, 30)), r"searches=\(10, 30\) must hold .* steps 10 and 30 of 50 are \(0.2, 0.6\)"),
        (lambda: AdaSpa(searches=("a",)), r"searches\[0\]='a' must be a number"),  # type: ignore[arg-type]
        (lambda: AdaSpa(block=0), r"block=0 must be at least 1 token; 64 suits the kernels"),
        (lambda: AdaSpa(queries=0), r"queries=0 must be at least 1 of each block; None measures all"),
        (lambda: AdaSpa(text=(5, 2)), r"text=\(5, 2\) must be \(start, stop\) with 0 <= start <= stop"),
        (lambda: AdaSpa(text=(-1, 2)), r"text=\(-1, 2\) must be \(start, stop\) with 0 <= start"),
        (lambda: AdaSpa(where=at(heads=(0,))), r"where.heads=\(0,\) cannot be chosen here; pass where= to attach"),
        (lambda: run(AdaSpa(text=(24, 30))), r"text=\(24, 30\) ends beyond the 29 tokens of the sequence \(image 24"),
        (lambda: run(AdaSpa(), Layout.plain(29)), r"all tokens are text \(text 29\), .* give text=\(start, stop\)"),
        (lambda: run(AdaSpa(text=(0, 29))), r"all tokens are text"),
        (lambda: run(AdaSpa(block=4), mask=Causal()), r"attention at site 'blocks.0.attn' is causal"),
    ],
)
def test_bad_input_says_what_is_wrong(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.bad_input
def test_a_mask_that_is_missing_or_of_another_call_is_an_error() -> None:
    late = AdaSpa(block=4, where=at(during=(0.5, 1)))
    with pytest.raises(StateError, match=r"'adaspa' at 'blocks.0.attn' \(main\) reads 'blocks' before any step put it"):
        walk(late, INPUTS)
    memory = memory_of()
    walk(AdaSpa(block=4), INPUTS, memory=memory)
    longer = Layout((*LAYOUT.segments, Segment("more", "text", 2)))
    refresh, reuse = RefreshMask(choice=MassChoice(sparsity=0.8, block=4)), FrozenPattern(block=4)
    for layout, batch, heads in ((longer, 2, 4), (LAYOUT, 3, 4), (LAYOUT, 2, 3)):
        changed = tuple(x[:, :heads] for x in operands(layout.n, batch=batch))
        with pytest.raises(StateError, match=r"kept 'lse' of shape \(2, 4, 29\).* clear the run between sizes"):
            step(refresh, changed, layout, memory)
        with pytest.raises(StateError, match=r"found its pattern on 2 x 29 tokens and 4 heads, .* begin a new generat"):
            step(reuse, changed, layout, memory)
    memory.clear()
    with pytest.raises(StateError, match=r"reads 'lse' before any step put it"):
        step(refresh, INPUTS[0], LAYOUT, memory)


def step(item: RefreshMask | FrozenPattern, inputs: tuple[torch.Tensor, ...], layout: Layout, memory: Memory) -> None:
    plan = make_plan({"adaspa": (item,)}, SITE, layout, layout, torch.device("cpu"))
    run_plan(plan, plain_call(*inputs, layout=layout, site=SITE), {"adaspa": memory}, exact)
