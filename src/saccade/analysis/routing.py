"""What experts serve: how often each was chosen, by step, place and class; what these tell of the expert.

>>> with record_routing(model) as found:  # doctest: +SKIP
...     objective.sample(model, labels, null, shape, steps=50)
>>> usage = count_usage(found, labels, classes=10)  # doctest: +SKIP
>>> information(usage.places)  # doctest: +SKIP
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.nn.routing import Routing


@dataclass(frozen=True, kw_only=True, eq=False)
class Usage:
    """Choices of each expert, layer by layer; those of several runs add up."""

    layers: tuple[str, ...]
    steps: Int[Tensor, "l s e"]
    places: Int[Tensor, "l n e"]
    classes: Int[Tensor, "l c e"]

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            layers=self.layers,
            steps=self.steps + other.steps,
            places=self.places + other.places,
            classes=self.classes + other.classes,
        )


def count_usage(
    found: Mapping[str, Sequence[Routing]], labels: Int[Tensor, " r"], *, classes: int, rows: slice = slice(None)
) -> Usage:
    """Count what `record_routing` heard, a call of the model being a step.

    rows     of the batch to count, `labels` theirs: `slice(0, r)` where guidance puts the r conditional rows first
    Padding, which weighs nothing, is not counted. Raises ValueError where labels or layers do not fit.
    """
    stacks = {name: _stacked(calls, rows) for name, calls in found.items()}
    sizes = {
        (index.shape, calls[0].probs.shape[-1])
        for (index, _), calls in zip(stacks.values(), found.values(), strict=True)
    }
    if len(sizes) != 1:
        raise ValueError(f"layers of found={list(found)} differ in calls, tokens or experts; count them apart")
    ((steps, batch, tokens, _), experts), device = sizes.pop(), labels.device
    if len(labels) != batch:
        raise ValueError(f"{len(labels)} labels for {batch} rows; choose by `rows` those that the labels are of")
    groups = {
        "steps": (torch.arange(steps, device=device)[:, None, None], steps),
        "places": (torch.arange(tokens, device=device), tokens),
        "classes": (labels[:, None], classes),
    }
    counted = {
        name: torch.stack([_count(stack, at, size, experts) for stack in stacks.values()])
        for name, (at, size) in groups.items()
    }
    return Usage(layers=tuple(found), **counted)


def load_variation(counts: Int[Tensor, "*l g e"]) -> Float[Tensor, "*l"]:
    """Coefficient of variation of the experts' loads, their spread over their mean: 0 where all serve alike."""
    load = counts.sum(-2).double()
    return load.std(-1, correction=0) / load.mean(-1)


def information(counts: Int[Tensor, "*l g e"]) -> Float[Tensor, "*l"]:
    """Share of the uncertainty of the expert that the group settles, I(expert; group) / H(expert), in [0, 1].

    Few counts look informative by chance; compare with the counts of shuffled groups.
    """
    joint = counts.double() / counts.sum((-2, -1), keepdim=True)
    total = _entropy(joint.sum(-2))
    shared = total + _entropy(joint.sum(-1)) - _entropy(joint.flatten(-2))
    settled = total > 1e-12  # of one expert the entropy is zero but for rounding
    return torch.where(settled, shared / total.clamp(min=1e-12), 0.0).clamp(0, 1)


def stretched(counts: Int[Tensor, "*l g e"]) -> Float[Tensor, "*l g e"]:
    """Counts of each layer stretched to [0, 1], to be looked at."""
    low, high = counts.amin((-2, -1), keepdim=True), counts.amax((-2, -1), keepdim=True)
    return (counts - low) / (high - low).clamp(min=1)


def _stacked(calls: Sequence[Routing], rows: slice) -> tuple[Tensor, Tensor]:
    """Choices and weights (s b n k) of a layer's calls."""
    return torch.stack([call.index[rows] for call in calls]), torch.stack([call.weight[rows] for call in calls])


def _count(stack: tuple[Tensor, Tensor], at: Tensor, groups: int, experts: int) -> Int[Tensor, "g e"]:
    index, weight = stack
    code = (at.to(index.device)[..., None] * experts + index)[weight != 0]
    return code.bincount(minlength=groups * experts).view(groups, experts)


def _entropy(p: Float[Tensor, "*l p"]) -> Float[Tensor, "*l"]:
    return -torch.special.xlogy(p, p).sum(-1)
