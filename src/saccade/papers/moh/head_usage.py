"""Which heads tokens pick in a trained denoiser: how evenly, and how differently by time and by class."""

from math import log
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.eval_mode import eval_mode
from saccade.nn.routing import record_routing

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)


def head_usage(model: nn.Module, x: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> dict[str, Any]:
    """Of the picks of noised pictures: the largest share, entropies, and distances between times and between classes.

    `apart_by_chance` is the distance between random groups of as many pictures as those of a class.
    """
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    picks = torch.stack([picked(model, (1 - t) * x + t * noise, t, labels) for t in TIMES])  # (t b l e)
    classes = [picks[:, labels == label] for label in labels.unique()]
    over_times, over_classes = shares(*picks[:, None]), shares(*classes)
    return {
        "largest_share": shares(picks).max().item(),
        "entropy": entropy(shares(picks)).item(),
        "entropy_by_time": entropy(over_times).tolist(),
        "entropy_by_colour": entropy(over_classes).tolist(),
        "apart_by_time": apart(over_times),
        "apart_by_colour": apart(over_classes),
        "apart_by_chance": apart(shares(*picks.chunk(len(classes), dim=1))),
    }


@torch.no_grad()
def picked(
    model: nn.Module, z: Float[Tensor, "b c h w"], t: float, labels: Int[Tensor, " b"]
) -> Float[Tensor, "b l e"]:
    """How many of a picture's tokens picked each candidate, by layer."""
    with eval_mode(model), record_routing(model) as found:
        model(z, torch.full((len(z),), t), labels)
    layers = [F.one_hot(call.index, call.probs.shape[-1]).sum((1, 2)) for (call,) in found.values()]
    return torch.stack(layers, dim=1).float()


def shares(*groups: Float[Tensor, "_ _ l e"]) -> Float[Tensor, "g l e"]:
    """Of each group's picks in a layer, those of every candidate."""
    totals = torch.stack([group.sum((0, 1)) for group in groups])
    return totals / totals.sum(-1, keepdim=True)


def entropy(of: Float[Tensor, "g l e"]) -> Float[Tensor, " g"]:
    """1 for even use, 0 for one head alone; mean over layers."""
    return torch.special.entr(of).sum(-1).mean(-1) / log(of.shape[-1])


def apart(groups: Float[Tensor, "g l e"]) -> float:
    """Total variation between two groups, mean over pairs and layers."""
    first, second = torch.combinations(torch.arange(len(groups))).unbind(1)
    return (groups[first] - groups[second]).abs().sum(-1).div(2).mean().item()
