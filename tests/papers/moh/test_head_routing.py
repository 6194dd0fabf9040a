"""Gates of heads, and attention under them: the formulas in float64, the exact cases, gathered execution, bad input."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from saccade.nn.attention import SelfAttention
from saccade.nn.part import TokenPositions
from saccade.nn.positions import grid_places, rotary_table, rotate
from saccade.nn.registry import make_mixer
from saccade.nn.routing import record_routing
from saccade.papers.moh.head_routing import HeadCounts, HeadRouter, LearnedGates, NormGates, NormRouter, even, standard
from saccade.papers.moh.mixture_of_heads import MixtureOfHeads, pickers

WIDTH, HEADS = 24, 6
SPLITS = [(2, 2), (0, 3), (1, 2), (5, 1), (3, 3), (6, 0), (0, 6)]
every_split = pytest.mark.parametrize(("shared", "routed"), SPLITS)
counts = st.integers(2, 8).flatmap(
    lambda h: st.integers(0, h).flatmap(
        lambda s: st.integers(0 if s == h else 1, h - s).map(lambda k: HeadCounts(heads=h, shared=s, routed=k))
    )
)


def moh(shared: int, routed: int, *, seed: int = 0, double: bool = True, **options: Any) -> MixtureOfHeads:
    torch.manual_seed(seed)
    made = MixtureOfHeads(WIDTH, HEADS, shared=shared, routed=routed, **options)
    for weight in made.parameters():
        nn.init.normal_(weight, std=0.3)
    return made.double() if double else made


def tokens(n: int = 7, *, rows: int = 2) -> Tensor:
    return torch.randn(rows, n, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def calm(module: MixtureOfHeads) -> MixtureOfHeads:
    """Routers of zero."""
    for weight in module.gates.parameters():
        nn.init.zeros_(weight)
    return module


def plain(module: MixtureOfHeads, dtype: torch.dtype = torch.float64) -> SelfAttention:
    """Attention of the same weights."""
    made = SelfAttention(WIDTH, HEADS).to(dtype)
    made.load_state_dict({name: v for name, v in module.state_dict().items() if not name.startswith("gates")})
    return made


def by_hand(module: MixtureOfHeads, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gates and output as the paper's pseudo-code has them, one token and head at a time."""
    hs, k, c = module.counts.shared, module.counts.routed, module.counts.candidates
    e = module.head_dim
    gates = torch.zeros(*x.shape[:2], HEADS, dtype=x.dtype)
    for b, n in torch.cartesian_prod(*map(torch.arange, x.shape[:2])).tolist():
        shared = hs * (module.gates.shared_router.weight @ x[b, n]).softmax(0) if hs > 1 else torch.ones(hs).double()
        routed = torch.zeros(c).double()
        if k:
            p = (module.gates.router.linear.weight @ x[b, n]).softmax(0)
            top = p.topk(k).indices
            routed[top] = k * p[top] / p[top].sum()
        if hs and k:
            a = 2 * (module.gates.side_router.weight @ x[b, n]).softmax(0)
            shared, routed = a[0] * shared, a[1] * routed
        gates[b, n] = torch.cat((shared, routed))
    q, key, v = module.qkv(x).unflatten(-1, (3, HEADS, e)).permute(2, 0, 3, 1, 4)
    heads = (q @ key.mT / e**0.5).softmax(-1) @ v
    parts = [heads[:, i] * gates[..., i, None] @ module.out.weight[:, i * e : (i + 1) * e].mT for i in range(HEADS)]
    return gates, sum(parts) + module.out.bias


@every_split
def test_equals_the_formulas(shared: int, routed: int) -> None:
    module, x = moh(shared, routed), tokens()
    gates, out = by_hand(module, x)
    torch.testing.assert_close(module.gates(x, module.operands(x, TokenPositions())[0]).value, gates)
    torch.testing.assert_close(module(x, TokenPositions()).out, out)


@given(counts=counts)
def test_gates_sum_to_their_sides_and_no_more_heads_act_than_said(counts: HeadCounts) -> None:
    gates = LearnedGates(WIDTH, counts).double()
    x = tokens()
    value = gates(x, torch.zeros(2, counts.heads, 7, 4)).value
    side = torch.ones(2, 7, 2).double() if gates.side_router is None else 2 * gates.side_router(x).softmax(-1)
    shared, routed = value.split((counts.shared, counts.candidates), dim=-1)
    torch.testing.assert_close(side.sum(-1), torch.full((2, 7), 2.0).double())
    torch.testing.assert_close(shared.sum(-1), side[..., 0] * counts.shared)
    torch.testing.assert_close(routed.sum(-1), side[..., 1] * counts.routed)
    assert (value >= 0).all() and torch.equal((value > 0).sum(-1), torch.full((2, 7), counts.active))


@given(counts=counts)
def test_routers_of_zero_gate_by_exactly_one(counts: HeadCounts) -> None:
    gates = LearnedGates(WIDTH, counts)
    for weight in gates.parameters():
        nn.init.zeros_(weight)
    value = gates(torch.randn(2, 5, WIDTH), torch.zeros(2, counts.heads, 5, 4)).value
    assert set(value.unique().tolist()) <= {0.0, 1.0} and torch.equal(value.sum(-1), torch.full((2, 5), counts.active))


@pytest.mark.parametrize(("shared", "routed"), [(2, 4), (0, 6), (6, 0), (3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_routers_of_zero_and_all_heads_are_plain_attention_to_the_bit(
    shared: int, routed: int, dtype: torch.dtype
) -> None:
    module = calm(moh(shared, routed)).to(dtype)
    x = tokens().to(dtype)
    assert torch.equal(module(x, TokenPositions()).out, plain(module, dtype)(x, TokenPositions()).out)


def test_routers_of_zero_and_fewer_heads_are_attention_without_the_others() -> None:
    module = calm(moh(2, 2))
    without = plain(module)
    with torch.no_grad():
        without.out.weight[:, 4 * module.head_dim :] = 0  # of equals the first are picked
    torch.testing.assert_close(module(tokens(), TokenPositions()).out, without(tokens(), TokenPositions()).out)


def test_sum_over_heads_is_concatenation_and_projection() -> None:
    module = SelfAttention(WIDTH, HEADS)
    x = tokens().float()
    heads = module.heads_of(x, TokenPositions()).out
    weights = module.out.weight.unflatten(1, (HEADS, -1)).unbind(1)
    summed = sum(heads[:, i] @ weight.mT for i, weight in enumerate(weights)) + module.out.bias
    torch.testing.assert_close(module(x, TokenPositions()).out, summed, atol=1e-7, rtol=0)


PLACES = {
    "all": TokenPositions(),
    "padded": TokenPositions(keep=torch.tensor([[True] * 7, [True] * 4 + [False] * 3])),
    "causal": TokenPositions(causal=True),
    "padded, causal": TokenPositions(keep=torch.tensor([[True] * 7, [True] * 4 + [False] * 3]), causal=True),
    "packed": TokenPositions(lengths=(3, 4)),
    "packed, causal": TokenPositions(lengths=(3, 4), causal=True),
}


@every_split
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_gathered_equals_dense(shared: int, routed: int, place: TokenPositions) -> None:
    dense, gathered = (moh(shared, routed, execution=how) for how in ("dense", "gathered"))
    x = tokens(rows=1 if place.lengths else 2)
    a, b = (module(x, place) for module in (dense, gathered))
    torch.testing.assert_close(a.out, b.out)
    assert a.losses == b.losses
    for part in (a, b):
        part.out.square().sum().backward()
    for name, weight in dense.named_parameters():
        torch.testing.assert_close(weight.grad, gathered.get_parameter(name).grad)


def test_gathered_by_norm_equals_dense_but_for_the_gradient_of_what_was_dropped() -> None:
    dense, gathered = (moh(1, 2, routing="norm", rotary=True, execution=how) for how in ("dense", "gathered"))
    place, x = TokenPositions(grid=(7,)), tokens()
    q, k, v = dense.operands(x, place)
    gates = dense.gates(x, q).value
    heads = dense.attend(q, k, v, place).transpose(1, 2) * (gates * (gates > 0))[..., None]
    for out in (dense(x, place).out, gathered(x, place).out):
        torch.testing.assert_close(out, dense.out(heads.flatten(2)))
    wanted = torch.autograd.grad(dense.out(heads.flatten(2)).square().sum(), dense.qkv.weight)[0]
    full, found = (torch.autograd.grad(m(x, place).out.square().sum(), m.qkv.weight)[0] for m in (dense, gathered))
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(full, wanted)


@every_split
def test_gathered_attends_for_the_queries_of_each_head_alone(
    shared: int, routed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sequence: of all pairs of head and query the share that is active."""
    attend, queries = F.scaled_dot_product_attention, []

    def counted(q: Tensor, *given: Any, **more: Any) -> Tensor:
        queries.append(q.shape[-2])
        return attend(q, *given, **more)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    moh(shared, routed, execution="gathered")(tokens(rows=1), TokenPositions())
    assert sum(queries) == 7 * (shared + routed)


def test_a_head_that_nobody_picked_is_not_computed() -> None:
    assert pickers(torch.zeros(2, 5), every=False).shape == (2, 0)
    used = torch.tensor([[0.0, 1, 0, 1], [0, 0, 0, 2]])
    assert pickers(used, every=False).tolist() == [[1, 3], [3, 0]]
    module = moh(1, 1, routing="norm", execution="gathered")
    with torch.no_grad():
        for part in (module.qkv.weight.view(3, HEADS, -1, WIDTH), module.qkv.bias.view(3, HEADS, -1)):
            part[0, 3] = 0  # a query of length zero is never picked
            part[2, 3] = torch.nan
    assert module(tokens(), TokenPositions()).out.isfinite().all()


@given(e=st.integers(2, 6), k=st.integers(1, 6), seed=st.integers(0, 99))
def test_loss_is_k_when_probabilities_are_even_and_at_most_e(e: int, k: int, seed: int) -> None:
    k = min(k, e)
    module = MixtureOfHeads(WIDTH, e + 1, shared=1, routed=k, head_dim=4, balance=1.0).double()
    x = tokens() + 2  # a positive mean, so that one head can win every token
    weight = module.gates.router.linear.weight
    nn.init.zeros_(weight)
    torch.testing.assert_close(module(x, TokenPositions()).losses["head_balance"].item(), float(k))
    nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(seed))
    assert 0 < module(x, TokenPositions()).losses["head_balance"].item() <= e * (1 + 1e-9)
    with torch.no_grad():
        weight.zero_()
        weight[-1] = 1e3 * x.mean((0, 1))
    torch.testing.assert_close(module(x, TokenPositions()).losses["head_balance"].item(), float(e))


def test_checkpointing_counts_the_loss_once() -> None:
    module, x = moh(2, 2), tokens().requires_grad_()
    plain, kept = module(x, TokenPositions()), checkpoint(module, x, TokenPositions(), use_reentrant=False)
    assert torch.equal(kept.losses["head_balance"], plain.losses["head_balance"])
    wanted, found = (
        torch.autograd.grad(p.losses["head_balance"] + p.out.sum(), [x, *module.parameters()]) for p in (plain, kept)
    )
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_loss_counts_no_padding_and_follows_probabilities_alone() -> None:
    module, x = moh(2, 2, balance=0.01), tokens()
    keep = torch.arange(7).lt(4).expand(2, -1)
    kept = module(x, TokenPositions(keep=keep)).losses["head_balance"]
    torch.testing.assert_close(kept, module(x[:, :4], TokenPositions()).losses["head_balance"])
    me = (x[:, :4] @ module.gates.router.linear.weight.mT).softmax(-1).flatten(0, 1)
    ce = torch.zeros_like(me).scatter(1, me.topk(2).indices, 1).mean(0)
    torch.testing.assert_close(kept, 0.01 * 4**2 * (me.mean(0) * ce).mean())
    wanted = torch.autograd.grad(0.01 * 4 * (me.mean(0) * ce).sum(), module.gates.router.linear.weight)[0]
    torch.testing.assert_close(torch.autograd.grad(kept, module.gates.router.linear.weight)[0], wanted)
    assert moh(2, 2, balance=0.0)(x, TokenPositions()).losses == {} and moh(6, 0)(x, TokenPositions()).losses == {}


@every_split
@pytest.mark.parametrize("routing", ["learned", "norm"])
def test_tokens_may_be_reordered_and_rows_do_not_meet(shared: int, routed: int, routing: str) -> None:
    module, x = moh(shared, routed, routing=routing), tokens()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    out = module(x, TokenPositions()).out
    torch.testing.assert_close(module(x[:, order], TokenPositions()).out, out[:, order])
    torch.testing.assert_close(module(x[1:], TokenPositions()).out, out[1:])


def test_a_dropped_head_learns_nothing_from_the_token_and_every_router_learns() -> None:
    module, x = moh(2, 1), tokens(1, rows=1)
    gates = module.gates(x, module.operands(x, TokenPositions())[0]).value[0, 0]
    module(x, TokenPositions()).out.square().sum().backward()
    value = module.qkv.weight.grad.view(3, HEADS, -1, WIDTH)[2]  # of one token only its values count
    assert torch.equal(value.flatten(1).any(1), gates > 0)
    module(tokens(), TokenPositions()).out.square().sum().backward()
    module(tokens(), TokenPositions()).losses["head_balance"].backward()
    assert all(weight.grad.any() for weight in module.gates.parameters())


@every_split
def test_extra_weights(shared: int, routed: int) -> None:
    module = moh(shared, routed)
    extra = sum(p.numel() for p in module.parameters()) - sum(p.numel() for p in plain(module).parameters())
    candidates = HEADS - shared
    routers = candidates * bool(routed) + shared * (shared > 1) + 2 * bool(shared and routed)
    assert extra == WIDTH * routers
    assert not list(moh(shared, routed, routing="norm").gates.parameters())


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 50))
def test_picks_by_norm_ignore_scale_and_rotation(scale: float, seed: int) -> None:
    q = torch.randn(2, 6, 5, 8, generator=torch.Generator().manual_seed(seed)).double()
    gates = NormGates(HeadCounts(heads=6, shared=2, routed=2))
    value = gates(None, q).value
    scales = torch.rand(2, 1, 5, 1).double() + scale
    torch.testing.assert_close(gates(None, q * scales).value, value)
    torch.testing.assert_close(gates(None, rotate(q, rotary_table(grid_places((5,)), (8,)))).value, value)
    assert torch.equal(value.sum(-1), torch.full((2, 5), 4.0).double()) and value[..., :2].eq(1).all()


def test_probabilities_by_norm_are_those_of_the_released_formula() -> None:
    q = torch.randn(2, 6, 5, 8).double()
    norms = q.norm(dim=-1).mT
    wanted = (norms / norms.std(-1, keepdim=True)).softmax(-1)
    routing = NormRouter(2)(q)
    torch.testing.assert_close(routing.probs, wanted)
    assert torch.equal(routing.index, wanted.topk(2).indices) and routing.weight.eq(1).all()


def test_gates_by_norm_are_hard_forward_and_soft_backward() -> None:
    q = torch.randn(1, 6, 5, 8).double().requires_grad_()
    push = torch.randn(1, 5, 6).double()
    value = NormGates(HeadCounts(heads=6, shared=3, routed=1))(None, q).value
    assert set(value.unique().tolist()) == {0.0, 1.0}
    norms = q[:, 3:].norm(dim=-1).mT
    soft = (norms / norms.std(-1, keepdim=True)).softmax(-1)
    wanted = torch.autograd.grad((soft * push[..., 3:]).sum(), q, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad((value * push).sum(), q)[0], wanted)


def test_one_candidate_or_equal_norms_need_no_deviation() -> None:
    assert NormRouter(1)(torch.randn(1, 1, 3, 4)).probs.eq(1).all()
    assert standard(torch.full((2, 5), 3.0)).eq(0).all()
    gates = NormGates(HeadCounts(heads=4, shared=3, routed=1))
    assert gates(None, torch.randn(1, 4, 3, 4)).value.eq(1).all()


def test_probabilities_are_single_precision_in_half_precision() -> None:
    x = tokens().bfloat16()
    assert HeadRouter(WIDTH, 4, 2).bfloat16()(x).probs.dtype == torch.float32
    assert even(x).dtype == torch.float32
    assert moh(2, 2).bfloat16()(x, TokenPositions()).out.dtype == torch.bfloat16


def test_recorder_hears_the_picks() -> None:
    module = moh(2, 2)
    with record_routing(module) as found:
        module(tokens(), TokenPositions())
    assert found["gates.router"][0].index.shape == (2, 7, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "moh(shared=4, routed=3)",
            "shared=4 and routed=3 of heads=6 are more than there are; at most 2 can be routed",
        ),
        ("moh(shared=0, routed=7)", "at most 6 can be routed"),
        ("moh(shared=0, routed=0)", "at least one head must be active"),
        ("moh(shared=-1, routed=2)", "shared=-1 and routed=2 of heads=6 must not be negative"),
        ("moh(shared=4, routed=0)", "leave 2 heads to nobody"),
        ("moh(heads=1, head_dim=4, shared=1, routed=0)", "a single head is plain attention"),
        ("moh(shared=2, routed=2, balance=-1)", "balance=-1 must not be negative"),
        ("moh(shared=2, routed=2, routing='random')", "routing='random' must be 'learned' or 'norm'"),
        ("moh(shared=2, routed=2, execution='fast')", "execution='fast' must be 'dense' or 'gathered'"),
        ("moh(shared=2, routed=2, routing='norm', qk_norm=True)", "routing='norm' reads the lengths of q"),
        ("moh(heads=5, shared=2, routed=2)", "width=24 must be a multiple of heads=5, or give head_dim"),
    ],
)
def test_bad_counts(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_mixer(text, WIDTH, HEADS)


def test_one_shared_head_and_heads_of_any_width_are_fine() -> None:
    made = make_mixer("moh(heads=5, head_dim=3, shared=1, routed=2)", WIDTH, HEADS)
    assert made(torch.randn(1, 3, WIDTH), TokenPositions()).out.shape == (1, 3, WIDTH)


def test_calls_of_other_heads_and_broken_logits_are_told() -> None:
    with pytest.raises(ValueError, match="gates for heads=6 got a call of 4 heads"):
        NormGates(HeadCounts(heads=6, shared=2, routed=2))(None, torch.randn(1, 4, 3, 2))
    with pytest.raises(FloatingPointError, match="router 'heads' has NaN logits"):
        moh(2, 2)(tokens() * torch.nan, TokenPositions())
