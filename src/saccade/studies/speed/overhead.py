"""What an empty stack costs a step of a model, attached against plain.

The same FLUX of random weights, plain and attached with no system, in turn within one run, so that drift of the machine
hits both alike. Each visit runs some steps uncounted, times as many and keeps the fastest; the ratio is the median over
visits of attached / plain. Two sizes: tiny, where a step is mostly Python, and 4,096 tokens, where it is attention.
"""

import statistics
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from saccade.attach import attach
from saccade.metrics.stopwatch import in_turn
from saccade.models.random_flux import flux

Size = tuple[Mapping[str, int], int]
SIZES: dict[str, Size] = {  # name -> shape, steps timed per visit
    "tiny": ({"text": 16, "height": 8, "width": 8, "heads": 2, "layers": 2}, 20),
    "4096": ({"text": 256, "height": 60, "width": 64, "heads": 4, "layers": 1}, 1),
}


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """One size: median milliseconds of a step, and of the ratio attached / plain its median and quartiles."""

    size: str
    tokens: int
    plain_ms: float
    attached_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    repeats: int


def measure(size: str, shape: Mapping[str, int], steps: int, repeats: int, device: str = "cpu") -> Overhead:
    """Plain and attached in turn, the one that goes first changing each time; one pair beforehand is not counted.

    Raises ValueError below 2 repeats.
    """
    if repeats < 2:
        raise ValueError(f"repeats={repeats} must be at least 2, for a median with quartiles")
    model, inputs = flux(**shape)
    model = model.to(device)
    inputs = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    pairs = []
    for visit in range(repeats + 1):
        order = (False, True) if visit % 2 else (True, False)
        seconds = {attached: _visit(model, inputs, steps, attached) for attached in order}
        pairs.append((seconds[False], seconds[True]))
    plain, attached = zip(*pairs[1:], strict=True)
    low, middle, high = statistics.quantiles([a / p for p, a in pairs[1:]], n=4)
    return Overhead(
        size=size, tokens=shape["text"] + shape["height"] * shape["width"], plain_ms=1e3 * statistics.median(plain),
        attached_ms=1e3 * statistics.median(attached), ratio=middle, ratio_low=low, ratio_high=high, repeats=repeats,
    )  # fmt: skip


def _visit(model: nn.Module, inputs: dict[str, Any], steps: int, attached: bool) -> float:
    """Seconds of the fastest of `steps` forwards, after as many to warm up."""
    device = next(model.parameters()).device
    with torch.inference_mode(), attach(model) if attached else nullcontext():
        return min(in_turn({"step": lambda: model(**inputs)}, steps, warm=steps, device=device)["step"])
