"""Graph-of-tokens routing as the catalogue offers it."""

import pytest
import torch

from saccade.nn.token_graph import AttentionMoE, SimilarityMoE
from saccade.systems.graph_moe import GraphMoE


@pytest.mark.parametrize(("by", "kind"), [("similarity", SimilarityMoE), ("attention", AttentionMoE)])
def test_options_reach_every_block(by: str, kind: type) -> None:
    with torch.device("meta"):
        model = GraphMoE(by=by, experts=3, top=1, tau=0.5, sigma=2.0).build()  # type: ignore[arg-type]
    for block in model.blocks:
        assert type(block.ffn) is kind and block.ffn.router.top == 1 and block.ffn.router.gate.out_features == 3
        assert getattr(block.ffn, "tau", 0.5) == 0.5 and getattr(block.ffn, "sigma", 2.0) == 2.0
        assert block.mixer.tells is (by == "attention")


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="by='distance' is unknown; choose one of similarity, attention"):
        GraphMoE(by="distance")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="top=9 must be between 1 and experts=8"):
        GraphMoE(top=9)
    with pytest.raises(ValueError, match="tau=0 and sigma=1.0 must be above 0"):
        GraphMoE(tau=0)
