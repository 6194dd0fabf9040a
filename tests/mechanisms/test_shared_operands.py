"""Operands of target rows drawn towards those of their source rows."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.layout import Layout
from saccade.core.rows import Rows
from saccade.core.state import Memory
from saccade.mechanisms.shared_operands import OPERANDS, SharedOperands

LAYOUTS = {
    "text first": Layout.joint(text=3, grid=(1, 2, 4)),
    "text last": Layout.joint(text=3, grid=(1, 2, 4), text_first=False),
    "video alone": Layout.image_only((2, 2, 3)),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
PAIR = Rows.of("source", "target", samples=2)


def made(layout: Layout, rows: Rows = PAIR, seed: int = 0) -> AttentionCall:
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(rows.n, 2, layout.n, 4, generator=g, dtype=torch.float64) for _ in OPERANDS)
    return plain_call(q, k, v, layout=layout, rows=rows)


def places(layout: Layout, seed: int = 1, samples: int = 1) -> Tensor:
    assert layout.image.grid is not None
    return torch.rand(samples, *layout.image.grid, generator=torch.Generator().manual_seed(seed))


def shared(call: AttentionCall, **options: Any) -> AttentionCall:
    return SharedOperands(**options).operands(call, Memory())


def kept_places(layout: Layout) -> Tensor:
    """(s t h w) ones and zeros."""
    return (places(layout, samples=2) > 0.5).float()


@every_layout
def test_equals_the_blend_written_out_token_by_token(layout: Layout) -> None:
    call, weight = made(layout), places(layout, samples=2)
    out = shared(call, weights={"k": weight})
    expected, start = call.k.clone(), layout.span("image").start
    for target, source in ((2, 0), (3, 1)):
        for i, w in enumerate(weight[PAIR.samples[target]].flatten().double().tolist()):
            mine, theirs = call.k[target, :, start + i], call.k[source, :, start + i]
            expected[target, :, start + i] = w * theirs + (1 - w) * mine
    torch.testing.assert_close(out.k, expected, atol=1e-13, rtol=0)
    assert out.q is call.q and out.v is call.v


@every_layout
def test_one_is_bitwise_the_source_and_zero_bitwise_the_target(layout: Layout) -> None:
    call, keep = made(layout), kept_places(layout)
    out = shared(call, weights=dict.fromkeys(OPERANDS, keep))
    image = layout.is_("image")
    for name in OPERANDS:
        old, new = getattr(call, name), getattr(out, name)
        assert torch.equal(new[:2], old[:2])  # sources
        assert torch.equal(new[2:, :, ~image], old[2:, :, ~image])  # text
        for target, source in ((2, 0), (3, 1)):
            copied = keep[PAIR.samples[target]].flatten() == 1
            assert torch.equal(new[target][:, image][:, copied], old[source][:, image][:, copied])
            assert torch.equal(new[target][:, image][:, ~copied], old[target][:, image][:, ~copied])


@given(weight=st.floats(0, 1))
def test_blends_are_convex(weight: float) -> None:
    layout = LAYOUTS["text first"]
    call = made(layout)
    out = shared(call, weights={"v": weight})
    low, high = torch.minimum(call.v[:2], call.v[2:]), torch.maximum(call.v[:2], call.v[2:])
    assert ((out.v[2:] >= low - 1e-12) & (out.v[2:] <= high + 1e-12)).all()


@every_layout
@given(weight=st.floats(0, 1))
def test_equal_rows_stay_as_they_are(layout: Layout, weight: float) -> None:
    call = made(layout)
    twins = call.replace(**{name: getattr(call, name)[[0, 1, 0, 1]] for name in OPERANDS})
    out = shared(twins, weights=dict.fromkeys(OPERANDS, weight), text=OPERANDS)
    assert all(torch.equal(getattr(out, name), getattr(twins, name)) for name in OPERANDS)


def test_text_is_shared_when_asked() -> None:
    layout = LAYOUTS["text last"]
    call = made(layout)
    out = shared(call, weights={"q": 1.0, "v": 1.0}, text=("q",))
    assert torch.equal(out.q[2:], call.q[:2])
    assert torch.equal(out.v[2:, :, layout.span("text")], call.v[2:, :, layout.span("text")])


def test_branches_of_guidance_are_paired_each_with_its_own() -> None:
    layout, rows = LAYOUTS["text first"], PAIR.under("uncond", "cond")
    call = made(layout, rows)
    out = shared(call, weights={"q": 1.0})
    image = layout.span("image")
    assert torch.equal(out.q[[2, 3, 6, 7]][:, :, image], call.q[[0, 1, 4, 5]][:, :, image])
    mixed = Rows(("target", "source", "source", "target"), (1, 0, 1, 0))
    out = shared(made(layout, mixed), weights={"q": 1.0})
    assert torch.equal(out.q[[0, 3]][:, :, image], made(layout, mixed).q[[2, 1]][:, :, image])


def test_a_tape_replaces_the_sources_own() -> None:
    layout = LAYOUTS["text first"]
    call, image, text = made(layout), layout.span("image"), layout.span("text")
    tape = {"q": torch.randn(2, 2, 8, 4, dtype=torch.float64)}
    out = shared(call, weights={"q": kept_places(layout)}, taped=tape)
    assert torch.equal(out.q[:2, :, image], tape["q"]) and torch.equal(out.q[:2, :, text], call.q[:2, :, text])
    by_hand = call.replace(q=torch.cat((torch.cat((call.q[:2, :, text], tape["q"]), dim=2), call.q[2:])))
    assert torch.equal(out.q, shared(by_hand, weights={"q": kept_places(layout)}).q)


def test_a_tape_stands_for_a_source_that_is_not_there() -> None:
    layout, image = LAYOUTS["text first"], LAYOUTS["text first"].span("image")
    whole = made(layout)
    tape = {name: getattr(whole, name)[:2, :, image] for name in OPERANDS}
    alone = whole.replace(rows=Rows.of("target", samples=2), **{n: getattr(whole, n)[2:] for n in OPERANDS})
    weights = dict.fromkeys(OPERANDS, places(layout))
    with_rows, with_tape = shared(whole, weights=weights), shared(alone, weights=weights, taped=tape)
    assert all(torch.equal(getattr(with_tape, n), getattr(with_rows, n)[2:]) for n in OPERANDS)


def test_a_tape_of_one_branch_serves_both() -> None:
    layout, image = LAYOUTS["text first"], LAYOUTS["text first"].span("image")
    call = made(layout, Rows.of("source", "target").under("uncond", "cond"))
    tape = {"k": torch.randn(1, 2, 8, 4, dtype=torch.float64)}
    out = shared(call, weights={"k": 1.0}, taped=tape)
    assert torch.equal(out.k[:, :, image], tape["k"].expand(4, -1, -1, -1))


@pytest.mark.bad_input
def test_what_does_not_fit_is_refused() -> None:
    layout = LAYOUTS["text first"]
    call = made(layout)
    with pytest.raises(
        ValueError, match=r"a mask over \(1, 2, 3\) .* does not fit q of a grid \(1, 2, 4\); make it on"
    ):
        SharedOperands(weights={"q": torch.ones(1, 1, 2, 3)}).check(layout, layout)
    with pytest.raises(
        ValueError, match=r"target rows \[1\] have no source row of their sample.*give Rows.of\('source'"
    ):
        shared(call.replace(rows=Rows(("source", "target", "source", "target"), (0, 1, 2, 2))), weights={"q": 1.0})
    with pytest.raises(ValueError, match=r"a tape of q \(3, 2, 8, 4\) does not fit source rows \(2, 2, 8, 4\)"):
        shared(call, weights={"q": 1.0}, taped={"q": torch.ones(3, 2, 8, 4)})
    alone = call.replace(rows=Rows.of("target", samples=4))
    with pytest.raises(ValueError, match="v has no source: neither a source row nor a tape of v; tape it"):
        shared(alone, weights={"v": 1.0}, taped={"q": torch.ones(4, 2, 8, 4)})
    with pytest.raises(ValueError, match="mask is for 3 samples"):
        shared(call, weights={"q": torch.ones(3, 1, 2, 4)})
