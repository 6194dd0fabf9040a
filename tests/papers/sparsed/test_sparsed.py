"""SparseD over whole runs, against its two published descriptions rewritten plainly in float64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.layout import Layout, Segment
from saccade.core.masks import KeyPadding
from saccade.core.partial import Parts, whole
from saccade.core.places import Causal
from saccade.core.site import Site, at
from saccade.core.stack import Attend, make_plan, run_plan
from saccade.core.state import Memory
from saccade.mechanisms.frozen_pattern import FrozenPattern
from saccade.ops import reference
from saccade.ops.parts import attend_parts
from saccade.papers.sparsed import SparseD
from saccade.papers.sparsed.find_pattern import FindPattern

SITE = Site(name="layers.0.attn", kind="self", heads=2)
STEPS = 5
Select = Callable[[Tensor, Tensor, int, int, float], Tensor]


def lm(prompt: int, generation: int) -> Layout:
    return Layout((Segment("prompt", "text", prompt), Segment("generation", "text", generation)))


def operands(n: int, seed: int = 0, dtype: torch.dtype = torch.float64, channels: int = 4) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 2, n, channels, generator=g, dtype=torch.float64).to(dtype) for _ in range(3))


def exact(call: AttentionCall, want_lse: bool, kernel: str | None) -> Parts:
    return whole(reference.run(call, want_lse=want_lse))


def walk(
    sparsed: SparseD,
    layout: Layout,
    inputs: list[tuple[Tensor, ...]],
    attend: Attend = exact,
    memory: Memory | None = None,
    **fields: Any,
) -> list[Tensor]:
    """One output a step, as a run would make them."""
    memory, outs = Memory("'sparsed' at 'layers.0.attn' (main)") if memory is None else memory, []
    for step, (q, k, v) in enumerate(inputs):
        memory.tick()
        items = {"sparsed": sparsed.plan(SITE, Clock(step=step, num_steps=len(inputs)))}
        plan = make_plan(items, SITE, layout, layout, torch.device("cpu"))
        call = plain_call(q, k, v, layout=layout, site=SITE, **fields)
        outs.append(run_plan(plan, call, {"sparsed": memory}, attend).total)
    return outs


def dense(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> Tensor:
    scores = q @ k.mT * q.shape[-1] ** -0.5
    return (scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)).softmax(-1) @ v


def block_means(p: Tensor, size: int) -> Tensor:
    """(n m) -> (Q K), zeros filled in."""
    short_q, short_k = -p.shape[0] % size, -p.shape[1] % size
    p = torch.nn.functional.pad(p, (0, short_k, 0, short_q))
    return p.unflatten(1, (-1, size)).unflatten(0, (-1, size)).mean((1, 3))


def official(scores: Tensor, prompt: int, size: int, rho: float) -> set[int]:
    """The released code for the rows of one block: two softmaxes, two top-k."""
    n = scores.shape[1]
    blocks, first = math.ceil(n / size), math.ceil(prompt / size)
    if first >= blocks:
        first = blocks - 1
    all_, ours = block_means(scores.softmax(-1), size)[0], block_means(scores[:, first * size :].softmax(-1), size)[0]
    best = all_.topk(min(max(1, int(blocks * rho) + 1), blocks)).indices.tolist()
    count = min(max(1, int(len(ours) * rho) + 1), len(ours))
    return {j for j in best if j < first} | {j + first for j in ours.topk(count).indices.tolist()}


def paper(scores: Tensor, prompt: int, size: int, rho: float) -> set[int]:
    """The text: one softmax, the top share of either group."""
    means = block_means(scores.softmax(-1), size)[0]
    first = min(math.ceil(prompt / size), len(means) - 1)
    groups = means[:first], means[first:]
    kept = [group.topk(math.ceil(round(rho * len(group), 9))).indices.tolist() for group in groups]
    return set(kept[0]) | {j + first for j in kept[1]}


PUBLISHED = {"official": official, "paper": paper}


def token_map(q: Tensor, k: Tensor, prompt: int, size: int, rho: float, rule: str) -> Tensor:
    """(b h n n) by hand, row block by row block."""
    n, scores = q.shape[2], q @ k.mT * q.shape[-1] ** -0.5
    allowed = torch.zeros(scores.shape, dtype=torch.bool)
    for b, h in [(b, h) for b in range(2) for h in range(2)]:
        for i in range(0, n, size):
            for j in PUBLISHED[rule](scores[b, h, i : i + size], prompt, size, rho):
                allowed[b, h, i : i + size, j * size : (j + 1) * size] = True
    return allowed


@pytest.mark.parametrize(("rule", "last"), [("official", 2), ("paper", 1)])
@settings(max_examples=15)
@given(
    prompt=st.integers(0, 15),
    generation=st.integers(1, 9),
    size=st.integers(2, 7),
    rho=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
def test_equals_the_published_algorithm(
    rule, last: int, prompt: int, generation: int, size: int, rho: float, seed: int
) -> None:
    n = prompt + generation
    inputs = [operands(n, seed=seed + step) for step in range(STEPS)]
    sparsed = SparseD(keep=rho, block=size, select_rule=rule, generation=generation)
    outs = walk(sparsed, Layout.plain(n), inputs)
    allowed = token_map(*inputs[last][:2], prompt, size, rho, rule)
    for step, (q, k, v) in enumerate(inputs):
        expected = dense(q, k, v, allowed if step > last else None)
        torch.testing.assert_close(outs[step], expected, atol=1e-12, rtol=0)


def test_the_published_example_keeps_two_of_all_and_one_generated() -> None:
    memory = Memory()
    inputs = [operands(16, seed=step) for step in range(STEPS)]
    outs = walk(SparseD(keep=0.3, block=4), lm(10, 6), inputs, memory=memory)
    blocks = memory.get("blocks")
    assert blocks.shape == (2, 2, 4, 4) and blocks[..., 3].all() and (blocks[..., :3].sum(-1) <= 2).all()
    allowed = token_map(*inputs[2][:2], 10, 4, 0.3, "official")
    torch.testing.assert_close(outs[-1], dense(*inputs[-1], allowed), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_give_the_masked_softmax_and_rows_sum_to_one(dtype: torch.dtype) -> None:
    inputs = [operands(45, seed=step, dtype=dtype) for step in range(STEPS)]
    outs = walk(SparseD(keep=0.3, block=4), lm(30, 15), inputs, attend=attend_parts)
    allowed = token_map(*(x.double() for x in inputs[2][:2]), 30, 4, 0.3, "official")
    expected = dense(*(x.double() for x in inputs[-1]), allowed)
    torch.testing.assert_close(outs[-1].double(), expected, atol=1e-5, rtol=0)
    ones = walk(SparseD(keep=0.3, block=4), lm(30, 15), [(q, k, torch.ones_like(v)) for q, k, v in inputs])
    torch.testing.assert_close(ones[-1], torch.ones_like(ones[-1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("sparsed", [SparseD(keep=1), SparseD(skip=1), SparseD(keep=1, skip=0)], ids=repr)
@given(steps=st.integers(1, 200))
def test_keeping_all_or_skipping_all_is_dense(sparsed: SparseD, steps: int) -> None:
    assert all(sparsed.plan(SITE, Clock(step=step, num_steps=steps)) == () for step in range(steps))
    assert sparsed.density(steps) == 1


@given(steps=st.integers(1, 200), skip=st.floats(0, 1), rule=st.sampled_from(["official", "paper"]))
def test_a_run_is_dense_then_finds_once_then_reuses(steps: int, skip: float, rule) -> None:
    sparsed = SparseD(skip=skip, select_rule=rule)
    plans = [sparsed.plan(SITE, Clock(step=step, num_steps=steps)) for step in range(steps)]
    kinds = [type(plan[0]) if plan else None for plan in plans]
    last = int(steps * skip) + (rule == "official")
    if last >= steps - 1:
        assert kinds == [None] * steps  # a pattern nobody would use is not sought
    else:
        assert kinds == [None] * last + [FindPattern] + [FrozenPattern] * (steps - last - 1)
        assert len({id(plan[0]) for plan in plans if plan}) == 2


def test_the_published_steps() -> None:
    assert (SparseD().last_dense(128), SparseD(select_rule="paper").last_dense(128)) == (26, 25)
    assert SparseD().density(128) == (27 + 101 * 0.3) / 128


def test_padded_keys_are_never_attended_to() -> None:
    keep = torch.arange(18) >= torch.tensor([[7], [0]])
    inputs = [operands(18, seed=step) for step in range(STEPS)]
    outs = walk(SparseD(keep=0.5, block=3), lm(12, 6), inputs, mask=KeyPadding(keep))
    changed = [tuple(torch.where(keep[:, None, :, None], x, 9.0) for x in step) for step in inputs]
    others = walk(SparseD(keep=0.5, block=3), lm(12, 6), changed, mask=KeyPadding(keep))
    for out, other in zip(outs, others, strict=True):
        torch.testing.assert_close(out[0, :, 7:], other[0, :, 7:], atol=1e-12, rtol=0)


def test_rows_of_guidance_are_independent() -> None:
    inputs = [operands(18, seed=step) for step in range(STEPS)]
    both = walk(SparseD(keep=0.4, block=3), lm(12, 6), inputs)
    for row in (0, 1):
        alone = walk(SparseD(keep=0.4, block=3), lm(12, 6), [tuple(x[row : row + 1] for x in s) for s in inputs])
        for out, other in zip(both, alone, strict=True):
            torch.testing.assert_close(out[row : row + 1], other, atol=1e-12, rtol=0)


def test_gradients_reach_the_kept_keys_alone() -> None:
    inputs = [operands(16, seed=step) for step in range(STEPS)]
    q, k, v = (x.requires_grad_() for x in inputs[-1])
    walk(SparseD(keep=0.3, block=4), lm(10, 6), [*inputs[:-1], (q, k, v)])[-1][0, 0, 0].sum().backward()
    seen = token_map(*inputs[2][:2], 10, 4, 0.3, "official")[0, 0, 0]
    assert v.grad is not None and torch.equal(v.grad[0, 0].any(-1), seen)


def test_only_chosen_sites_and_steps_are_sparse() -> None:
    assert SparseD(where=at(kind="cross")).plan(Site(name="x", kind="cross"), Clock(step=9, num_steps=10)) == ()
    assert SparseD(where=at("other*")).plan(SITE, Clock(step=9, num_steps=10)) == ()
    early = SparseD(where=at(during=(0, 0.5)))
    assert [bool(early.plan(SITE, Clock(step=s, num_steps=10))) for s in range(10)] == [False] * 3 + [True] * 2 + [
        False
    ] * 5


def run_causal() -> None:
    walk(SparseD(keep=0.3, block=4), lm(10, 6), [operands(16)] * 10, mask=Causal())


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SparseD(keep=0), r"keep=0 must be in \(0, 1\]; 1 is dense"),
        (lambda: SparseD(keep=1.2), r"keep=1.2 must be in \(0, 1\]"),
        (lambda: SparseD(keep=math.nan), r"keep=nan must be in"),
        (lambda: SparseD(skip=-0.1), r"skip=-0.1 must be in \[0, 1\], the share of the steps that stay dense"),
        (lambda: SparseD(skip=1.1), r"skip=1.1 must be in \[0, 1\]"),
        (lambda: SparseD(block=0), r"block=0 must be at least 1 token; 128 suits the kernels"),
        (lambda: SparseD(queries=0), r"queries=0 must be at least 1 of each block; None scores all"),
        (lambda: SparseD(generation=0), r"generation=0 must be at least 1 token"),
        (lambda: SparseD(select_rule="top"), r"select_rule='top' must be one of \('official', 'paper', 'joint'\)"),  # type: ignore[arg-type]
        (lambda: SparseD(compat="llada"), r"compat='llada' must be 'official' or None"),  # type: ignore[arg-type]
        (lambda: SparseD(where=at(heads=(0,))), r"where.heads=\(0,\) cannot be chosen here; pass where= to attach"),
        (
            lambda: walk(SparseD(generation=17), lm(10, 6), [operands(16)] * 10),
            r"generation=17 exceeds the 16 tokens of the sequence",
        ),
        (
            lambda: walk(SparseD(), Layout.plain(16), [operands(16)] * 10),
            r"generation=None and the tokens are text 16: nothing says what is prompt",
        ),
        (run_causal, r"attention at site 'layers.0.attn' is causal"),
    ],
)
def test_bad_input_says_what_is_wrong(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.bad_input
def test_a_pattern_that_is_missing_or_of_another_prompt_is_an_error() -> None:
    late = SparseD(block=4, where=at(during=(0.5, 1)))
    with pytest.raises(
        StateError, match=r"'sparsed' at 'layers.0.attn' \(main\) reads 'blocks' before any step put it"
    ):
        walk(late, lm(10, 6), [operands(16)] * 10)
    memory = Memory("'sparsed' at 'layers.0.attn' (main)")
    walk(SparseD(block=4), lm(10, 6), [operands(16)] * 10, memory=memory)
    plan = make_plan({"sparsed": (FrozenPattern(block=4),)}, SITE, lm(12, 6), lm(12, 6), torch.device("cpu"))
    call = plain_call(*operands(18), layout=lm(12, 6), site=SITE)
    with pytest.raises(
        StateError, match=r"2 x 16 tokens and 2 heads, this call has 2 x 18 and 2; begin a new generation at step 0"
    ):
        run_plan(plan, call, {"sparsed": memory}, exact)
