"""PAT_sf: a plain rewrite, its bias by distance, and what it refuses."""

from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.papers import SelfPAT
from saccade.papers.patnet.relative_bias import FAR, RelativeBias, bucket, buckets
from saccade.papers.patnet.self_attention import BiasedAttention

CPU = torch.device("cpu")
SIDES = st.integers(1, 6)
laws = settings(deadline=None, max_examples=12)


def stirred(heads: int = 2, **options: float) -> SelfPAT:
    layer = SelfPAT(8, heads=heads, **options).double().eval()
    for weight in layer.parameters():
        nn.init.normal_(weight)
    return layer


def picture(h: int, w: int) -> Tensor:
    return torch.randn(2, 8, h, w, dtype=torch.float64)


def plain(layer: SelfPAT, x: Tensor) -> Tensor:
    """Head by head, with the bias of every pair looked up by itself."""
    h, w = x.shape[2:]
    attention, rest = layer.attention, x[:, 2:]
    mean, variance = rest.mean(1, keepdim=True), rest.var(1, keepdim=True, unbiased=False)
    tokens = ((rest - mean) / (variance + 1e-6).sqrt()).movedim(1, -1) * layer.norm.weight + layer.norm.bias
    q, k, v = (tokens.flatten(1, 2) @ attention.qkv.weight.T).split(6, dim=-1)
    e, outs = attention.head_dim, []
    for head in range(attention.heads):
        part = slice(head * e, (head + 1) * e)
        logits = q[..., part] @ k[..., part].mT / e**0.5
        for i in range(h * w):
            for j in range(h * w):
                logits[:, i, j] += attention.bias.table[head, by_hand(i, j, w)]
        outs.append(logits.softmax(-1) @ v[..., part])
    out = torch.cat(outs, dim=-1) @ attention.out.weight.T + attention.out.bias
    return torch.cat((F.conv2d(x[:, :2], layer.conv.weight, padding=1), out.mT.unflatten(-1, (h, w))), dim=1)


def by_hand(i: int, j: int, w: int) -> int:
    rho = round(((i // w - j // w) ** 2 + (i % w - j % w) ** 2) ** 0.5)
    return 40 + (rho if rho <= 20 else min(40, round(20 + log(rho / 20) / log(8) * 20)))


@given(h=st.integers(1, 4), w=st.integers(1, 4), heads=st.sampled_from((1, 2, 3)))
@laws
def test_equals_a_plain_rewrite(h: int, w: int, heads: int) -> None:
    layer, x = stirred(heads), picture(h, w)
    torch.testing.assert_close(layer(x), plain(layer, x))


@given(h=st.integers(1, 4), w=st.sampled_from((1, 3, 45, 170)))
@laws
def test_buckets_are_those_by_hand(h: int, w: int) -> None:
    found, n = buckets(h, w, CPU), h * w
    for i in (0, n // 2, n - 1):
        assert found[i].tolist() == [by_hand(i, j, w) for j in range(n)]
    assert torch.equal(found, found.T) and (found.diagonal() == 40).all() and found.min() >= FAR and found.max() <= 80


def test_far_distances_share_buckets() -> None:
    distance = torch.arange(400.0).double()
    found = bucket(distance)
    assert found[:21].tolist() == list(range(21)) and found.diff().min() >= 0 and found.max() == 40
    assert (found[160:] == 40).all() and found[140] < 40


@given(h=st.integers(2, 6), w=st.integers(2, 6))
@laws
def test_bias_is_the_same_wherever_a_pair_stands(h: int, w: int) -> None:
    bias = RelativeBias(2)
    nn.init.normal_(bias.table)
    whole, part = bias(h, w)[0].view(2, h, w, h, w), bias(h - 1, w - 1)[0].view(2, h - 1, w - 1, h - 1, w - 1)
    assert torch.equal(whole[:, 1:, 1:, 1:, 1:], part) and torch.equal(whole[:, :-1, :-1, :-1, :-1], part)


def test_without_a_table_it_is_plain_attention() -> None:
    attention, x = BiasedAttention(8, 2).double().eval(), torch.randn(2, 8, 3, 4, dtype=torch.float64)
    assert not attention.bias.table.any()
    twin = nn.MultiheadAttention(8, 2, batch_first=True, bias=True).double().eval()
    twin.in_proj_weight.data.copy_(attention.qkv.weight)
    nn.init.zeros_(twin.in_proj_bias)
    twin.out_proj.load_state_dict(attention.out.state_dict())
    tokens = x.flatten(2).mT
    torch.testing.assert_close(attention(x).flatten(2).mT, twin(tokens, tokens, tokens)[0])


def test_a_constant_on_all_of_a_heads_buckets_changes_nothing() -> None:
    layer, x = stirred(), picture(3, 4)
    before = layer(x)
    layer.attention.bias.table.data[0] += 3
    torch.testing.assert_close(layer(x), before)
    layer.attention.bias.table.data[0, 41] += 3
    assert not torch.allclose(layer(x), before)


def test_buckets_that_no_distance_has_do_not_count() -> None:
    layer, x = stirred(), picture(3, 4)
    layer(x).square().sum().backward()
    gradient = layer.attention.bias.table.grad
    assert gradient is not None and not gradient[:, :40].any() and gradient[:, 40:44].all()


def test_tables_are_kept_by_size_and_device_and_are_no_weights() -> None:
    assert buckets(3, 4, CPU) is buckets(3, 4, CPU) and buckets(4, 3, CPU) is not buckets(3, 4, CPU)
    layer = stirred()
    names = {*layer.state_dict()}
    layer(picture(3, 4))
    assert {*layer.state_dict()} == names == {name for name, _ in layer.named_parameters()}


def test_gradients() -> None:
    layer, x = stirred(), torch.randn(1, 8, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


def test_inputs_are_left_alone() -> None:
    layer, x = stirred(), picture(3, 4)
    kept = x.clone()
    layer(x)
    assert torch.equal(x, kept)


def test_dropout_acts_in_training_only() -> None:
    layer, x = stirred(dropout=0.5), picture(3, 4)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x)) and torch.equal(layer(x)[:, :2], layer(x)[:, :2])


def test_logits_are_float32_under_autocast() -> None:
    attention, x = BiasedAttention(8, 2).eval(), torch.randn(1, 8, 3, 4)
    attention.bias.table.data[:, 40] = 300.5  # between two numbers of bfloat16
    attention.bias.table.data[:, 41:] = 300.0
    seen: list[torch.dtype] = []
    original = F.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor, **more: Tensor) -> Tensor:
        seen.extend((q.dtype, more["attn_mask"].dtype))
        return original(q, k, v, **more)

    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(F, "scaled_dot_product_attention", spy)
        assert attention(x).dtype == torch.bfloat16
    assert seen == [torch.float32, torch.float32]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="width=6 must be a multiple of heads=4"):
        SelfPAT(8, heads=4)
    with pytest.raises(ValueError, match=r"dropout=1.0 must be in \[0, 1\)"):
        SelfPAT(8, heads=2, dropout=1.0)
    with pytest.raises(ValueError, match=r"must be a feature map \(b, 8, h, w\)"):
        SelfPAT(8, heads=2)(torch.randn(2, 4, 3, 3))
