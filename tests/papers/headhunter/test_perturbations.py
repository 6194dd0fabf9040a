"""Closed forms of the perturbed maps against maps written out, and what the paper says of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.biases import LowRank, PerKey
from saccade.core.call import AttentionCall, plain_call
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding
from saccade.core.places import Disc
from saccade.core.rows import Rows
from saccade.core.state import Memory
from saccade.ops import attend
from saccade.ops.parts import attend_parts
from saccade.ops.subset import put_heads, subset, take_heads
from saccade.papers.headhunter import KINDS, SCOPES
from saccade.papers.headhunter.perturbations import pairs_of, perturbed
from saccade.papers.headhunter.weakened_heads import WeakenedHeads
from tests.papers.headhunter.by_map import EVERY, IMAGE, JOINT, LAYOUTS, weak_map

every = pytest.mark.parametrize(("kind", "scope"), EVERY, ids=["-".join(each) for each in EVERY])
CLOSE = {"atol": 1e-10, "rtol": 1e-9}


def call_of(layout: Layout, seed: int = 0, batch: int = 2, heads: int = 3, key_heads: int = 3) -> AttentionCall:
    g = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(batch, h, layout.n, 8, generator=g, dtype=torch.float64) for h in (heads, key_heads, key_heads)
    )
    return plain_call(q, k, v, layout=layout)


def scores_of(call: AttentionCall) -> Tensor:
    return call.q @ call.k.mT * call.scale


def by_map(call: AttentionCall, kind: str, scope: str, **more: object) -> Tensor:
    given_scores = more.pop("scores", None)
    scores = scores_of(call) if given_scores is None else given_scores
    a = weak_map(scores, call.q, call.k, kind, scope, call.layout_q, scale=float(call.scale), **more)  # type: ignore[arg-type]
    return (a @ call.v)[:, :, pairs_of(scope, call.layout_q, call.layout_q).queries]  # type: ignore[arg-type]


def closed(call: AttentionCall, kind: str, scope: str, tau: float = 1.0) -> Tensor:
    return perturbed(call, kind, pairs_of(scope, call.layout_q, call.layout_k), tau)  # type: ignore[arg-type]


@every
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_closed_form_is_the_map(kind: str, scope: str, layout: Layout) -> None:
    call = call_of(layout)
    torch.testing.assert_close(closed(call, kind, scope, 2.5), by_map(call, kind, scope, tau=2.5), **CLOSE)


@every
def test_padding_a_bias_and_another_mask_hold(kind: str, scope: str) -> None:
    call = call_of(JOINT)
    keep = torch.ones(2, JOINT.n, dtype=torch.bool)
    keep[0, 3:5] = False
    padded = call.replace(mask=KeyPadding(keep))
    masked = scores_of(call).masked_fill(~keep[:, None, None], -torch.inf)
    real = keep[0] if scope == "all" else torch.ones(12, dtype=torch.bool)  # no picture reads what padding gives
    ours, by_hand = closed(padded, kind, scope, 2.0), by_map(call, kind, scope, tau=2.0, scores=masked, keep=keep)
    torch.testing.assert_close(ours[:, :, real], by_hand[:, :, real], **CLOSE)
    if kind in ("identity", "max"):  # scores of a query and a key of their own
        g = torch.Generator().manual_seed(1)
        phi = torch.randn(2, 1, 3, JOINT.n, 2, generator=g, dtype=torch.float64)
        bias = LowRank(*phi) + PerKey(torch.randn(1, 3, JOINT.n, generator=g, dtype=torch.float64))
        disc = Disc(1.5).materialize(JOINT, JOINT)
        both = scores_of(call) + bias.materialize(JOINT.n, JOINT.n)
        both = both.masked_fill(~(disc & keep[:, None, None]), -torch.inf)
        stacked = padded.replace(mask=Disc(1.5) & KeyPadding(keep), bias=bias)
        ours, by_hand = closed(stacked, kind, scope), by_map(call, kind, scope, scores=both)
        torch.testing.assert_close(ours[:, :, real], by_hand[:, :, real], **CLOSE)


@every
def test_rows_sum_to_one_and_no_share_is_negative(kind: str, scope: str) -> None:
    call = call_of(JOINT)
    unit = torch.eye(JOINT.n, dtype=torch.float64).expand(2, 3, -1, -1)
    shares = closed(call.replace(v=unit.contiguous()), kind, scope, 3.0)  # v of unit vectors: the map itself
    assert (shares >= 0).all()
    torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:-1], dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_without_text_all_scopes_are_one(kind: str) -> None:
    call = call_of(IMAGE)
    first, *others = (closed(call, kind, scope, 2.0) for scope in SCOPES)
    for other in others:
        torch.testing.assert_close(other, first, **CLOSE)


def test_the_identity_over_all_is_v_exactly_and_the_uniform_map_its_mean() -> None:
    call = call_of(JOINT)
    assert torch.equal(closed(call, "identity", "all"), call.v)
    torch.testing.assert_close(closed(call, "uniform", "all"), call.v.mean(2, keepdim=True).expand_as(call.v), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_token_has_nothing_to_lose(kind: str) -> None:
    call = call_of(Layout.image_only((1, 1, 1)))
    for scope in SCOPES:
        torch.testing.assert_close(closed(call, kind, scope, 2.0), call.v, **CLOSE)


@every
def test_constant_values_leave_the_output(kind: str, scope: str) -> None:
    call = call_of(JOINT)
    call = call.replace(v=call.v[:, :, :1].expand_as(call.v).contiguous())
    torch.testing.assert_close(closed(call, kind, scope, 2.0), call.v[:, :, pairs_of(scope, JOINT, JOINT).queries])


@pytest.mark.parametrize("scope", SCOPES)
def test_equal_queries_are_their_own_mean(scope: str) -> None:
    call = call_of(JOINT)
    call = call.replace(q=call.q[:, :, :1].expand_as(call.q).contiguous())
    own = attend(call).out[:, :, pairs_of(scope, JOINT, JOINT).queries]  # type: ignore[arg-type]
    torch.testing.assert_close(closed(call, "query_mean", scope), own, **CLOSE)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_temperature_goes_from_the_best_key_over_the_map_to_the_uniform_one(scope: str) -> None:
    call = call_of(JOINT)
    own = attend(call).out[:, :, pairs_of(scope, JOINT, JOINT).queries]  # type: ignore[arg-type]
    torch.testing.assert_close(closed(call, "temperature", scope, 1.0), own, **CLOSE)
    torch.testing.assert_close(
        closed(call, "temperature", scope, 1e9), closed(call, "uniform", scope), atol=1e-7, rtol=0
    )
    if scope != "image_block":  # there the best key keeps its score, and does not gain on the text
        cold = closed(call, "temperature", scope, 1e-6)
        torch.testing.assert_close(cold, closed(call, "max", scope), atol=1e-6, rtol=0)


@given(seed=st.integers(0, 99), kind=st.sampled_from(["identity", "uniform"]))
def test_permuting_tokens_commutes(seed: int, kind: str) -> None:
    call = call_of(Layout.plain(7), seed)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    moved = call.replace(**{name: getattr(call, name)[:, :, order] for name in "qkv"})
    torch.testing.assert_close(closed(moved, kind, "all"), closed(call, kind, "all")[:, :, order], **CLOSE)


def weak(call: AttentionCall, **options: object) -> Tensor:
    rows = Rows.of("uncond", "cond").weakened((1,))
    mechanism = WeakenedHeads(**options)  # type: ignore[arg-type]
    return mechanism.blend(call.replace(rows=rows), attend_parts(call), Memory()).total


@every
@given(u=st.floats(0, 1))
def test_the_output_is_linear_in_u_with_the_gradient_it_should_have(kind: str, scope: str, u: float) -> None:
    call = call_of(JOINT, batch=3)
    at = {x: weak(call, heads=(0, 2), kind=kind, scope=scope, u=x, tau=2.0) for x in (0.0, u, 1.0)}
    torch.testing.assert_close(at[u], (1 - u) * at[0.0] + u * at[1.0], **CLOSE)


@every
def test_heads_that_were_not_chosen_and_other_rows_are_left_to_the_bit(kind: str, scope: str) -> None:
    call = call_of(JOINT, batch=3)
    plain, out = attend(call).out, weak(call, heads=(0, 2), kind=kind, scope=scope, tau=2.0)
    assert torch.equal(out[:2], plain[:2]) and torch.equal(out[2, 1], plain[2, 1])
    assert (out[2, 0] - plain[2, 0]).abs().max() > 1e-3
    queries = pairs_of(scope, JOINT, JOINT).queries  # type: ignore[arg-type]
    outside = [i for i in range(JOINT.n) if not queries.start <= i < queries.stop]
    assert torch.equal(out[2, :, outside], plain[2, :, outside])


@every
def test_gradients_are_those_of_the_map(kind: str, scope: str) -> None:
    call = call_of(JOINT, batch=1)
    found = []
    for make in (closed, by_map):
        q, k, v = (getattr(call, name).clone().requires_grad_() for name in "qkv")
        options = (2.0,) if make is closed else ()
        more = {} if make is closed else {"tau": 2.0}
        make(call.replace(q=q, k=k, v=v), kind, scope, *options, **more).square().sum().backward()  # type: ignore[operator]
        found.append([torch.zeros_like(x) if x.grad is None else x.grad for x in (q, k, v)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-6)


def test_shared_heads_of_keys_are_repeated() -> None:
    call = call_of(JOINT, heads=4, key_heads=2)
    spread = call.replace(k=call.k.repeat_interleave(2, 1), v=call.v.repeat_interleave(2, 1))
    for kind, scope in EVERY:
        some, whole = (subset(c, 0, (1, 2)) for c in (call, spread))
        torch.testing.assert_close(closed(some, kind, scope, 2.0), closed(whole, kind, scope, 2.0), **CLOSE)


def test_long_sequences_go_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    call = call_of(JOINT)
    whole = {kind: closed(call, kind, "image_block") for kind in ("max", "identity")}
    monkeypatch.setattr("saccade.papers.headhunter.perturbations.HELD", 200)
    for kind, out in whole.items():
        torch.testing.assert_close(closed(call, kind, "image_block"), out, **CLOSE)


def test_a_part_of_a_call_has_its_own_masks_and_biases() -> None:
    call = call_of(JOINT, batch=3)
    g = torch.Generator().manual_seed(2)
    keep = torch.rand(3, JOINT.n, generator=g) > 0.3
    keep[:, 0] = True
    per_head = PerKey(torch.randn(3, 3, JOINT.n, generator=g, dtype=torch.float64))
    factors = LowRank(*torch.randn(2, 1, 3, JOINT.n, 2, generator=g, dtype=torch.float64))
    for bias in (per_head, factors, per_head + factors):
        given_call = call.replace(mask=KeyPadding(keep) & Disc(2.0), bias=bias)
        whole = attend(given_call, kernel="reference").out
        part = attend(subset(given_call, 1, (2, 0)), kernel="reference").out
        torch.testing.assert_close(part, whole[1:][:, [2, 0]], **CLOSE)


def test_heads_are_taken_and_put_back() -> None:
    x = torch.randn(2, 4, 3)
    assert take_heads(x, (0, 1, 2, 3)) is x
    assert torch.equal(put_heads(x, (2, 0), take_heads(x, (2, 0))), x)
    assert torch.equal(put_heads(x, (1,), torch.zeros(2, 1, 3))[:, 1], torch.zeros(2, 3))


@pytest.mark.bad_input
def test_tokens_that_are_no_use_are_refused() -> None:
    mechanism = WeakenedHeads(heads=(0,))
    with pytest.raises(ValueError, match=r"queries \(image 12 .*\) and keys \(text 5\) are different tokens"):
        mechanism.check(IMAGE, Layout.plain(5))
    with pytest.raises(ValueError, match="scope='image_block' needs one image grid, here are text 5; use 'all'"):
        mechanism.check(Layout.plain(5), Layout.plain(5))
    WeakenedHeads(heads=(0,), scope="all").check(Layout.plain(5), Layout.plain(5))
