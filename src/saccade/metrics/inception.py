"""FID and KID in the proper sense, where the user brings Inception's weights; nothing is ever downloaded.

The numbers are torchmetrics' own.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from saccade.metrics.frechet import Spread

Pictures = Float[Tensor, "_ 3 h w"]
FAR = 10.0  # what a sampler may overshoot, and is clipped; bytes kept as floats lie beyond


@dataclass(frozen=True, kw_only=True)
class Inception:
    """Frechet and kernel Inception distance."""

    fid: float
    kid: Spread


def inception(
    real: Iterable[Pictures],
    fake: Iterable[Pictures],
    network: nn.Module | Path | str,
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
) -> Inception:
    """Both distances of float pictures in [-1, 1], given in batches.

    `network`: a file of weights of torch-fidelity's Inception (needs that library), or a module that turns uint8
    pictures (n 3 h w) into features (n f); with any network but Inception the numbers are no FID.
    `size`: pictures in each of the `subsets` of the kernel distance.
    Raises ValueError for pictures that are bytes, hold NaN, or lie so far outside that they were not meant so.
    """
    extractor = network if isinstance(network, nn.Module) else _inception(Path(network))
    with torch.random.fork_rng(devices=[]):
        frechet, kernel = _metrics(extractor, subsets, size)
        for batches, is_real in ((real, True), (fake, False)):
            for pictures in batches:
                batch = _bytes(pictures, "real" if is_real else "fake")
                frechet.update(batch, real=is_real)
                kernel.update(batch, real=is_real)
        torch.manual_seed(seed)
        value, spread = kernel.compute()
    return Inception(fid=float(frechet.compute()), kid=Spread(value=float(value), spread=float(spread)))


def _inception(weights: Path) -> nn.Module:
    if not weights.is_file():
        raise FileNotFoundError(f"network={weights} is not there; give a file of Inception's weights, or a module")
    if find_spec("torch_fidelity") is None:
        raise ImportError("network as a file of weights needs torch-fidelity; install it, or give a module")
    from torchmetrics.image.fid import NoTrainInceptionV3

    return NoTrainInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights))


def _metrics(extractor: nn.Module, subsets: int, size: int) -> tuple[Any, Any]:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save all")
        kernel = KernelInceptionDistance(feature=extractor, subsets=subsets, subset_size=size)
    return FrechetInceptionDistance(feature=extractor), kernel


def _bytes(pictures: Float[Tensor, "n 3 h w"], name: str) -> UInt8[Tensor, "n 3 h w"]:
    if not pictures.is_floating_point():
        raise ValueError(f"{name} holds {pictures.dtype}; give floats in [-1, 1], bytes as x / 127.5 - 1")
    most = float(pictures.abs().max()) if pictures.numel() else 0.0
    if not most <= FAR:  # NaN is not, either
        raise ValueError(f"{name} holds values of size {most:.4g}; give pictures in [-1, 1], bytes as x / 127.5 - 1")
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte()
