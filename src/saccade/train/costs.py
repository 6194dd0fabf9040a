"""What an architecture costs: multiply-adds, memory kept for the backward pass, seconds of a forward and of a step."""

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from saccade.metrics.activations import kept_bytes
from saccade.metrics.stopwatch import in_turn
from saccade.models.architecture import Architecture
from saccade.models.macs import macs
from saccade.nn.eval_mode import eval_mode

Quartiles = tuple[float, float, float]  # low, median, high
Seconds = dict[str, dict[str, list[float]]]  # by model, then by kind of work


def example(
    options: Mapping[str, Any], rows: int = 1, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor, Tensor]:
    """Random input of a model with these `channels`, `side` and `classes`: x, t and labels; alike on every device."""
    noise = torch.Generator().manual_seed(0)
    x = torch.randn(rows, options["channels"], options["side"], options["side"], generator=noise)
    t, labels = torch.rand(rows, generator=noise), torch.arange(rows) % options["classes"]
    return x.to(device), t.to(device), labels.to(device)


def multiply_adds(model: nn.Module, options: Mapping[str, Any]) -> int:
    """Of a forward of one picture; where that depends on the picture, what the model aims at."""
    given = example(options, device=device_of(model))
    with eval_mode(model):
        return model.macs(*given) if isinstance(model, Architecture) else macs(model, *given)


def kept_by(model: nn.Module, options: Mapping[str, Any], rows: int = 16) -> float:
    """Bytes a picture that a forward keeps for its backward pass, in a batch of `rows`."""
    given = example(options, rows, device_of(model))
    return kept_bytes(lambda: model(*given).out, model.parameters()) / rows


def seconds_in_turn(models: Mapping[str, nn.Module], options: Mapping[str, Any], *, rows: int, rounds: int) -> Seconds:
    """A forward and a training step of every model on random pictures; see `timed_in_turn`."""
    given = example(options, rows, device_of(next(iter(models.values()))))
    return timed_in_turn(
        models, {"forward": partial(forward, given=given), "step": partial(step, given=given)}, rounds=rounds
    )


def timed_in_turn(
    models: Mapping[str, nn.Module], kinds: Mapping[str, Callable[[nn.Module], object]], *, rounds: int
) -> Seconds:
    """Every kind of work of every model, one after the other, `rounds` times and once before, uncounted.

    In turn, so that drift of the machine hits all alike; compare within a round.
    """
    arms = {f"{kind} {name}": partial(work, model) for name, model in models.items() for kind, work in kinds.items()}
    found = in_turn(arms, rounds, device=device_of(next(iter(models.values()))))
    return {name: {kind: found[f"{kind} {name}"] for kind in kinds} for name in models}


def ratios(found: Seconds, against: str) -> dict[str, dict[str, Quartiles]]:
    """Quartiles (low, median, high) over rounds of each model's seconds divided by those of `against`."""
    return {
        name: {
            kind: _quartiles([a / b for a, b in zip(spent, found[against][kind], strict=True)])
            for kind, spent in kinds.items()
        }
        for name, kinds in found.items()
    }


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next(model.parameters()).device


def forward(model: nn.Module, given: tuple[Tensor, ...]) -> None:
    """One forward, as in sampling."""
    with torch.inference_mode(), eval_mode(model):
        model(*given)


def step(model: nn.Module, given: tuple[Tensor, ...]) -> None:
    """One forward and backward in training."""
    model.train()
    out, losses = model(*given)
    (out.square().mean() + sum(losses.values())).backward()
    model.zero_grad()


def _quartiles(values: list[float]) -> Quartiles:
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high
