"""The classifier that judges: its sizes, its features, its storage."""

from pathlib import Path

import pytest
import torch

from saccade.models.architecture import Architecture
from saccade.models.classifier import Classifier, ClassifierConfig

TINY = ClassifierConfig(side=16, width=4, classes=5)


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(TINY).eval()


def test_it_has_a_few_hundred_thousand_weights() -> None:
    assert 300_000 < Classifier.parameters_of(ClassifierConfig()) < 600_000


@pytest.mark.parametrize("side", [16, 32, 64])
def test_features_are_as_many_at_every_side(side: int) -> None:
    made = Classifier(TINY, side=side)
    x = torch.randn(3, 3, side, side)
    assert made.features(x).shape == (3, TINY.features) == (3, 16)
    assert made(x).shape == (3, 5)


def test_the_head_reads_the_features(model: Classifier) -> None:
    x = torch.randn(4, 3, 16, 16)
    assert torch.equal(model(x), model.head(model.features(x)))


def test_features_of_a_batch_it_is_fitted_to_have_unit_variance(model: Classifier) -> None:
    found = model.train().features(torch.randn(64, 3, 16, 16))
    torch.testing.assert_close(found.mean(0), torch.zeros(16), rtol=0, atol=1e-5)
    assert found.var(0, correction=0).median().item() == pytest.approx(1, abs=0.05)


def test_features_tell_in_which_quarter_something_changed(model: Classifier) -> None:
    x = torch.zeros(2, 3, 32, 32)
    x[1, :, :4, :4] = 1
    far = Classifier(TINY, side=32).eval()
    corner, *others = (far.features(x)[1] - far.features(x)[0]).abs().split(TINY.width)
    assert corner.sum() > others[-1].sum()


def test_judging_depends_on_no_other_picture(model: Classifier) -> None:
    x = torch.randn(6, 3, 16, 16)
    torch.testing.assert_close(model.features(x)[:1], model.features(x[:1]))


def test_it_is_stored_whole(model: Classifier, tmp_path: Path) -> None:
    x = torch.randn(8, 3, 16, 16)
    model.train()(x)
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path).eval()
    assert isinstance(again, Classifier) and again.config == TINY
    assert torch.equal(again(x), model.eval()(x))


def test_every_weight_learns(model: Classifier) -> None:
    model.train()(torch.randn(8, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"side": 24}, "side=24 must be 16 times a power of two, such as 16, 32 or 64"),
        ({"side": 8}, "side=8 must be at least 16"),
        ({"classes": 1}, "classes=1 must be at least 2"),
        ({"width": 0}, "width=0 must be at least 1"),
    ],
)
def test_bad_sizes_are_answered(given: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**given)
