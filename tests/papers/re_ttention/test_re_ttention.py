"""Re-ttention over whole runs, against the published algorithm rewritten plainly in float64."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.call import plain_call
from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding, Table
from saccade.core.mechanism import PlanItem
from saccade.core.places import Causal, Disc
from saccade.core.site import Site, at
from saccade.core.stack import Plan, make_plan, run_plan
from saccade.core.state import Memory
from saccade.ops.parts import attend_parts
from saccade.papers.re_ttention import RasterWindow, ReTtention
from saccade.papers.re_ttention.statistics import TakeStatistics, UseStatistics, without

SITE = Site(name="blocks.0.attn1", kind="self", heads=2)
IMAGE = Layout.image_only((1, 4, 5))
VIDEO = Layout.joint(text=3, grid=(2, 3, 4))
OWNER = "'re_ttention' at 'blocks.0.attn1' (main)"
Step = tuple[Tensor, Tensor, Tensor]


def operands(n: int, seed: int = 0, dtype: torch.dtype = torch.float64, batch: int = 2) -> Step:
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, 2, n, 4, generator=g, dtype=torch.float64).to(dtype) for _ in range(3))
    return q, k, v


def moving(n: int, steps: int, dtype: torch.dtype = torch.float64) -> list[Step]:
    return [operands(n, seed=step, dtype=dtype) for step in range(steps)]


@lru_cache(maxsize=8)
def prepared(items: tuple[PlanItem, ...], layout: Layout) -> Plan:
    """Made once for equal answers, as a run does."""
    return make_plan({"re_ttention": items}, SITE, layout, layout, torch.device("cpu"))


def walk(
    system: Any, layout: Layout, inputs: list[Step], memory: Memory | None = None, **fields: Any
) -> tuple[list[Tensor], Memory]:
    """One output a step, as a run would make them, and what is kept at the end."""
    memory, outs = Memory(OWNER) if memory is None else memory, []
    for step, (q, k, v) in enumerate(inputs):
        memory.tick()
        plan = prepared(system.plan(SITE, Clock(step=step, num_steps=len(inputs))), layout)
        call = plain_call(q, k, v, layout=layout, site=SITE, **fields)
        outs.append(run_plan(plan, call, {system.name: memory}, attend_parts).total)
    memory.tick()
    return outs, memory


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v


def window_map(layout: Layout, keep: float) -> Tensor:
    """The published masks by loops: raster places of an image; of a video those in a frame, in all frames."""
    at, (_, height, width) = layout.coords().tolist(), layout.image.grid or (0, 0, 0)
    half = int(height * width * keep) // 2
    places = [y * width + x if y >= 0 else None for _, y, x in at]
    rows = [[i is None or j is None or abs(i - j) <= half for j in places] for i in places]
    return torch.tensor(rows)


def published(
    inputs: list[Step], allowed: Tensor, full: int, ramp: float, use_ratio: bool = True, period: int = 5
) -> list[Tensor]:
    """The released processors: n x n maps, a counter, a ramp after every sparse step, no clamp."""
    rho, residual, outs = torch.zeros(()), torch.zeros(()), []
    for step, (q, k, v) in enumerate(inputs):
        scores = q @ k.mT * q.shape[-1] ** -0.5
        powers = (scores - scores.amax(-1, keepdim=True)).exp()
        kept = powers * allowed
        share = kept.sum(-1, keepdim=True) / powers.sum(-1, keepdim=True)
        whole, narrow = powers / powers.sum(-1, keepdim=True) @ v, kept / kept.sum(-1, keepdim=True) @ v
        if step < full or (step - full) % period == 0:
            rho = share if use_ratio else torch.ones_like(share)
            residual = whole - rho * narrow
            outs.append(whole)
        else:
            outs.append(rho * narrow + residual)
            rho = rho + ramp * use_ratio
    return outs


@settings(max_examples=10)
@given(
    grid=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(2, 5)),
    text=st.integers(0, 4),
    keep=st.floats(0.51, 0.99),
    steps=st.integers(1, 14),
    dense_share=st.floats(0, 0.6),
    period=st.integers(1, 6),
    ramp=st.floats(0, 0.1),
    ratio=st.booleans(),
)
def test_equals_the_published_algorithm(
    grid: tuple[int, int, int], text: int, keep: float, steps: int, dense_share: float, period: int, ramp: float,
    ratio: bool,
) -> None:  # fmt: skip
    layout = Layout.joint(text=text, grid=grid)
    inputs = moving(layout.n, steps)
    system = ReTtention(keep=keep, dense=dense_share, period=period, ramp=ramp, ratio=ratio, compat="official")
    outs, _ = walk(system, layout, inputs)
    wanted = published(
        inputs, window_map(layout, keep), full=int(steps * dense_share), ramp=ramp, use_ratio=ratio, period=period
    )
    for out, expected in zip(outs, wanted, strict=True):
        torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("layout", [IMAGE, VIDEO], ids=["image", "video"])
@pytest.mark.parametrize("ratio", [True, False])
def test_the_sparse_branch_on_the_step_that_took_statistics_is_dense(layout: Layout, ratio: bool) -> None:
    """And so is every sparse step while nothing moves, without a ramp."""
    step = operands(layout.n)
    outs, _ = walk(ReTtention(keep=0.3, dense=0, period=10, ramp=0, ratio=ratio), layout, [step] * 6)
    for out in outs:
        torch.testing.assert_close(out, dense(*step), atol=1e-12, rtol=0)


def test_a_ramp_moves_outputs_by_window_means_and_leaves_text_alone() -> None:
    step, ramp = operands(VIDEO.n), 0.04
    outs, _ = walk(ReTtention(keep=0.3, dense=0, period=10, ramp=ramp), VIDEO, [step] * 6)
    official, _ = walk(ReTtention(keep=0.3, dense=0, period=10, ramp=ramp, compat="official"), VIDEO, [step] * 6)
    q, k, v = step
    scores = (q @ k.mT / 2).masked_fill(~window_map(VIDEO, 0.3), -torch.inf)
    means, text = scores.softmax(-1) @ v, VIDEO.is_("text")
    for age, (out, theirs) in enumerate(zip(outs[1:], official[1:], strict=True)):
        torch.testing.assert_close(theirs, dense(*step) + age * ramp * means, atol=1e-12, rtol=0)
        torch.testing.assert_close(out[:, :, ~text], theirs[:, :, ~text], atol=0, rtol=0)
        torch.testing.assert_close(out[:, :, text], dense(*step)[:, :, text], atol=1e-12, rtol=0)


def test_a_window_of_all_keys_is_dense_at_every_step() -> None:
    label, one = torch.zeros(IMAGE.n).long(), torch.ones(1, 1, dtype=torch.bool)
    inputs = moving(IMAGE.n, 8, torch.float32)
    for system in (
        ReTtention(mask=Table(label, label, one), dense=0, ramp=0),
        ReTtention(mask=Disc(99), dense=0),
    ):
        outs, memory = walk(system, IMAGE, inputs)
        wanted = [attend_parts(plain_call(*step, layout=IMAGE)).total for step in inputs]
        assert all(torch.equal(out, expected) for out, expected in zip(outs, wanted, strict=True))
        assert (memory.get("ratio") == 1).all() and (memory.get("residual") == 0).all()


@settings(max_examples=10)
@given(keep=st.floats(0.2, 1), seed=st.integers(0, 99), scale=st.floats(0.1, 4))
def test_ratios_are_the_share_of_the_softmax_and_what_rows_sum_to(keep: float, seed: int, scale: float) -> None:
    q, k, v = operands(VIDEO.n, seed=seed, dtype=torch.float32)
    ones = (q * scale, k, torch.ones_like(v))
    outs, memory = walk(ReTtention(keep=keep, dense=0, ramp=0, residual=False), VIDEO, [ones] * 2)
    weights = (q.double() * scale @ k.double().mT / 2).softmax(-1)
    rho = (weights * window_map(VIDEO, keep)).sum(-1)
    torch.testing.assert_close(memory.get("ratio").double(), rho, atol=1e-5, rtol=0)
    assert (memory.get("ratio") > 0).all() and (memory.get("ratio") <= 1 + 1e-6).all()
    torch.testing.assert_close(outs[1].double(), rho[..., None].expand_as(v).double(), atol=1e-5, rtol=0)


def test_the_row_worked_out_by_hand() -> None:
    q = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    k = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64).log().reshape(1, 1, 4, 1)
    v = torch.eye(4, dtype=torch.float64)[None, None]
    label, allow = torch.tensor([0, 0, 1, 1]), torch.tensor([[True, False]])
    window = Table(torch.zeros(1).long(), label, allow)
    layouts = {"layout_q": Layout.plain(1), "layout_k": Layout.plain(4)}
    memory = Memory()
    for mechanism in (TakeStatistics(window=window), UseStatistics(window=window, ramp=0)):
        plan = make_plan({"x": (window, mechanism)}, SITE, *layouts.values(), torch.device("cpu"))
        out = run_plan(plan, plain_call(q, k, v, scale=1.0, **layouts), {"x": memory}, attend_parts).total
        assert out.flatten().tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125])
        memory.tick()
    assert memory.get("ratio").item() == pytest.approx(0.75)
    assert memory.get("residual").flatten().tolist() == pytest.approx([0, 0, 0.125, 0.125])


def test_four_ablations_of_one_sparse_step() -> None:
    inputs = moving(IMAGE.n, 4)
    allowed = window_map(IMAGE, 0.3)
    q0, k0, v0 = inputs[0]
    share = ((q0 @ k0.mT / 2).softmax(-1) * allowed).sum(-1, keepdim=True)
    old, new = ((a @ b.mT / 2).masked_fill(~allowed, -torch.inf).softmax(-1) @ c for a, b, c in inputs[:2])
    all_ = dense(q0, k0, v0)
    wanted = {
        (False, False): new, (False, True): new + all_ - old,
        (True, False): share * new, (True, True): share * new + all_ - share * old,
    }  # fmt: skip
    for (ratio, residual), expected in wanted.items():
        outs, _ = walk(ReTtention(keep=0.3, dense=0, ratio=ratio, residual=residual), IMAGE, inputs)
        torch.testing.assert_close(outs[1], expected, atol=1e-12, rtol=0)


def test_a_clamp_keeps_shares_at_most_one() -> None:
    rho, age = torch.tensor([[[0.5, 0.95, 1.0]]]), torch.tensor(3.0)
    use = UseStatistics(window=Disc(2), ramp=0.04)
    for changed, expected in (
        (use, [0.62, 1.07, 1.0]),
        (replace(use, clamp=True), [0.62, 1.0, 1.0]),
        (replace(use, ramp_all=True), [0.62, 1.07, 1.12]),
        (replace(use, ramp_all=True, clamp=True), [0.62, 1.0, 1.0]),
    ):
        assert changed.ramped(rho, age).flatten().tolist() == pytest.approx(expected)


def test_padded_keys_count_for_nothing() -> None:
    """Rows in which text is padded, and a row that is padded throughout, give no NaN."""
    keep = torch.ones(2, VIDEO.n, dtype=torch.bool)
    keep[0, 1:3] = keep[1] = False
    inputs = moving(VIDEO.n, 7, torch.float32)
    system = ReTtention(keep=0.3, dense=0)
    outs, _ = walk(system, VIDEO, inputs, mask=KeyPadding(keep))
    changed = [(q, *(torch.where(keep[:, None, :, None], x, 9.0) for x in (k, v))) for q, k, v in inputs]
    others, _ = walk(system, VIDEO, changed, mask=KeyPadding(keep))
    for out, other in zip(outs, others, strict=True):
        assert out.isfinite().all()
        torch.testing.assert_close(out[0], other[0], atol=1e-5, rtol=0)


def test_a_permuted_batch_permutes_outputs_and_a_second_run_is_bitwise_the_first() -> None:
    inputs = moving(VIDEO.n, 9, torch.float32)
    system, memory = ReTtention(keep=0.3, dense=0.2), Memory(OWNER)
    first, _ = walk(system, VIDEO, inputs, memory)
    memory.clear()
    second, _ = walk(system, VIDEO, inputs, memory)
    flipped, _ = walk(system, VIDEO, [(q.flip(0), k.flip(0), v.flip(0)) for q, k, v in inputs])
    for one, two, other in zip(first, second, flipped, strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(one, other.flip(0), atol=1e-6, rtol=0)


def rounding(step: Step) -> float:
    """The largest error of dense attention in the operands' own type."""
    out = attend_parts(plain_call(*step, layout=VIDEO)).total
    return float((out.double() - dense(*(x.double() for x in step))).abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_are_float32_and_as_large_as_published(dtype: torch.dtype) -> None:
    inputs = moving(VIDEO.n, 7, dtype)
    outs, memory = walk(ReTtention(keep=0.3, dense=0), VIDEO, inputs)
    kept = {key: value for key, value in memory.now.items() if isinstance(value, Tensor)}
    assert {x.dtype for x in kept.values()} == {torch.float32}
    q = inputs[0][0]
    assert {key: x.numel() for key, x in kept.items()} == {
        "ratio": q[..., 0].numel(), "residual": q.numel(), "age": 1,
    }  # fmt: skip
    exact, _ = walk(ReTtention(keep=0.3, dense=0), VIDEO, [tuple(x.double() for x in step) for step in inputs])
    plain = max(rounding(step) for step in inputs)
    for out, expected in zip(outs, exact, strict=True):
        assert float((out.double() - expected).abs().max()) <= 4 * plain + 1e-5  # two dense outputs, two of windows


def test_gradients_reach_all_keys_by_the_residual_and_the_window_alone_at_the_step_itself() -> None:
    inputs = [tuple(x.requires_grad_() for x in step) for step in moving(IMAGE.n, 3)]
    outs, _ = walk(ReTtention(keep=0.3, dense=0), IMAGE, inputs)  # type: ignore[arg-type]
    outs[1][0, 0, 0].sum().backward()
    then, now = inputs[0][2].grad, inputs[1][2].grad
    assert then is not None and now is not None
    allowed = window_map(IMAGE, 0.3)[0]
    assert torch.equal(now[0, 0].any(-1), allowed)
    assert (then[0, 0][~allowed] != 0).all()
    torch.testing.assert_close(then[0, 0][allowed], torch.zeros_like(then[0, 0][allowed]), atol=1e-12, rtol=0)


def test_only_its_own_window_is_taken_off_a_mask() -> None:
    window, disc, padding = RasterWindow(0.5), Disc(2), KeyPadding(torch.ones(1, 4, dtype=torch.bool))
    assert without(None, window) is None and without(window, window) is None
    assert without(padding & window, window) is padding and without(window & padding, window) is padding
    left = without((disc & window) & padding, window)
    assert left == disc & padding
    both = disc & padding
    assert without(both, window) is both and without(RasterWindow(0.5), window) is not None


def causal() -> None:
    walk(ReTtention(keep=0.3, dense=0), IMAGE, moving(IMAGE.n, 3), mask=Causal())


def lone() -> None:
    allow = torch.eye(IMAGE.n, dtype=torch.bool)
    allow[7] = False
    every = torch.arange(IMAGE.n)
    walk(ReTtention(mask=Table(every, every, allow), dense=0), IMAGE, moving(IMAGE.n, 3))


def of_other_tokens() -> None:
    label = torch.zeros(7).long()
    walk(ReTtention(mask=Table(label, label, torch.ones(1, 1).bool()), dense=0), IMAGE, moving(IMAGE.n, 3))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReTtention(keep=0), r"keep=0 must be in \(0, 1\], a share of a frame's tokens"),
        (lambda: ReTtention(keep=1.5), r"keep=1.5 must be in \(0, 1\]"),
        (lambda: ReTtention(keep=float("nan")), r"keep=nan must be in"),
        (lambda: ReTtention(keep="1/32"), r"keep='1/32' must be a number"),  # type: ignore[arg-type]
        (lambda: ReTtention(dense=-0.1), r"dense=-0.1 must be in \[0, 1\], the share of the steps that are dense"),
        (lambda: ReTtention(dense=5), r"dense=5 must be in \[0, 1\]"),
        (lambda: ReTtention(period=0), r"period=0 must be a whole number of steps, at least 1; 1 is dense"),
        (lambda: ReTtention(period=2.5), r"period=2.5 must be a whole number"),  # type: ignore[arg-type]
        (lambda: ReTtention(ramp=-0.04), r"ramp=-0.04 must be 0 or above; 0 leaves the shares as they were"),
        (lambda: ReTtention(ramp=float("inf")), r"ramp=inf must be 0 or above"),
        (lambda: ReTtention(compat="v1"), r"compat='v1' must be 'official' or None"),  # type: ignore[arg-type]
        (lambda: ReTtention(where=at(heads=(0,))), r"where.heads=\(0,\) cannot be chosen here; pass where= to attach"),
        (lambda: ReTtention(where=at(kind="cross")), r"where.kinds holds 'cross', whose keys have no places"),
        (
            lambda: walk(ReTtention(keep=0.04, dense=0), IMAGE, moving(IMAGE.n, 3)),
            r"keep=0.04 of the 20 tokens in a frame of 'image' is less than one token; give at least 0.05",
        ),
        (
            lambda: walk(ReTtention(dense=0), Layout.plain(9), moving(9, 3)),
            r"RasterWindow\(keep=0.03125\) needs an image grid and these tokens are text 9; give the layout",
        ),
        (lone, r"mask=Table leaves query 7 of batch row 0, head 0 without a key, so its share of the softmax is 0"),
        (of_other_tokens, r"mask= is a table of 7 queries and 7 keys, the tokens are 20 and 20 \(image 20 \(1x4x5\)\)"),
        (causal, r"attention at site 'blocks.0.attn1' is causal"),
    ],
)
def test_bad_input_says_what_is_wrong(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.bad_input
def test_statistics_that_are_missing_or_of_another_size_are_an_error() -> None:
    late = ReTtention(keep=0.3, dense=0, where=at(during=(0.4, 1)))
    with pytest.raises(
        StateError, match=r"'re_ttention' at 'blocks.0.attn1' \(main\) reads 'ratio' before any step put"
    ):
        walk(late, IMAGE, moving(IMAGE.n, 5))
    system, memory = ReTtention(keep=0.3, dense=0), Memory(OWNER)
    walk(system, IMAGE, moving(IMAGE.n, 3), memory)
    for layout, batch, shape in ((Layout.image_only((1, 4, 6)), 2, "2, 2, 24"), (IMAGE, 3, "3, 2, 20")):
        plan = make_plan({system.name: system.plan(SITE, Clock(step=1, num_steps=3))}, SITE, layout, layout,
                         torch.device("cpu"))  # fmt: skip
        call = plain_call(*operands(layout.n, batch=batch), layout=layout, site=SITE)
        with pytest.raises(
            StateError, match=rf"kept 'ratio' of shape \(2, 2, 20\), this call needs \({shape}\); clear"
        ):
            run_plan(plan, call, {system.name: memory}, attend_parts)


def test_cross_attention_is_left_alone_unless_a_rectangular_mask_is_given() -> None:
    cross = Site(name="blocks.0.attn2", kind="cross", heads=2)
    sparse = Clock(step=6, num_steps=20)
    assert ReTtention().plan(cross, sparse) == ()
    label_q, label_k = torch.arange(20) // 10, torch.arange(6) // 3
    window = Table(label_q, label_k, torch.eye(2, dtype=torch.bool))
    system = ReTtention(mask=window, dense=0, where=at(kind="cross"))
    words, memory, outs = Layout.plain(6), Memory(OWNER), []
    (q, _, _), (k, v, _) = operands(20), operands(6)
    for step in range(3):
        memory.tick()
        items = {system.name: system.plan(cross, Clock(step=step, num_steps=9))}
        plan = make_plan(items, cross, IMAGE, words, torch.device("cpu"))
        call = plain_call(q, k, v, layout_q=IMAGE, layout_k=words, site=cross)
        outs.append(run_plan(plan, call, {system.name: memory}, attend_parts).total)
    torch.testing.assert_close(outs[1], dense(q, k, v), atol=1e-12, rtol=0)
    assert (outs[2] - outs[1]).abs().max() > 1e-3  # the ramp
