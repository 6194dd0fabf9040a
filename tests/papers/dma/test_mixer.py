"""The mixer: pieces of a text with a memory, forgetting, padding, packing, weights, starts."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.models import CausalLM
from saccade.nn import Memory, TokenPositions
from saccade.nn.registry import make_mixer
from saccade.papers.dma import DynamicMaskAttention
from saccade.runs import decode

NEAR = {"atol": 1e-10, "rtol": 0}
CAUSAL = TokenPositions(causal=True)


def layer(**options: Any) -> DynamicMaskAttention:
    torch.manual_seed(0)
    made = DynamicMaskAttention(16, 4, **{"kv_heads": 2, "window": 5, "std": 1.0} | options).double()
    for each in (made.q_proj, made.k_proj, made.v_proj, made.dt_proj):
        torch.nn.init.normal_(each.weight, std=0.5)
    return made


def tokens(n: int, b: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(b, n, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


VARIANTS: list[dict[str, Any]] = [
    {}, {"forget": False}, {"bias_form": "linear"}, {"select": "relu", "bias_form": "linear"}, {"block_size": 3},
    {"additive": False}, {"std": 0.0}, {"kernel": "gathered"}, {"rotary": False, "qk_norm": False},
]  # fmt: skip


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize(("cuts", "padded"), [((6, 1, 1, 5), 0), ((6, 1, 3), 3)])
def test_a_text_in_pieces_is_the_whole_text(cuts: tuple[int, ...], padded: int, options: dict[str, Any]) -> None:
    made, x = layer(**options), tokens(sum(cuts))
    first = 5 if made.choice.block_size > 1 else 0  # runs are kept whole once there are more keys than the window
    keep = torch.arange(sum(cuts)) >= torch.tensor([[0], [padded]])
    whole = made(x, TokenPositions(causal=True, keep=keep)).out
    memory, found = Memory(), []
    for piece, flags in zip(x.split(cuts, dim=1), keep.split(cuts, dim=1), strict=True):
        found.append(made(piece, TokenPositions(causal=True, keep=flags, memory=memory)).out)
        memory.tokens += piece.shape[1]
    compared = keep & (torch.arange(sum(cuts)) >= first)
    torch.testing.assert_close(torch.cat(found, 1)[compared], whole[compared], **NEAR)


def test_a_memory_that_forgets_stays_as_large_as_the_window() -> None:
    sizes = {}
    for forget in (True, False):
        made, memory = layer(forget=forget), Memory()
        for piece in tokens(23).split(1, dim=1):
            made(piece, TokenPositions(causal=True, memory=memory))
            memory.tokens += 1
        sizes[forget] = memory.kept["k"].shape[2]
    assert sizes == {True: 5, False: 23}


def test_a_model_writes_the_same_with_a_memory_and_without() -> None:
    torch.manual_seed(0)
    model = CausalLM(
        vocabulary=13, depth=2, width=16, heads=4, mixer="dma(kv_heads=2, window=4, std=1.0)", ffn="swiglu(hidden=16)"
    ).double()
    start = torch.randint(13, (2, 3))
    whole = decode(model, start, tokens=7)
    assert torch.equal(decode(model, start, tokens=7, memories=model.fresh_memories()), whole)


@pytest.mark.parametrize("options", VARIANTS)
def test_no_token_sees_those_behind_it(options: dict[str, Any]) -> None:
    made, x = layer(**options), tokens(14)
    other = torch.cat((x[:, :9], tokens(5, seed=1)), dim=1)
    assert torch.equal(made(x, CAUSAL).out[:, :9], made(other, CAUSAL).out[:, :9])


def test_packed_sequences_are_those_sequences() -> None:
    made, parts = layer(), [tokens(n, 1, seed=n) for n in (7, 12)]
    packed = made(torch.cat(parts, 1), TokenPositions(causal=True, lengths=(7, 12))).out
    alone = torch.cat([made(x, CAUSAL).out for x in parts], 1)
    torch.testing.assert_close(packed, alone, **NEAR)


def test_padding_is_not_seen() -> None:
    made, x = layer(), tokens(9)
    padded = torch.cat((tokens(4, seed=3), x), dim=1)
    found = made(padded, TokenPositions(causal=True, keep=(torch.arange(13) >= 4).expand(2, 13))).out
    torch.testing.assert_close(found[:, 4:], made(x, CAUSAL).out, **NEAR)


def test_looking_both_ways_all_queries_keep_the_same_keys() -> None:
    made, x = layer(rotary=False), tokens(12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    place = TokenPositions(grid=(3, 4))
    torch.testing.assert_close(made(x[:, order], place).out, made(x, place).out[:, order], **NEAR)
    assert layer()(x, place).out.shape == x.shape


def test_without_scores_it_is_a_sliding_window() -> None:
    made, x = layer(std=0.0), tokens(12)
    q, k, v = made.operands(x, CAUSAL)
    near = torch.ones(12, 12, dtype=torch.bool).tril().triu(-4)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=near, enable_gqa=True)
    torch.testing.assert_close(made(x, CAUSAL).out, made.o_proj(wanted.transpose(1, 2).flatten(2)), **NEAR)


def test_scores_cost_a_few_weights_and_start_as_published() -> None:
    made = make_mixer("dma(kv_heads=2, head_dim=8)", 16, 4)
    bare = 16 * 32 * 2 + 16 * 16 * 2 + 2 * 8
    assert sum(p.numel() for p in made.parameters()) - bare == 2 * (2 * 8) + 2
    wide = DynamicMaskAttention(256, 16, head_dim=64)
    assert float(wide.q_proj.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert 0.01 < float(wide.A.detach().std()) < 0.03 and not DynamicMaskAttention(16, 4, std=0.0).A.any()


def test_scores_are_trained_through_the_bias_alone() -> None:
    for additive in (True, False):
        made = layer(additive=additive)
        made(tokens(12), CAUSAL).out.square().sum().backward()
        grads = [made.dt_proj.weight.grad, made.A.grad]
        assert all(grad is not None and grad.any() for grad in grads) == additive


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_heads": 3}, "heads=4 must be a multiple of kv_heads=3"),
        ({"window": 0}, "window=0 must be a whole number"),
        ({"block_size": 0}, "block_size=0 must be a whole number"),
        ({"select": "x"}, "select='x' is unknown"),
        ({"bias_form": "x"}, "bias_form='x' is unknown; choose one of exp, linear"),
        ({"select": "relu"}, "select='relu' keeps every key of bias_form='exp'"),
        ({"head_dim": 3}, "channels=3 of a head must be even"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer(**options)(tokens(4), CAUSAL)


@pytest.mark.compile
@pytest.mark.parametrize("window", [4, 32])
def test_compiled_agrees_with_eager_in_one_graph(window: int) -> None:
    torch._dynamo.reset()
    made, x = layer(window=window).float(), tokens(12).float()
    compiled: Any = torch.compile(made, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, CAUSAL).out, made(x, CAUSAL).out, atol=1e-5, rtol=1e-4)
