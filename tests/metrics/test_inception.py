"""FID and KID through torchmetrics, with a tiny network in Inception's place."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from saccade.metrics import discrepancy, frechet, kernel_distance
from saccade.metrics.inception import inception


class Tiny(nn.Module):
    """Means over quarters of bytes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.uint8
        return nn.functional.adaptive_avg_pool2d(x.float() / 255, 2).flatten(1)


def pictures(n: int, seed: int, share: float) -> torch.Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 * share - 1


def test_with_any_network_the_numbers_are_ours() -> None:
    real, fake = pictures(60, 0, 1), pictures(50, 1, 0.8)
    found = inception(real.split(16), fake.split(7), Tiny(), subsets=5, size=30)
    features = [Tiny()(((x + 1) * 127.5).round().byte()) for x in (real, fake)]
    ours, kernel = frechet(features[0], features[1]), kernel_distance(features[0], features[1], subsets=5, size=30)
    assert found.fid == pytest.approx(ours.value, rel=1e-6)
    assert (found.kid.value, found.kid.spread) == pytest.approx((kernel.value, kernel.spread), rel=1e-4)
    assert found.kid.value == pytest.approx(discrepancy(*features), rel=0.5)


def test_the_seed_of_others_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    inception([pictures(9, 0, 1)], [pictures(9, 1, 1)], Tiny(), subsets=1, size=4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: ((x + 1) * 127.5).byte(), r"holds torch.uint8; give floats in \[-1, 1\], bytes as x / 127.5 - 1"),
        (lambda x: ((x + 1) * 127.5).round(), r"holds values of size 25\d; give pictures in \[-1, 1\]"),
        (lambda x: x.where(x < x.max(), torch.nan), "holds values of size nan; give pictures in"),
    ],
)
def test_pictures_in_other_values_are_answered(change: Any, message: str) -> None:
    x = pictures(9, 0, 1)
    for name, real, fake in (("real", change(x), x), ("fake", x, change(x))):
        with pytest.raises(ValueError, match=f"{name} {message}"):
            inception([real], [fake], Tiny(), subsets=1, size=4)


def test_missing_weights_are_answered(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none.pth is not there; give a file of Inception's weights"):
        inception([], [], tmp_path / "none.pth")
    (tmp_path / "some.pth").touch()
    with pytest.raises(ImportError, match="needs torch-fidelity; install it, or give a module"):
        inception([], [], tmp_path / "some.pth")
