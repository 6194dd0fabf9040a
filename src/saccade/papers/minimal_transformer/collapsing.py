"""Fold the matrices of attention into one another: the same outputs from fewer numbers.

    collapse         W_QK = W_Q W_K^T of every head; with `values` also W_VO = W_V W_O
    collapse_model   the same in every block of a model
    collapse_stack   attention after attention, nothing between: W_QK of layer s becomes M_s-1 W_QK M_s-1^T with
                     M_s = W_VO,1 ... W_VO,s, and M_S alone is applied, at the end

The last holds for a plain stack only: a residual, a norm or a feed-forward between layers breaks it.

Source: Bermeitinger et al., "Reducing the transformer architecture to a minimum" (2024).
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.attention import SelfAttention
from saccade.nn.part import TokenPositions
from saccade.papers.minimal_transformer.minimal_attention import MinimalAttention
from saccade.papers.minimal_transformer.model import MinimalBlock, MinimalTransformer

Linear = tuple[Float[Tensor, "out in"], Float[Tensor, " out"]]


class PlainStack(nn.Module):
    """Attention after attention, then a linear layer, if any."""

    def __init__(self, layers: Iterable[nn.Module], last: nn.Linear | None = None) -> None:
        super().__init__()
        self.layers, self.last = nn.ModuleList(layers), last

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions | None = None) -> Float[Tensor, "b n d"]:
        for layer in self.layers:
            x = layer(x, place or TokenPositions()).out
        return x if self.last is None else self.last(x)


@torch.no_grad()
def collapse(attention: nn.Module, *, values: bool = False, with_bias: bool = False) -> MinimalAttention:
    """Plain or minimal attention as "wqk", or as "wqk_vo" where `values`; outputs are the same up to rounding.

    values     fold W_V and W_O into one matrix too, for a single head
    with_bias  carry biases: that of queries becomes b_Q W_K^T, that of keys changes all scores of a row alike and falls
               away, that of values goes through W_O
    Raises ValueError for what is no attention, rotary or normalised queries, biases unless `with_bias`, and several
    heads with `values`.
    """
    old = as_minimal(attention)
    biased = any(isinstance(layer, nn.Linear) and layer.bias is not None for layer in old.modules())
    if biased and not with_bias:
        raise ValueError("the attention has biases, which W_Q W_K^T leaves out; with_bias=True carries them along")
    if values and old.heads > 1:
        raise ValueError(f"values=True with heads={old.heads}: W_V W_O is one matrix for a single head only")
    matrix, kind = old.similarity.matrix(), "wqk_vo" if values else "wqk"
    made = MinimalAttention(matrix.shape[-1], old.heads, kind=kind, bias=biased, allow_multihead=True).to(matrix)
    value, out = _linear(old.value, matrix), _linear(old.out, matrix)
    _set(made.similarity.query, matrix.mT.flatten(0, 1), old.similarity.token_bias().flatten())
    if values:
        _set(made.out, out[0] @ value[0], out[0] @ value[1] + out[1])
    else:
        _set(made.value, *value)
        _set(made.out, *out)
    return made


def collapse_model(model: MinimalTransformer, *, values: bool = False, with_bias: bool = False) -> MinimalTransformer:
    """A copy with the attention of every block collapsed: the same logits up to rounding, options as of `collapse`.

    Raises ValueError as `collapse` does.
    """
    made = deepcopy(model)
    for block in made.blocks:
        assert isinstance(block, MinimalBlock)
        block.attention = collapse(block.attention, values=values, with_bias=with_bias).train(block.training)
    made.config = replace(model.config, kind="wqk_vo" if values else "wqk", allow_multihead=model.config.heads > 1)
    return made


@torch.no_grad()
def collapse_stack(attentions: Iterable[nn.Module]) -> PlainStack:
    """A plain stack of S attentions as S "wqk_novo" and one linear layer: (S + 1) width^2 numbers.

    Raises ValueError for anything but single-head attention without biases, such as blocks with residuals.
    """
    layers: list[nn.Module] = []
    reached: Tensor | None = None  # M of the layers so far
    for attention in attentions:
        folded = collapse(attention, values=True)
        matrix = folded.similarity.matrix()[0]
        reached = torch.eye(len(matrix)).to(matrix) if reached is None else reached
        layer = MinimalAttention(len(matrix), 1, kind="wqk_novo", bias=False).to(matrix)
        _set(layer.similarity.query, reached @ matrix.mT @ reached.mT)
        layers.append(layer)
        reached = reached @ _linear(folded.out, matrix)[0].mT
    if reached is None:
        raise ValueError("attentions=() is an empty stack; give at least one")
    last = nn.Linear(len(reached), len(reached), bias=False).to(reached)
    _set(last, reached.mT)
    return PlainStack(layers, last)


@torch.no_grad()
def as_minimal(attention: nn.Module) -> MinimalAttention:
    """The kit's plain attention as kind "unchanged" with its weights; minimal attention as it is.

    Raises ValueError for anything else, and for rotary or normalised queries, for which no one matrix can stand.
    """
    if isinstance(attention, MinimalAttention):
        return attention
    if type(attention) is not SelfAttention:
        raise ValueError(
            f"{type(attention).__name__} is no plain attention; give the attention alone, without the residual, norm "
            "or feed-forward around it"
        )
    _check_plain(attention)
    bias = attention.qkv.bias
    made = MinimalAttention(attention.out.out_features, attention.heads, bias=bias is not None).to(attention.qkv.weight)
    layers = made.similarity.query, made.similarity.key, made.value
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    for layer, weight, own in zip(layers, attention.qkv.weight.chunk(3), biases, strict=True):
        _set(layer, weight, own)
    made.out.load_state_dict(attention.out.state_dict())
    return made


def _check_plain(attention: SelfAttention) -> None:
    if attention.rotary:
        raise ValueError("rotary=True turns q and k by their places, so W_Q W_K^T differs for every pair of tokens")
    if not isinstance(attention.norm_q, nn.Identity):
        raise ValueError("qk_norm=True divides q and k by their own lengths; no one matrix does that")
    if attention.heads * attention.head_dim != attention.out.out_features:
        raise ValueError(f"head_dim={attention.head_dim} must be the width over heads={attention.heads}")


def _linear(layer: nn.Module, like: Tensor) -> Linear:
    """Weight and bias of a linear layer, or of none."""
    width = like.shape[-1]
    if not isinstance(layer, nn.Linear):
        return torch.eye(width).to(like), like.new_zeros(width)
    return layer.weight, like.new_zeros(width) if layer.bias is None else layer.bias


def _set(layer: Any, weight: Tensor, bias: Tensor | None = None) -> None:
    layer.weight.copy_(weight)
    if layer.bias is not None:
        assert bias is not None
        layer.bias.copy_(bias)
