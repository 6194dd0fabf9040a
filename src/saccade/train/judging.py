"""How well a denoiser does: losses on held-out pictures, and sheets of samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from saccade.data.labelled import Source
from saccade.nn.eval_mode import eval_mode
from saccade.train.checks import check_positive
from saccade.train.objectives import Objective
from saccade.train.pictures import to_bytes
from saccade.train.plots import tile

COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`pictures`: held-out ones whose loss is measured. `samples`: on a sheet, drawn in `steps` with `guidance`."""

    pictures: int = 1024
    samples: int = 32
    steps: int = 50
    guidance: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(pictures=self.pictures, samples=self.samples)


SMALLEST = Evaluation(samples=1, steps=2)  # of trainings whose samples nobody looks at


@torch.no_grad()
def evaluate(
    model: nn.Module, objective: Objective, source: Source, *, pictures: int = 1024, seed: int = 0, batch: int = 128
) -> dict[str, float]:
    """Mean losses on held-out pictures, each at one of even quantiles of the times; the noise is always the same."""
    (x, condition), t = source.held_out(pictures), objective.spread(pictures)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    device, found = _device(model), {}
    with eval_mode(model):
        for part in torch.arange(pictures).split(batch):
            rows = (_rows(value, part, device) for value in (x, condition, t, noise))
            for name, value in objective.loss(model, *rows).items():
                found[name] = found.get(name, 0.0) + float(value) * len(part) / pictures
    return found


@torch.no_grad()
def sample_sheet(
    model: nn.Module, objective: Objective, source: Source, wanted: Evaluation
) -> UInt8[np.ndarray, "h w 3"]:
    """Samples of classes spread over all, or of held-out conditions, eight in a row; below pictures they were given."""
    condition = _asked(source, wanted.samples, _device(model))
    with eval_mode(model):
        drawn = objective.sample(
            model,
            condition,
            null_condition(source, condition),
            (wanted.samples, source.channels, source.side, source.side),
            steps=wanted.steps,
            guidance=wanted.guidance,
            generator=torch.Generator().manual_seed(wanted.seed),
        )
    found = to_bytes(drawn)
    if isinstance(condition, Mapping) and "picture" in condition:
        found = _in_turn(to_bytes(condition["picture"]), found)
    return tile([*found], columns=COLUMNS)


def _in_turn(one: UInt8[np.ndarray, "n h w 3"], two: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "2*n h w 3"]:
    """A row of a sheet of each, then the next."""
    starts = range(0, len(one), COLUMNS)
    return np.concatenate([each[start : start + COLUMNS] for start in starts for each in (one, two)])


def null_condition(source: Source, condition: Any) -> Any:
    """A condition of the same shape that says nothing: label `classes`, or what the source's `null` makes of words."""
    if isinstance(condition, Tensor):
        return torch.full_like(condition, source.classes)
    return source.null(condition)  # type: ignore[attr-defined]


def _asked(source: Source, n: int, device: torch.device) -> Any:
    """What to draw: labels in order, or the words of a source that has them."""
    if hasattr(source, "null"):
        return _rows(source.held_out(n)[1], torch.arange(n), device)
    return torch.linspace(0, source.classes - 1, n, device=device).round().long()


def _rows(value: Any, rows: Tensor, device: torch.device) -> Any:
    if isinstance(value, Mapping):
        return {name: _rows(each, rows, device) for name, each in value.items()}
    return value[rows].to(device)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
