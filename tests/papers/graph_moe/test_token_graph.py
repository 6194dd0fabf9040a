"""Routing by a graph of tokens: distributions, limits, bounds on entropy, causality, gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.models.dit import DiT
from saccade.nn.attention import SelfAttention
from saccade.nn.moe import MoE
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_feedforward
from saccade.nn.routing import record_routing
from saccade.papers.graph_moe.token_graph import (
    AttentionMoE,
    Mean,
    SimilarityMoE,
    entropy,
    masked_softmax,
    nearness,
    posterior,
)

TEXTS = ("similar_moe", "attention_moe")


def _moe(text: str = "similar_moe", **options: object) -> MoE:
    torch.manual_seed(0)
    written = "".join(f", {name}={value!r}" for name, value in options.items())
    made = make_feedforward(f"{text}(experts=5, top=2, hidden=12{written})", 8).double().eval()
    assert isinstance(made, MoE)
    return made


def _x(tokens: int = 7) -> torch.Tensor:
    return torch.randn(2, tokens, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _place(x: torch.Tensor, **given: object) -> TokenPositions:
    """With what an attention saw of x."""
    torch.manual_seed(2)
    attention = SelfAttention(8, 2, return_trace=True).double()
    place = TokenPositions(**given)  # type: ignore[arg-type]
    return TokenPositions(seen=attention(x, place).seen, **given)  # type: ignore[arg-type]


def _baseline(moe: MoE, x: torch.Tensor) -> torch.Tensor:
    plain = MoE(8, experts=5, top=2, hidden=12, norm_topk=True, shared=0).double().eval()
    plain.load_state_dict({name: value for name, value in moe.state_dict().items() if "similarity" not in name})
    return plain(x, TokenPositions()).out


@pytest.mark.parametrize("text", TEXTS)
def test_rows_are_distributions_and_weights_sum_to_one(text: str) -> None:
    moe, x = _moe(text), _x()
    with record_routing(moe) as found:
        moe(x, _place(x))
    routing = found["router"][0]
    assert (routing.probs >= 0).all()
    torch.testing.assert_close(routing.probs.sum(-1), torch.ones(2, 7, dtype=torch.float64))
    torch.testing.assert_close(routing.weight.sum(-1), torch.ones(2, 7, dtype=torch.float64))


def test_similarity_is_its_formula() -> None:
    moe, x = _moe(tau=0.7), _x()
    w = moe.similarity.q.weight  # u_i^T W^T u_j
    s = torch.stack([torch.softmax((u @ w.mT @ u.mT) / 0.7, dim=-1) for u in x])
    wanted = s @ moe.router.gate(x).softmax(-1)
    torch.testing.assert_close(moe.route(x, TokenPositions()).probs, wanted)
    torch.testing.assert_close(w, torch.eye(8, dtype=torch.float64) / 8**0.5)


@pytest.mark.parametrize(("space", "heads"), [("head", 0), ("head", "mean"), ("model", 1)])
def test_attention_is_its_formula(space: str, heads: object) -> None:
    moe, x = _moe("attention_moe", sigma=0.8, space=space, heads=heads), _x()
    place = _place(x)
    assert place.seen is not None
    q, k, v, out, join = place.seen
    assert join is not None
    rows = torch.zeros(2, 2, 7, 7, dtype=torch.float64)
    for b in range(2):
        for h in range(2):
            a = torch.softmax(q[b, h] @ k[b, h].mT / 2, dim=-1)
            left, right = out[b, h], v[b, h]
            if space == "model":
                left = join(out[b].transpose(0, 1).flatten(1))
                right = v[b, h] @ join.weight[:, 4 * h : 4 * h + 4].mT
            weight = a * torch.exp(-(torch.cdist(left, right) ** 2) / (2 * 0.8**2))
            rows[b, h] = weight / weight.sum(-1, keepdim=True)
    wanted = rows.mean(1) if heads == "mean" else rows[:, heads]  # type: ignore[index]
    torch.testing.assert_close(moe.graph(place.seen, place), wanted)


def test_the_surest_head_is_taken_for_all_or_for_each() -> None:
    x = _x()
    place = _place(x)
    every = posterior(place.seen, None, 1.0)
    spread = entropy(every).mean(-1)
    one, each = (_moe("attention_moe", per_sample=per_sample).graph(place.seen, place) for per_sample in (False, True))
    assert torch.equal(one, every[:, spread.mean(0).argmin()])
    assert torch.equal(each, torch.stack([every[b, spread[b].argmin()] for b in range(2)]))


def test_looking_at_oneself_alone_is_the_baseline() -> None:
    x = torch.nn.functional.normalize(_x(), dim=-1)
    cold = _moe(tau=1e-4)
    assert torch.equal(cold(x, TokenPositions()).out, _baseline(cold, x))
    for text in TEXTS:
        moe, single = _moe(text), _x(1)
        torch.testing.assert_close(moe(single, _place(single)).out, _baseline(moe, single), rtol=1e-12, atol=1e-14)


def test_hot_similarity_is_alike_for_all() -> None:
    probs = _moe(tau=1e9).route(_x(), TokenPositions()).probs
    torch.testing.assert_close(probs, probs[:, :1].expand_as(probs))


def test_wide_and_narrow_gaussians() -> None:
    place = _place(_x())
    seen = place.seen
    torch.testing.assert_close(posterior(seen, None, 1e6), posterior(seen, None, None))
    narrow = posterior(seen, None, 1e-4)
    nearest = torch.cdist(seen.out, seen.v).argmin(-1)
    torch.testing.assert_close(narrow, torch.nn.functional.one_hot(nearest, 7).to(narrow))
    assert nearness(seen, "head").shape == (2, 2, 7, 7)


@given(tokens=st.integers(1, 6), experts=st.integers(1, 5), sharp=st.floats(0.1, 10))
@settings(deadline=None, max_examples=50)
def test_entropy_lies_between_its_bounds(tokens: int, experts: int, sharp: float) -> None:
    s = (sharp * torch.randn(1, tokens, tokens, dtype=torch.float64)).softmax(-1)
    e = (sharp * torch.randn(1, tokens, experts, dtype=torch.float64)).softmax(-1)
    mixed, mean = entropy(s @ e), s @ entropy(e)[..., None]
    assert (mixed >= mean[..., 0] - 1e-12).all() and (mixed <= mean[..., 0] + entropy(s) + 1e-12).all()
    chosen = torch.nn.functional.one_hot(torch.randint(tokens, (1, tokens)), tokens).double() + 1e-9 * torch.eye(tokens)
    restricted = Mean(chosen / chosen.sum(-1, keepdim=True), restrict=True)(e)
    sure = entropy(e)[:, None, :] <= entropy(e)[:, :, None]
    one_hot = Mean(torch.where(sure, chosen, 0.0) + torch.eye(tokens) * 1e-300, restrict=True)(e)
    assert (entropy(one_hot) <= entropy(e) + 1e-6).all() and restricted.isfinite().all()


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_may_be_permuted(text: str) -> None:
    moe, x, order = _moe(text), _x(), torch.randperm(7)
    torch.testing.assert_close(moe(x[:, order], _place(x[:, order])).out, moe(x, _place(x)).out[:, order])


@pytest.mark.parametrize("text", TEXTS)
def test_causal_tokens_do_not_look_ahead(text: str) -> None:
    options = {"heads": 0} if text == "attention_moe" else {}  # the surest head is chosen over the whole sequence
    moe, x = _moe(text, **options), _x()
    y = x.clone()
    y[:, 4:] += 1
    before, after = (moe(each, _place(each, causal=True)).out for each in (x, y))
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("text", TEXTS)
def test_padding_counts_for_nothing(text: str) -> None:
    moe, x = _moe(text), _x()
    keep = torch.arange(7).expand(2, 7) < 5
    with_pads, without = moe(x, _place(x, keep=keep)).out, moe(x[:, :5], _place(x[:, :5])).out
    torch.testing.assert_close(with_pads[:, :5], without)
    assert not with_pads[:, 5:].any()


def test_extra_parameters() -> None:
    plain = sum(w.numel() for w in make_feedforward("moe(experts=5, shared=0)", 8).parameters())
    counts = {text: sum(w.numel() for w in make_feedforward(f"{text}(experts=5)", 8).parameters()) for text in TEXTS}
    assert counts == {"similar_moe": plain + 64, "attention_moe": plain}
    low = sum(w.numel() for w in make_feedforward("similar_moe(experts=5, rank=3)", 8).parameters())
    assert low == plain + 2 * 3 * 8


def test_gradients_reach_similarity_router_and_attention() -> None:
    moe, x = _moe().train(), _x()
    moe(x, TokenPositions()).out.square().sum().backward()
    assert moe.similarity.q.weight.grad.any() and moe.router.gate.weight.grad.any()
    attention, aware = SelfAttention(8, 2, return_trace=True).double(), _moe("attention_moe").train()
    seen = attention(x, TokenPositions()).seen
    aware(x, TokenPositions(seen=seen)).out.square().sum().backward()
    grads = attention.qkv.weight.grad.unflatten(0, (3, 8))
    assert all(part.any() for part in grads)


def test_balance_is_of_the_final_choice() -> None:
    moe, x = _moe(tau=1e9).train(), _x()
    assert set(moe(x, TokenPositions()).losses) == {"balance"} and moe.eval()(x, TokenPositions()).losses == {}


def test_soft_routing_asks_every_expert() -> None:
    moe, x = _moe(soft=True), _x()
    with record_routing(moe) as found:
        moe(x, TokenPositions())
    assert found["router"][0].index.shape == (2, 7, 5)


def test_inside_a_dit() -> None:
    given = {"depth": 1, "width": 16, "heads": 2, "side": 8, "channels": 3, "classes": 3}
    for mixer, ffn in (("attention", TEXTS[0]), ("attention(return_trace=True)", TEXTS[1])):
        model = DiT(**given, mixer=mixer, ffn=f"{ffn}(experts=3, top=1)")
        out = model(torch.randn(2, 3, 8, 8), torch.rand(2), torch.tensor([0, 1]))
        assert not out.out.any() and out.losses["balance"] > 0
    with pytest.raises(
        ValueError, match=r"give the block a mixer that returns its trace, attention\(return_trace=True\)"
    ):
        DiT(**given, ffn=TEXTS[1])(torch.randn(1, 3, 8, 8), torch.rand(1), torch.tensor([0]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("similar_moe(tau=0)", "tau=0 and rank=None must be above 0"),
        ("attention_moe(sigma=0)", "sigma=0 must be above 0"),
        ("attention_moe(posterior='cauchy')", "posterior='cauchy' is unknown; choose one of gaussian, attention"),
        ("attention_moe(heads='best')", "heads='best' is unknown"),
        ("attention_moe(space='token')", "space='token' is unknown"),
        ("similar_moe(experts=2, top=3)", "top=3 must be between 1 and experts=2"),
    ],
)
def test_bad_options(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_feedforward(text, 8)


def test_bad_input() -> None:
    x = _x()
    with pytest.raises(ValueError, match=r"attention over \(queries, keys\)=\(5, 5\) is no self-attention of these 7"):
        AttentionMoE(8, experts=3).double()(x, _place(x[:, :5]))
    with pytest.raises(ValueError, match="not for packed sequences"):
        SimilarityMoE(8, experts=3).double()(x[:1], TokenPositions(lengths=(3, 4)))
    seen = _place(x).seen._replace(projection=None)
    with pytest.raises(ValueError, match="space='model' needs the projection"):
        nearness(seen, "model")
    with pytest.raises(ValueError, match="heads=2 is no head of the 2"):
        AttentionMoE(8, experts=3, heads=2).double()(x, _place(x))
    assert masked_softmax(torch.zeros(1, 2, 2), None).sum() == 2
