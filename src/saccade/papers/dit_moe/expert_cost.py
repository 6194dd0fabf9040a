"""What experts cost beside a dense feed-forward with as many multiply-adds."""

from functools import partial
from statistics import median, quantiles
from typing import Any

import torch
from torch import nn

from saccade.metrics.stopwatch import in_turn
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_feedforward

PICTURES, TOKENS = 32, 64


def cost_row(width: int, rounds: int) -> dict[str, Any]:
    """Time of forward and backward through 8 experts, 2 at work and one shared, over that of a dense layer.

    The median of the ratios of each round, and their quartiles.
    """
    x = torch.randn(PICTURES, TOKENS, width)
    parts = {"experts": "moe(experts=8)", "dense": f"swiglu(hidden={10 * width})"}
    work = {name: partial(forward_backward, make_feedforward(text, width), x) for name, text in parts.items()}
    seconds = in_turn(work, rounds, warm=2)
    ratios = [experts / dense for experts, dense in zip(seconds["experts"], seconds["dense"], strict=True)]
    low, mid, high = quantiles(ratios, n=4)
    return {"width": width, "dense_ms": 1000 * median(seconds["dense"]), "ratio": mid, "low": low, "high": high}


def forward_backward(part: nn.Module, x: torch.Tensor) -> None:
    """As in a step of training, the load-balancing loss included."""
    out, losses, _ = part(x, TokenPositions())
    (out.square().mean() + sum(losses.values())).backward()
