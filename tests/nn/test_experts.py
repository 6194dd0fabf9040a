"""Grouped experts against a rewrite that runs every expert on every token and masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.nn.experts import ACTIVATIONS, Expert, ExpertKind, Experts

KINDS = tuple(ACTIVATIONS)


def _filled(count: int, kind: ExpertKind, width: int = 6, hidden: int = 10) -> Experts:
    experts = Experts(width, count, hidden=hidden, kind=kind).double()
    for weight in experts.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return experts


def _choices(tokens: int, count: int, k: int) -> tuple[Tensor, Tensor]:
    index = torch.stack([torch.randperm(count)[:k] for _ in range(tokens)])
    return index, torch.rand(tokens, k, dtype=torch.float64)


def _masked(experts: Experts, x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Plain indexing of the stacked weights; differentiable in all that is given."""
    own, act, out = dict(experts.named_parameters()), ACTIVATIONS[experts.kind], torch.zeros_like(x)

    def layer(name: str, i: int, rows: Tensor) -> Tensor:
        bias = own.get(f"{name}.bias")
        return rows @ own[f"{name}.weight"][i].T + (0 if bias is None else bias[i])

    for i in range(experts.count):
        up = layer("up", i, x)
        inner = act(layer("gate", i, x)) * up if "gate.weight" in own else act(up)
        out = out + layer("down", i, inner) * (weight * (index == i)).sum(1, keepdim=True)
    return out


@given(kind=st.sampled_from(KINDS), tokens=st.integers(1, 12), count=st.integers(1, 5), data=st.data())
@settings(deadline=None, max_examples=40)
def test_equals_a_mask_for_each_expert(kind: ExpertKind, tokens: int, count: int, data: st.DataObject) -> None:
    experts, (index, weight) = _filled(count, kind), _choices(tokens, count, data.draw(st.integers(1, count)))
    x = torch.randn(tokens, 6, dtype=torch.float64)
    torch.testing.assert_close(experts(x, index, weight), _masked(experts, x, index, weight))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_equal_those_of_the_masks(kind: ExpertKind, training: bool) -> None:
    """In eval mode too; the last expert has no token and gets zeros."""
    experts, (index, weight) = _filled(4, kind).train(training), _choices(9, 3, 2)
    x, push = torch.randn(2, 9, 6, dtype=torch.float64)
    wrt = (x.requires_grad_(), weight.requires_grad_(), *experts.parameters())
    found, wanted = (
        torch.autograd.grad((run(x, index, weight) * push).sum(), wrt)
        for run in (experts, lambda *given: _masked(experts, *given))
    )
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)
    assert not any(each[3].any() for each in found[2:])


@pytest.mark.parametrize("kind", KINDS)
def test_one_product_for_all_equals_one_expert_at_a_time(kind: ExpertKind) -> None:
    experts, counts = _filled(4, kind, width=8, hidden=16).float(), torch.tensor([5, 0, 3, 1])
    rows = torch.randn(9, 8, requires_grad=True)
    wrt = (rows, *experts.parameters())
    one, other = (run(rows, counts) for run in (experts.grouped, experts.one_by_one))
    torch.testing.assert_close(one, other)
    for a, b in zip(*(torch.autograd.grad(out.square().sum(), wrt) for out in (one, other)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_expert_is_the_plain_feed_forward(kind: ExpertKind) -> None:
    experts, plain = _filled(1, kind), Expert(6, 10, kind).double()
    plain.load_state_dict({name: value[0] for name, value in experts.state_dict().items()})
    x, one = torch.randn(7, 6, dtype=torch.float64), torch.ones(7, 1, dtype=torch.float64)
    assert torch.equal(experts(x, torch.zeros(7, 1, dtype=torch.long), one), plain(x))


def test_experts_start_each_for_itself() -> None:
    experts = Experts(8, 3, hidden=32, kind="gelu")
    bound = (6 / (8 + 32)) ** 0.5
    for weight in (experts.up.weight, experts.down.weight):
        assert 0.9 * bound < weight.abs().max() <= bound
        assert not torch.equal(weight[0], weight[1])
    assert not experts.up.bias.any()  # type: ignore[union-attr]


def test_autocast_treats_experts_as_plain_layers() -> None:
    experts, plain, x = Experts(8, 2, hidden=16), Expert(8, 16), torch.randn(4, 8)
    plain.load_state_dict({name: value[1] for name, value in experts.state_dict().items()})
    with torch.autocast("cpu", torch.bfloat16):
        out, wanted = experts(x, torch.ones(4, 1, dtype=torch.long), torch.ones(4, 1)), plain(x)
    assert out.dtype is torch.bfloat16 and torch.equal(out, wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0, "hidden": 4}, "experts=0 must be at least 1"),
        ({"count": 2, "hidden": 0}, "hidden=0 must be at least 1"),
        ({"count": 2, "hidden": 4, "kind": "swish"}, "kind='swish' of experts is unknown; choose one of swiglu"),
    ],
)
def test_bad_experts(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Experts(8, **options)
