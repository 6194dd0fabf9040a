"""DiCo in its published sizes, with options changed."""

from typing import Any

import pytest
import torch

from saccade.papers import DiCo


def test_options_reach_the_model() -> None:
    with torch.device("meta"):
        model = DiCo.of("S", mixer="dico(gate='none', kernel=5)", channels=3, classes=10)
    mixer = model.get_submodule("decoder1.3.mixer")
    assert mixer.depthwise.kernel_size == (5, 5) and not list(mixer.gate.parameters())
    assert model.enter.in_channels == 3 and model.label[0].table.num_embeddings == 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "M"}, "size='M' of DiCo is unknown; choose one of S, B, L, XL, H"),
        ({"mixer": "dico(gate='eca')"}, "gate='eca' is unknown; choose one of cca"),
        ({"mixer": "dico(kernel=2)"}, "kernel=2 must be odd"),
        ({"channels": 0}, "channels=0 must be at least 1"),
        ({"classes": 0}, "classes=0 must be at least 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiCo.of(**{"size": "S", **options})
