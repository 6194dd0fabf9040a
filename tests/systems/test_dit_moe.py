"""The door to DiT-MoE: what its options build."""

from typing import Any

import pytest
import torch

from saccade.models import DiTMoE
from saccade.systems.dit_moe import DiTMoEModel


@pytest.mark.parametrize("size", ["S/2-8E2A", "G/2-16E2A"])
def test_builds_the_published_sizes(size: str) -> None:
    with torch.device("meta"):
        ours, published = DiTMoEModel(size=size).build(), DiTMoE.of(size)
    assert {name: w.shape for name, w in ours.state_dict().items()} == {
        name: w.shape for name, w in published.state_dict().items()
    }


def test_options_reach_the_model() -> None:
    with torch.device("meta"):
        model = DiTMoEModel(experts=3, top=1, shared=0, norm_topk=True, balance=0.5, channels=3, classes=10).build()
    ffn = model.blocks[11].ffn
    assert (ffn.experts.count, ffn.router.top, ffn.shared, ffn.router.norm_topk, ffn.balance) == (3, 1, None, True, 0.5)
    assert model.patches.conv.in_channels == 3 and model.label.table.num_embeddings == 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "M/2"}, "size='M/2' is unknown; choose one of S/2-8E2A"),
        ({"top": 9}, "top=9 must be between 1 and experts=8"),
        ({"balance": -1.0}, "balance=-1.0 must be at least 0"),
        ({"side": 9}, "side=9 must be a multiple of patch=2"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiTMoEModel(**options)
