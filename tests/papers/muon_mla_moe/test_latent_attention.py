"""Latent attention: a plain rewrite, both forms, what is kept, places, refusals."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.nn import Memory
from saccade.nn.attention import SelfAttention
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_mixer
from saccade.papers.muon_mla_moe.factored import latent_from
from saccade.papers.muon_mla_moe.latent_attention import LatentAttention

WIDTH, HEADS = 12, 3
CAUSAL = TokenPositions(causal=True)
NEAR = {"rtol": 0, "atol": 1e-12}


def _attention(**options: Any) -> LatentAttention:
    torch.manual_seed(0)
    made = LatentAttention(WIDTH, HEADS, **{"latent": 5, "rope_dim": 2, **options}).double()
    for weight in made.parameters():
        nn.init.normal_(weight, std=0.5)
    return made


def _tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, WIDTH, dtype=torch.float64)


def _rotated(x: Tensor, position: int) -> Tensor:
    """Pair j of channels turned by position * 10000^(-j / pairs), with complex numbers."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    angles = position * 10000.0 ** (-torch.arange(len(pairs), dtype=torch.float64) / len(pairs))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def _rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean() + 1e-6).sqrt() * weight


def _reference(a: LatentAttention, x: Tensor) -> Tensor:
    """Token by token and head by head, as the formulas say."""
    rows = []
    for text in x:
        c = [
            _rms(a.down.weight @ h, a.norm.weight) if isinstance(a.norm, nn.RMSNorm) else a.down.weight @ h
            for h in text
        ]
        q = text if a.query_down is None else [_rms(a.query_down.weight @ h, a.query_norm.weight) for h in text]  # type: ignore[union-attr]
        turned = [_rotated(a.rope_key.weight @ h, i) for i, h in enumerate(text)] if a.rope_key else None
        for i in range(len(text)):
            heads = []
            for head in range(HEADS):
                at = slice(head * a.head_dim, (head + 1) * a.head_dim)
                score = torch.stack([(a.query.weight[at] @ q[i]) @ (a.up_key.weight[at] @ c[j]) for j in range(i + 1)])
                if turned is not None:
                    places = slice(head * a.rope_dim, (head + 1) * a.rope_dim)
                    own = _rotated(a.rope_query.weight[places] @ q[i], i)  # type: ignore[union-attr]
                    score = score + torch.stack([own @ turned[j] for j in range(i + 1)])
                weight = (score / (a.head_dim + a.rope_dim) ** 0.5).softmax(0)
                heads.append(sum(weight[j] * (a.up_value.weight[at] @ c[j]) for j in range(i + 1)))
            rows.append(a.out.weight @ torch.cat(heads))  # type: ignore[arg-type]
    return torch.stack(rows).view(x.shape)


@pytest.mark.parametrize("form", ["expanded", "absorbed"])
@pytest.mark.parametrize("options", [{}, {"query_latent": 4}, {"rope_dim": 0}, {"norm": False}, {"head_dim": 6}])
def test_equals_the_formulas(form: str, options: dict[str, Any]) -> None:
    made, x = _attention(form=form, **options), _tokens(2, 5)
    torch.testing.assert_close(made(x, CAUSAL).out, _reference(made, x), rtol=0, atol=1e-6)  # tables are single


@given(seed=st.integers(0, 99), tokens=st.integers(1, 7), rope=st.sampled_from([0, 2, 4]), causal=st.booleans())
def test_absorbed_equals_expanded_gradients_included(seed: int, tokens: int, rope: int, causal: bool) -> None:
    torch.manual_seed(seed)
    made, x, place = _attention(rope_dim=rope), _tokens(2, tokens), replace(CAUSAL, causal=causal)
    found = []
    for form in ("expanded", "absorbed"):
        made.form = form
        made.zero_grad()
        own = x.clone().requires_grad_()
        out = made(own, place).out
        (out * torch.linspace(-1, 1, WIDTH)).sum().backward()
        found.append([out.detach(), own.grad, *(weight.grad for weight in made.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@given(cuts=st.lists(st.integers(1, 3), min_size=1, max_size=4), form=st.sampled_from(["auto", "expanded", "absorbed"]))
def test_a_text_in_pieces_is_the_whole_text(cuts: list[int], form: Any) -> None:
    made, x, memory, found = _attention(form=form), _tokens(2, sum(cuts)), Memory(), []
    for piece in x.split(cuts, dim=1):
        found.append(made(piece, replace(CAUSAL, memory=memory)).out)
        memory.tokens += piece.shape[1]
    torch.testing.assert_close(torch.cat(found, 1), made(x, CAUSAL).out, **NEAR)
    assert memory.size == 2 * sum(cuts) * made.cache_numbers * 8 and made.cache_numbers == 5 + 2


def test_causal_padding_and_packing() -> None:
    made, x = _attention(), _tokens(2, 6)
    other = x.clone()
    other[:, 4:] += 1
    assert torch.equal(made(x, CAUSAL).out[:, :4], made(other, CAUSAL).out[:, :4])
    keep = torch.ones(2, 6, dtype=torch.bool)
    keep[:, :2] = False
    shifted = made(x, replace(CAUSAL, keep=keep)).out[:, 2:]
    torch.testing.assert_close(shifted, made(x[:, 2:], CAUSAL).out, rtol=0, atol=1e-6)  # places are relative
    packed = made(x[:1], replace(CAUSAL, lengths=(2, 4))).out
    apart = torch.cat([made(part, CAUSAL).out for part in x[:1].split((2, 4), dim=1)], dim=1)
    torch.testing.assert_close(packed, apart, rtol=0, atol=1e-6)


def test_without_rotation_the_order_of_earlier_tokens_is_not_seen() -> None:
    x = _tokens(1, 6)
    swapped = x[:, [1, 0, 2, 3, 4, 5]]
    blind, sees = _attention(rope_dim=0), _attention()
    torch.testing.assert_close(blind(x, CAUSAL).out[:, 2:], blind(swapped, CAUSAL).out[:, 2:])
    assert not torch.allclose(sees(x, CAUSAL).out[:, 2:], sees(swapped, CAUSAL).out[:, 2:], atol=1e-3)


def test_defaults_are_half_the_width_and_half_a_head() -> None:
    made = make_mixer("latent_attention", 64, 4)
    assert isinstance(made, LatentAttention)
    assert (made.latent, made.rope_dim, made.head_dim, made.cache_numbers) == (32, 8, 16, 40)
    assert made.query_down is None and make_mixer("latent_attention(query_latent=8)", 64, 4).query.in_features == 8


def test_cache_of_the_published_setting() -> None:
    made = LatentAttention(512, 8, latent=256, rope_dim=64)
    assert 1 - made.cache_numbers / (2 * 8 * 64) == 0.6875


def test_from_attention_at_full_rank_is_that_attention_and_the_nearest_below() -> None:
    torch.manual_seed(1)
    plain, x = SelfAttention(WIDTH, HEADS, bias=False).double(), _tokens(2, 5)
    torch.testing.assert_close(latent_from(plain, WIDTH)(x, CAUSAL).out, plain(x, CAUSAL).out, **NEAR)
    weight, found = plain.qkv.weight[WIDTH:].detach(), latent_from(plain, 5)
    near = torch.cat((found.up_key.weight, found.up_value.weight)).detach() @ found.down.weight.detach()
    lost = torch.linalg.svdvals(weight)[5:].square().sum().sqrt()
    torch.testing.assert_close((weight - near).norm(), lost)
    for bad in (SelfAttention(WIDTH, HEADS), SelfAttention(WIDTH, HEADS, bias=False, rotary=True)):
        with pytest.raises(ValueError, match=r"attention must be 'attention\(bias=False\)'"):
            latent_from(bad, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rope_dim": 3}, "rope_dim=3 must be even and at least 0"),
        ({"rope_dim": -2}, "rope_dim=-2 must be even and at least 0"),
        ({"latent": 13}, "latent=13 must be between 1 and width=12"),
        ({"latent": 0}, "latent=0 must be between 1 and width=12"),
        ({"query_latent": 13}, "query_latent=13 must be between 1 and width=12"),
        ({"form": "lazy"}, "form='lazy' must be one of auto, expanded, absorbed"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _attention(**options)


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValueError, match="width=12 must be a multiple of heads=5"):
        LatentAttention(WIDTH, 5)
