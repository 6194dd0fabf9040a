"""Collapsing matrices and stacks leaves outputs as they are, or is refused."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from saccade.nn.attention import SelfAttention
from saccade.nn.feedforward import Mlp
from saccade.nn.part import TokenPositions
from saccade.nn.residual import ResidualBlock
from saccade.papers import MinimalAttention, MinimalTransformer, PlainStack, collapse, collapse_model, collapse_stack
from saccade.papers.minimal_transformer.model import MinimalBlock, MinimalTransformerConfig

WIDTH, PLACE = 6, TokenPositions()
X = torch.randn(2, 5, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def stirred(attention: Any, seed: int = 0) -> Any:
    noise = torch.Generator().manual_seed(seed)
    for weight in attention.double().parameters():
        weight.data = 0.6 * torch.randn(weight.shape, dtype=weight.dtype, generator=noise)
    return attention


def numbers(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@given(seed=st.integers(0, 99), values=st.booleans(), plain=st.booleans())
def test_one_head_without_biases(seed: int, values: bool, plain: bool) -> None:
    kind = SelfAttention if plain else MinimalAttention
    attention = stirred(kind(WIDTH, 1, bias=False), seed)
    folded = collapse(attention, values=values)
    assert folded.kind == ("wqk_vo" if values else "wqk")
    assert numbers(folded) == (2 if values else 3) * WIDTH**2 < numbers(attention)
    torch.testing.assert_close(folded(X, PLACE).out, attention(X, PLACE).out, atol=1e-13, rtol=1e-12)


@pytest.mark.parametrize("kind", ["unchanged", "wqk", "symmetric/shared", "symmetric/mirror", "symmetric/cholesky"])
@pytest.mark.parametrize("values", [True, False])
def test_biases_are_carried_when_asked(kind: str, values: bool) -> None:
    attention = stirred(MinimalAttention(WIDTH, 1, kind=kind))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the attention has biases.*with_bias=True carries them along"):
        collapse(attention, values=values)
    folded = collapse(attention, values=values, with_bias=True)
    torch.testing.assert_close(folded(X, PLACE).out, attention(X, PLACE).out, atol=1e-13, rtol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_several_heads_collapse_one_by_one_with_a_warning(bias: bool) -> None:
    attention = stirred(SelfAttention(WIDTH, 3, bias=bias))
    with pytest.warns(UserWarning, match="heads=3 stores 3 matrices"):
        folded = collapse(attention, with_bias=True)
    torch.testing.assert_close(folded(X, PLACE).out, attention(X, PLACE).out, atol=1e-13, rtol=1e-12)
    with pytest.raises(ValueError, match="values=True with heads=3: .* for a single head only"):
        collapse(attention, values=True, with_bias=True)


@given(depth=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_stack_keeps_one_matrix_of_values(depth: int, seed: int) -> None:
    layers = [stirred(MinimalAttention(WIDTH, 1, bias=False), seed + i) for i in range(depth)]
    folded = collapse_stack(layers)
    torch.testing.assert_close(folded(X), PlainStack(layers)(X), atol=1e-12, rtol=1e-10)
    assert numbers(folded) == (depth + 1) * WIDTH**2
    assert (
        all(layer.kind == "wqk_novo" for layer in folded.layers) and numbers(PlainStack(layers)) == 4 * depth * WIDTH**2
    )


def test_a_stack_of_any_single_head_kinds() -> None:
    kinds = ("wqk", "symmetric/cholesky", "wqk_novo", "symmetric/shared", "wqk_vo")
    layers = [stirred(MinimalAttention(WIDTH, 1, kind=kind, bias=False), i) for i, kind in enumerate(kinds)]  # type: ignore[arg-type]
    layers.append(stirred(SelfAttention(WIDTH, 1, bias=False)))
    torch.testing.assert_close(collapse_stack(layers)(X), PlainStack(layers)(X), atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("kind", ["unchanged", "symmetric/cholesky"])
@pytest.mark.parametrize("values", [True, False])
def test_a_whole_model_collapses_block_by_block(kind: str, values: bool, tmp_path: Path) -> None:
    model = stirred(MinimalTransformer(depth=2, width=8, side=8, patch=4, kind=kind)).eval()  # type: ignore[arg-type]
    before, x = model.config, torch.randn(2, 1, 8, 8, dtype=torch.float64)
    folded = collapse_model(model, values=values, with_bias=True)
    torch.testing.assert_close(folded(x), model(x))
    assert model.config == before and model.blocks[0].attention.kind == kind and not folded.blocks[0].attention.training
    assert kind != "unchanged" or numbers(model) - numbers(folded) == 2 * (1 + values) * (8**2 + 8)
    folded.float().save_pretrained(tmp_path)
    again = MinimalTransformer.from_pretrained(tmp_path).eval()
    assert again.config == folded.config and torch.equal(again(x.float()), folded(x.float()))


def test_several_heads_of_a_model_collapse_and_are_stored(tmp_path: Path) -> None:
    model = stirred(MinimalTransformer(depth=1, width=8, heads=2, side=8, patch=4)).eval()
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    with pytest.warns(UserWarning, match="heads=2 stores 2"):
        folded = collapse_model(model, with_bias=True)
        folded.save_pretrained(tmp_path)
        again = MinimalTransformer.from_pretrained(tmp_path)
    torch.testing.assert_close(folded(x), model(x))
    assert again.config == folded.config


def test_residuals_break_the_identity() -> None:
    layers = [stirred(MinimalAttention(WIDTH, 1, bias=False), i) for i in range(3)]
    folded, residual, other = collapse_stack(layers), X, X
    for layer in layers:
        residual = residual + layer(residual, PLACE).out
    for layer in folded.layers:
        other = other + layer(other, PLACE).out
    assert folded.last is not None and not torch.allclose(folded.last(other), residual)


def test_the_original_is_not_touched_and_types_are_kept() -> None:
    layers = [MinimalAttention(WIDTH, 1, bias=False).to(torch.bfloat16) for _ in range(2)]
    before = [{name: value.clone() for name, value in layer.state_dict().items()} for layer in layers]
    folded = collapse_stack(layers)
    assert {weight.dtype for weight in folded.parameters()} == {torch.bfloat16}
    for layer, old in zip(layers, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in layer.state_dict().items())
    assert all(one is not two for one, two in pairwise([*layers, *folded.layers]))


@pytest.mark.bad_input
def test_bad_input() -> None:
    with pytest.raises(ValueError, match="rotary=True turns q and k by their places"):
        collapse(SelfAttention(8, 1, rotary=True, bias=False))
    with pytest.raises(ValueError, match="qk_norm=True divides q and k"):
        collapse(SelfAttention(8, 1, qk_norm=True, bias=False))
    with pytest.raises(ValueError, match="head_dim=4 must be the width over heads=1"):
        collapse(SelfAttention(8, 1, head_dim=4, bias=False))
    blocks = (
        ResidualBlock(8, MinimalAttention(8, 1, bias=False), Mlp(8)),
        MinimalBlock(MinimalTransformerConfig(width=8, bias=False)),
    )
    for block in blocks:
        with pytest.raises(
            ValueError, match="Block is no plain attention; give the attention alone, without the resid"
        ):
            collapse_stack([block])
    with pytest.raises(ValueError, match="the attention has biases"):
        collapse_stack([MinimalAttention(8, 1)])
    with pytest.raises(ValueError, match="values=True with heads=2"):
        collapse_stack([MinimalAttention(8, 2, bias=False)])
    with pytest.raises(ValueError, match=r"attentions=\(\) is an empty stack"):
        collapse_stack([])
