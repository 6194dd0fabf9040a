"""The door to DiCo: what its options build."""

from typing import Any

import pytest
import torch

from saccade.models import DiCo
from saccade.systems.dico import DiCoModel


@pytest.mark.parametrize("size", ["S", "XL"])
def test_builds_the_published_sizes(size: str) -> None:
    with torch.device("meta"):
        ours, published = DiCoModel(size=size).build(), DiCo.of(size)
    assert {name: w.shape for name, w in ours.state_dict().items()} == {
        name: w.shape for name, w in published.state_dict().items()
    }


def test_options_reach_the_model() -> None:
    with torch.device("meta"):
        model = DiCoModel(gate="none", kernel=5, channels=3, classes=10).build()
    mixer = model.get_submodule("decoder1.3.mixer")
    assert mixer.depthwise.kernel_size == (5, 5) and not list(mixer.gate.parameters())
    assert model.enter.in_channels == 3 and model.label[0].table.num_embeddings == 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "M"}, "size='M' is unknown; choose one of S, B, L, XL, H"),
        ({"gate": "eca"}, "gate='eca' is unknown; choose one of cca"),
        ({"kernel": 2}, "kernel=2 must be odd"),
        ({"channels": 0}, "channels=0 must be at least 1"),
        ({"classes": 0}, "classes=0 must be at least 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiCoModel(**options)
