"""Routing to experts: exact cases, balance, padding, the hook before the choice."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from saccade.models import DiT
from saccade.nn.moe import MoE, TopKRouter, balance_offsets_
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_feedforward
from saccade.nn.routing import record_routing
from saccade.train.optimisers import Optim, optimisers

WIDTH = 8
PLACE = TokenPositions()


def _moe(**options: Any) -> MoE:
    torch.manual_seed(0)
    moe = MoE(WIDTH, **{"experts": 4, "hidden": 12, **options}).double()
    nn.init.normal_(moe.router.gate.weight, std=0.7)
    return moe


def _tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, WIDTH, dtype=torch.float64)


def _expert(moe: MoE, i: int, x: Tensor) -> Tensor:
    gate, up, down = (layer.weight[i] for layer in (moe.experts.gate, moe.experts.up, moe.experts.down))
    return (nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T


def _shared(moe: MoE, x: Tensor) -> Tensor:
    assert moe.shared is not None
    return moe.shared(x)


def test_equals_the_formula_token_by_token() -> None:
    moe, x = _moe(top=2), _tokens(2, 5)
    out = moe(x, PLACE).out
    for image, found in zip(x, out, strict=True):
        for token, got in zip(image, found, strict=True):
            probs = (moe.router.gate.weight @ token).softmax(0)
            best = probs.argsort(descending=True)[:2]
            wanted = sum(probs[i] * _expert(moe, int(i), token) for i in best) + _shared(moe, token)
            torch.testing.assert_close(got, wanted)


def test_all_experts_make_a_dense_mixture() -> None:
    """K = E; and so does `soft`, whatever `top`."""
    x = _tokens(3, 4)
    for moe in (_moe(top=4), _moe(top=1, soft=True)):
        probs = moe.router.gate(x).softmax(-1)
        wanted = sum(probs[..., i, None] * _expert(moe, i, x) for i in range(4)) + _shared(moe, x)
        torch.testing.assert_close(moe(x, PLACE).out, wanted)


@pytest.mark.parametrize("norm_topk", [True, False])
def test_one_expert_is_that_expert_exactly(norm_topk: bool) -> None:
    moe, x = _moe(experts=1, top=1, shared=0, norm_topk=norm_topk), _tokens(2, 3)
    assert torch.equal(moe(x, PLACE).out.flatten(0, 1), _expert(moe, 0, x.flatten(0, 1)))


def test_identical_experts_weigh_what_the_chosen_weigh() -> None:
    moe, x = _moe(shared=0), _tokens(2, 3)
    for weight in moe.experts.parameters():
        weight.data[:] = weight.data[0]
    kept = moe.router.gate(x).softmax(-1).topk(2).values.sum(-1, keepdim=True)
    torch.testing.assert_close(moe(x, PLACE).out, kept * _expert(moe, 0, x))
    moe.router.norm_topk = True
    torch.testing.assert_close(moe(x, PLACE).out, _expert(moe, 0, x))


@given(seed=st.integers(0, 99), training=st.booleans())
@settings(deadline=None, max_examples=20)
def test_tokens_may_be_permuted_and_images_taken_alone(seed: int, training: bool) -> None:
    torch.manual_seed(seed)
    moe, x, order = _moe().train(training), _tokens(3, 6), torch.randperm(6)
    out = moe(x, PLACE).out
    torch.testing.assert_close(moe(x[:, order], PLACE).out, out[:, order])
    torch.testing.assert_close(moe(x[1:2], PLACE).out, out[1:2])


def test_training_and_use_agree_to_the_bit() -> None:
    moe, x = _moe(), _tokens(2, 6)
    train, use = moe.train()(x, PLACE), moe.eval()(x, PLACE)
    assert torch.equal(train.out, use.out) and "balance" in train.losses and use.losses == {}


@pytest.mark.parametrize("per_image", [True, False])
def test_balance_of_even_probabilities_is_its_weight(per_image: bool) -> None:
    moe = _moe(balance=0.3, per_image=per_image)
    nn.init.zeros_(moe.router.gate.weight)
    torch.testing.assert_close(moe(_tokens(2, 5), PLACE).losses["balance"].item(), 0.3)


def test_balance_of_a_collapse_is_the_number_of_experts() -> None:
    moe, x = _moe(top=1, balance=0.3), _tokens(2, 5).abs()
    nn.init.zeros_(moe.router.gate.weight)
    moe.router.gate.weight.data[2] = 1e3
    torch.testing.assert_close(moe(x, PLACE).losses["balance"].item(), 0.3 * 4)


def test_balance_equals_its_formula_over_the_batch_and_by_image() -> None:
    x, found = _tokens(3, 5), {}
    for per_image in (False, True):
        moe = _moe(per_image=per_image, balance=1.0)
        probs = moe.router.gate(x).softmax(-1)
        sent = torch.zeros_like(probs).scatter(-1, probs.topk(2).indices, 1.0)
        images = zip(probs, sent, strict=True) if per_image else [(probs.flatten(0, 1), sent.flatten(0, 1))]
        each = [4 * (s.mean(0) / 2 * p.mean(0)).sum() for p, s in images]
        found[per_image] = moe(x, PLACE).losses["balance"]
        torch.testing.assert_close(found[per_image], torch.stack(each).mean())
    assert found[True] != found[False]


def test_balance_teaches_rows_of_the_router_that_were_never_chosen() -> None:
    moe, x = _moe(top=1), _tokens(1, 3)
    moe(x, PLACE).losses["balance"].backward()
    never = set(range(4)) - set(moe.router(x).index.flatten().tolist())
    assert never and all(moe.router.gate.weight.grad[i].any() for i in never)
    assert all(weight.grad is None for weight in moe.experts.parameters())


@pytest.mark.parametrize("per_image", [True, False])
def test_padding_neither_routes_nor_counts(per_image: bool) -> None:
    moe, x = _moe(per_image=per_image), _tokens(2, 6)
    keep = torch.ones(2, 6, dtype=torch.bool)
    keep[:, 4:] = False
    padded, plain = moe(x, replace(PLACE, keep=keep)), moe(x[:, :4], PLACE)
    torch.testing.assert_close(padded.out[:, :4], plain.out)
    torch.testing.assert_close(padded.out[:, 4:], _shared(moe, x[:, 4:]))
    torch.testing.assert_close(padded.losses["balance"], plain.losses["balance"])
    with record_routing(moe) as found:
        moe(x, replace(PLACE, keep=keep))
    assert not found["router"][0].weight[:, 4:].any()


def test_mixing_acts_before_the_choice() -> None:
    router, x = TopKRouter(WIDTH, 4).double(), _tokens(2, 6)
    mixing = torch.rand(2, 6, 6, dtype=torch.float64).softmax(-1)
    mixed, plain = router(x, mixing=mixing), router(x)
    torch.testing.assert_close(mixed.probs, mixing @ plain.probs)
    assert torch.equal(mixed.index, mixed.probs.topk(2).indices)
    by_function = router(x, mixing=lambda probs: mixing @ probs)
    same = router(x, mixing=torch.eye(6, dtype=torch.float64).expand(2, 6, 6))
    for a, b in ((by_function, mixed), (same, plain)):
        assert all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


def test_probabilities_are_single_precision_at_least() -> None:
    router = TopKRouter(WIDTH, 4).bfloat16()
    routing = router(torch.randn(1, 3, WIDTH, dtype=torch.bfloat16))
    assert routing.probs.dtype is torch.float32
    torch.testing.assert_close(routing.probs.sum(-1), torch.ones(1, 3))


def test_named_by_text_and_every_weight_learns() -> None:
    moe = make_feedforward("moe(experts=3, top=3, shared=1, kind='gelu', bias=True)", WIDTH)
    assert moe.experts.up.weight.shape == (3, 4 * WIDTH, WIDTH) and moe.shared.up.weight.shape == (WIDTH, WIDTH)
    found = moe(torch.randn(2, 5, WIDTH), PLACE)
    (found.out.square().sum() + found.losses["balance"]).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in moe.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top=0 must be between 1 and experts=4"),
        ({"top": 5}, "top=5 must be between 1 and experts=4"),
        ({"experts": 0, "top": 0}, "experts=0 must be at least 1"),
        ({"balance": -0.1}, "balance=-0.1 must be at least 0"),
        ({"shared": -1}, "shared=-1 must be at least 0"),
        ({"hidden": 0}, "hidden=0 must be at least 1"),
        ({"kind": "mlp"}, "kind='mlp' of experts is unknown"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _moe(**options)


def test_nan_names_the_layer() -> None:
    model = DiT(depth=2, width=16, heads=2, side=4, classes=1, ffn=("mlp", "moe"))
    nn.init.constant_(model.blocks[1].ffn.router.gate.weight, float("nan"))
    with pytest.raises(FloatingPointError, match=r"router 'blocks.1.ffn.router' has NaN logits"):
        model(torch.randn(1, 4, 4, 4), torch.rand(1), torch.tensor([0]))


@pytest.mark.compile
@torch.no_grad()
def test_compiled_agrees_whoever_is_chosen() -> None:
    """In parts: how many rows an expert has is known only when it runs."""
    torch._dynamo.reset()
    moe = _moe()
    compiled = torch.compile(moe, backend="aot_eager")
    for _ in range(3):
        x = _tokens(2, 6)
        torch.testing.assert_close(compiled(x, PLACE).out, moe(x, PLACE).out)


def test_offsets_change_the_choice_and_nothing_else() -> None:
    moe, x = _moe(top=2, norm_topk=True, offset_rate=0.1).eval(), _tokens(2, 6)
    plain = moe.router(x)
    moe.router.offset += torch.tensor([0.0, 0.0, 0.0, 10.0])
    moved = moe.router(x)
    torch.testing.assert_close(moved.probs, plain.probs)
    assert (moved.index[..., 0] == 3).all() and not (plain.index[..., 0] == 3).all()
    probs = moved.probs.gather(-1, moved.index)
    torch.testing.assert_close(moved.weight, probs / probs.sum(-1, keepdim=True))
    assert not any(name.endswith(("offset", "load")) for name, _ in moe.named_parameters())


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_with_all_experts_chosen_offsets_do_nothing(scores: Any) -> None:
    moe, x = _moe(top=4, norm_topk=True, offset_rate=0.1, scores=scores), _tokens(2, 5)
    gates = moe.router.gate(x).softmax(-1) if scores == "softmax" else moe.router.gate(x).sigmoid()
    gates = gates / gates.sum(-1, keepdim=True)
    moe.router.offset += torch.randn(4, dtype=torch.float64)
    wanted = sum(gates[..., i, None] * _expert(moe, i, x) for i in range(4)) + _shared(moe, x)
    torch.testing.assert_close(moe(x, PLACE).out, wanted)


def test_experts_may_be_permuted() -> None:
    moe, x, order = _moe(top=2, offset_rate=0.1), _tokens(2, 5), torch.tensor([2, 0, 3, 1])
    moe.router.offset += torch.randn(4, dtype=torch.float64)
    wanted = moe.eval()(x, PLACE).out
    weights = (moe.router.gate.weight, moe.router.offset, *moe.experts.parameters())
    for weight in weights:
        weight.data = weight.data[order]
    torch.testing.assert_close(moe(x, PLACE).out, wanted)


def test_offsets_move_against_the_load_of_training_alone() -> None:
    moe, x = _moe(top=1, offset_rate=0.25), _tokens(2, 8)
    keep = torch.ones(2, 8, dtype=torch.bool)
    keep[1, 3:] = False
    moe.eval()(x, PLACE)
    assert not moe.router.load.any()
    moe.train()(x, replace(PLACE, keep=keep))
    moe(x, PLACE)
    index = moe.router(x).index[..., 0]
    counts = torch.bincount(index[keep], minlength=4) + 2 * torch.bincount(index.flatten(), minlength=4)
    assert torch.equal(moe.router.load, counts)
    balance_offsets_(moe)
    torch.testing.assert_close(moe.router.offset, 0.25 * (counts.double().mean() - counts).sign())
    assert not moe.router.load.any()


def test_offsets_even_the_load_out_and_the_trainers_optimisers_move_them() -> None:
    torch.manual_seed(0)
    moe, x = _moe(top=2, offset_rate=0.01, bias=True), _tokens(64, 8)
    moe.router.gate.bias.data[0] = 2.0
    before = torch.bincount(moe.router(x).index.flatten(), minlength=4).double()
    moe.router.load.zero_()
    (adam,) = optimisers(moe, lambda name: False, Optim(lr=0.0))
    for _ in range(80):
        moe(x, PLACE)
        adam.step()
    after = torch.bincount(moe.router(x).index.flatten(), minlength=4).double()
    assert after.std() < 0.3 * before.std()


def test_checkpointing_counts_twice_and_moves_offsets_alike() -> None:
    found = []
    for checkpointed in (False, True):
        moe, x = _moe(top=2, offset_rate=0.1), _tokens(2, 6).requires_grad_()
        run = (
            (lambda y, moe=moe: checkpoint(lambda z: moe(z, PLACE).out, y, use_reentrant=False))
            if checkpointed
            else (lambda y, moe=moe: moe(y, PLACE).out)
        )
        torch.manual_seed(3)
        x.data = _tokens(2, 6)
        run(x).sum().backward()
        balance_offsets_(moe)
        found.append(moe.router.offset.clone())
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offset_rate": -1.0}, "offset_rate=-1.0 must be at least 0"),
        ({"scores": "relu"}, "scores='relu' must be one of softmax, sigmoid"),
    ],
)
def test_bad_options_of_scores(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _moe(**options)
