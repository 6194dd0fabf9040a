"""DiT-MoE in its published sizes, with options changed."""

from typing import Any

import pytest
import torch

from saccade.papers import DiTMoE


def test_options_reach_the_model() -> None:
    with torch.device("meta"):
        size = {"channels": 3, "classes": 10}
        model = DiTMoE.of("S/2-8E2A", experts=3, top=1, shared=0, norm_topk=True, balance=0.5, **size)
    ffn = model.blocks[11].ffn
    assert (ffn.experts.count, ffn.router.top, ffn.shared, ffn.router.norm_topk, ffn.balance) == (3, 1, None, True, 0.5)
    assert model.patches.conv.in_channels == 3 and model.label.table.num_embeddings == 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "M/2"}, "size='M/2' of DiTMoE is unknown; choose one of S/2-8E2A"),
        ({"top": 9}, "top=9 must be between 1 and experts=8"),
        ({"balance": -1.0}, "balance=-1.0 must be at least 0"),
        ({"side": 9}, "side=9 must be a multiple of patch=2"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiTMoE.of(**{"size": "S/2-8E2A", **options})
