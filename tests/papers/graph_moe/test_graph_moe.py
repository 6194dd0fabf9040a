"""Graph-of-tokens routing as feed-forwards of a DiT."""

import pytest
import torch

from saccade.models import DiT
from saccade.papers.graph_moe.token_graph import AttentionMoE, SimilarityMoE


@pytest.mark.parametrize(("text", "kind"), [("similar_moe", SimilarityMoE), ("attention_moe", AttentionMoE)])
def test_options_reach_every_block(text: str, kind: type) -> None:
    by_attention = kind is AttentionMoE
    extra = "sigma=2.0" if by_attention else "tau=0.5"
    mixer, ffn = f"attention(return_trace={by_attention})", f"{text}(experts=3, top=1, {extra})"
    with torch.device("meta"):
        model = DiT.of("S/2", mixer=mixer, ffn=ffn)
    for block in model.blocks:
        assert type(block.ffn) is kind and block.ffn.router.top == 1 and block.ffn.router.gate.out_features == 3
        assert getattr(block.ffn, "tau", 0.5) == 0.5 and getattr(block.ffn, "sigma", 2.0) == 2.0
        assert block.mixer.return_trace is by_attention


@pytest.mark.parametrize(
    ("ffn", "message"),
    [
        ("similar_moe(top=9)", "top=9 must be between 1 and experts=8"),
        ("similar_moe(tau=0)", "tau=0 and rank=None must be above 0"),
        ("attention_moe(sigma=0)", "sigma=0 must be above 0"),
    ],
)
def test_bad_options(ffn: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiT.of("S/2", depth=1, mixer="attention(return_trace=True)", ffn=ffn)
