"""Quality as a whole: real pictures pass, and every kind of failing shows where it should."""

import pytest
import torch
from torch import nn

from saccade.data.labelled import open_scenes
from saccade.metrics import Quality, quality


class Layout(nn.Module):
    """Colours of a 4 x 4 grid; the loudest channel is the label."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, 3)
        nn.init.constant_(self.head.bias, 0)
        self.head.weight.data = torch.eye(3).repeat_interleave(16, dim=1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)


JUDGE = Layout().eval()


@pytest.fixture(scope="module")
def real() -> torch.Tensor:
    return open_scenes(32, count=1, held=600).held_out(600)[0]


def judged(real: torch.Tensor, fake: torch.Tensor) -> Quality:
    labels = [JUDGE.head(JUDGE.features(x)).argmax(1) for x in (real, fake)]
    return quality(JUDGE, real, labels[0], fake, labels[1])


def test_real_pictures_pass(real: torch.Tensor) -> None:
    found, self_ = judged(real[:300], real[300:]), judged(real, real)
    assert found.n == 300 and found.accuracy.mid == found.real_accuracy.mid == 1
    assert self_.frechet.value < 1e-6 and self_.layout.value < 1e-6
    assert self_.precision == self_.recall == self_.coverage == 1
    assert found.frechet.value < 0.1 and min(found.precision, found.recall, found.coverage) > 0.7


def test_failings_show(real: torch.Tensor) -> None:
    halves = real[:300], real[300:]
    whole = judged(*halves)
    noisy = judged(halves[0], halves[1] + 0.8 * torch.randn(1, 3, 1, 1))
    few = judged(halves[0], halves[1][:6].repeat(50, 1, 1, 1))
    assert noisy.frechet.value > 5 * whole.frechet.value and noisy.layout.value > 5 * whole.layout.value
    assert noisy.kernel.value > whole.kernel.value + 5 * whole.kernel.spread
    assert few.precision > 0.7 and few.recall < whole.recall / 2 and few.coverage < whole.coverage / 2


def test_accuracy_counts_what_was_wanted(real: torch.Tensor) -> None:
    labels = JUDGE.head(JUDGE.features(real)).argmax(1)
    found = quality(JUDGE, real, labels, real, torch.where(torch.arange(600) < 150, (labels + 1) % 3, labels))
    assert found.accuracy.mid == 0.75 and found.accuracy.low < 0.75 < found.accuracy.high


@pytest.mark.bad_input
def test_bad_arguments_are_answered(real: torch.Tensor) -> None:
    labels = torch.zeros(600, dtype=torch.int64)
    with pytest.raises(ValueError, match="fake has 600 pictures and 599 labels; give one label each"):
        quality(JUDGE, real, labels, real, labels[1:])
    with pytest.raises(ValueError, match=r"classifier is in training mode, .*; call eval\(\)"):
        quality(Layout(), real, labels, real, labels)
