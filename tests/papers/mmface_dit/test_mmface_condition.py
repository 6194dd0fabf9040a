"""What MMFace-DiT refuses, and what it says."""

from typing import Any

import pytest
import torch

from saccade.models import ArchitecturePipeline
from saccade.papers import MMFaceDiT
from tests.papers.mmface_dit.tiny_mmface import given, made


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"picture": None}, "condition has no 'picture'; give zeros for no picture"),
        ({"modality": None}, "condition has no 'modality'; give 0 for masks, 1 for sketches"),
        ({"mask": torch.zeros(2)}, "condition has 'mask', which is unknown; choose from picture, modality"),
        ({"picture": torch.zeros(2, 2, 8, 6)}, r"picture of shape \(2, 2, 8, 6\) must be \(2, 2, 8, 8\), as x and"),
        ({"picture": torch.zeros(2, 3, 8, 8)}, r"picture of shape \(2, 3, 8, 8\) must be \(2, 2, 8, 8\)"),
        ({"words": torch.zeros(2, 5, 7)}, r"words of shape \(2, 5, 7\) must be \(2, any, 6\)"),
        ({"words": torch.zeros(1, 5, 6)}, r"words of shape \(1, 5, 6\) must be \(2, any, 6\)"),
        ({"pooled": torch.zeros(2, 7)}, r"pooled of shape \(2, 7\) must be \(2, 6\)"),
        ({"modality": torch.tensor([0, 2])}, "modality 2 is outside 0 to 1"),
        ({"modality": torch.tensor([-1, 0])}, "modality -1 is outside 0 to 1"),
        ({"modality": torch.tensor([0])}, r"modality of shape \(1,\) must be \(2\)"),
    ],
)
def test_conditions_that_do_not_fit(changes: dict[str, Any], match: str) -> None:
    x, t, condition = given()
    wrong = {name: value for name, value in (condition | changes).items() if value is not None}
    with pytest.raises(ValueError, match=match):
        made()(x, t, wrong)


def test_latents_that_do_not_fit() -> None:
    model, (x, t, condition) = made(), given(sides=(7, 8))
    with pytest.raises(ValueError, match=r"sides \(7, 8\) of x must be multiples of patch=2"):
        model(x, t, condition)
    with pytest.raises(ValueError, match=r"x of shape \(2, 2, 7, 8\) must have channels=3"):
        model(x[:, :2], t, condition)


def test_times_that_are_not_those_of_the_objective() -> None:
    x, _, condition = given()
    for wrong in (torch.tensor([0.5, 1.5]), torch.tensor([-0.1, 0.5])):
        with pytest.raises(ValueError, match=r"t from .* must be in \[0, 1\], objective='flow'"):
            made()(x, wrong, condition)
    with pytest.raises(ValueError, match="t=-1 must not be negative"):
        made(objective="ddpm")(x, torch.tensor([-1.0, 3.0]), condition)


def test_a_model_with_words_of_its_own_asks_for_numbers() -> None:
    model, (x, t, condition) = made(classes=9, words=4), given()
    with pytest.raises(ValueError, match="condition has embedded words, but the model has an embedding of its own"):
        model(x, t, condition)
    bare = {name: condition[name] for name in ("picture", "modality")}
    with pytest.raises(ValueError, match="condition has no 'ids'; give 9 everywhere for no caption"):
        model(x, t, bare)
    with pytest.raises(ValueError, match=r"ids of shape \(2, 3\) must be \(2, 4\)"):
        model(x, t, bare | {"ids": torch.zeros(2, 3).long()})
    with pytest.raises(ValueError, match="label 10 is outside 0 to 9"):
        model(x, t, bare | {"ids": torch.full((2, 4), 10)})
    with pytest.raises(ValueError, match="condition has 'ids', but the model has no embedding of its own"):
        made()(x, t, condition | {"ids": torch.zeros(2, 4).long()})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"width": 20}, "width=20 with heads=2 leaves 10 channels a head, which must be a multiple of 4"),
        ({"width": 17}, "width=17 must be a multiple of heads=2"),
        ({"side": 9}, "side=9 must be a multiple of patch=2"),
        ({"objective": "ddim"}, "objective='ddim' is unknown; choose one of flow, ddpm"),
        ({"streams": "three"}, "streams='three' is unknown; choose one of dual, single"),
        ({"positions": "none"}, "positions='none' is unknown"),
        ({"text_positions": "one"}, "text_positions='one' is unknown; choose one of zero, sequence"),
        ({"pooled_drop": 1.5}, r"pooled_drop=1.5 must be in \[0, 1\]"),
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"modalities": -1}, "modalities=-1 must be at least 0"),
    ],
)
def test_options_out_of_range(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        MMFaceDiT(**{"width": 16, "heads": 2, "depth": 1, "side": 8} | changes)


def test_a_pipeline_of_another_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="objective='ddpm' is not that of the model's configuration, 'flow'"):
        ArchitecturePipeline(made(), objective="ddpm")
