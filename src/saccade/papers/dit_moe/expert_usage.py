"""Which experts a trained denoiser chooses along sampling, and what settles the choice."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.analysis.routing import Usage, count_usage, information, load_variation
from saccade.data.labelled import Source
from saccade.nn.eval_mode import eval_mode
from saccade.nn.routing import Routing, record_routing
from saccade.train.judging import null_condition
from saccade.train.objectives import RectifiedFlow

SHUFFLES = 20
Recorded = dict[str, list[Routing]]


@torch.no_grad()
def recorded(model: nn.Module, source: Source, labels: Int[Tensor, " b"], steps: int) -> Recorded:
    """Every router's calls while pictures of these labels are sampled; the noise is always the same."""
    shape, noise = (len(labels), source.channels, source.side, source.side), torch.Generator().manual_seed(0)
    with eval_mode(model), record_routing(model) as found:
        RectifiedFlow().sample(
            model, labels, null_condition(source, labels), shape, steps=steps, generator=noise
        )  # fmt: skip
    return found


def routing_rows(found: Recorded, labels: Int[Tensor, " b"]) -> Iterable[dict[str, Any]]:
    """For each layer how far loads vary, and what place, step and class tell of the expert; class by chance too."""
    usage = counted(found, labels)
    shares = {name: information(table).tolist() for name, table in tables(usage).items()}
    shares |= {"load_variation": load_variation(usage.steps).tolist(), "chance": by_chance(found, labels).tolist()}
    for at, name in enumerate(usage.layers):
        yield {"layer": int(name.split(".")[1])} | {column: values[at] for column, values in shares.items()}


def by_group(found: Recorded, labels: Int[Tensor, " b"]) -> Iterable[dict[str, Any]]:
    """Choices of each layer's experts, group by group."""
    for name, table in tables(counted(found, labels)).items():
        yield from ({"group": name, "layer": layer, "counts": counts} for layer, counts in enumerate(table.tolist()))


def by_chance(found: Recorded, labels: Int[Tensor, " b"]) -> Float[Tensor, " l"]:
    """What classes dealt out at random tell, a mean over deals."""
    rng = torch.Generator().manual_seed(0)
    images = count_usage(found, torch.arange(len(labels)), classes=len(labels)).classes
    empty = torch.zeros_like(images[:, : int(labels.max()) + 1])
    deals = [labels[torch.randperm(len(labels), generator=rng)] for _ in range(SHUFFLES)]
    return torch.stack([information(empty.index_add(1, deal, images)) for deal in deals]).mean(0)


def counted(found: Recorded, labels: Int[Tensor, " b"]) -> Usage:
    """Choices by step, place and class."""
    return count_usage(found, labels, classes=int(labels.max()) + 1)


def tables(usage: Usage) -> dict[str, Int[Tensor, "l g e"]]:
    """What the expert may depend on."""
    return {"place": usage.places, "step": usage.steps, "class": usage.classes}
