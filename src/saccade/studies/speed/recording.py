"""What it costs a step to look inside: FLUX.1's shape, unwatched, with a word's maps, and with heads' figures too.

Its 57 blocks are 19 double and 38 single ones; a model of one and two has them in the same proportion, so the ratio is
the whole model's, but for its embeddings. Visits take turns, and the ratio is the median over them.
"""

import statistics
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.metrics.stopwatch import in_turn
from saccade.models.random_flux import flux
from saccade.systems.attention_recorder import AttentionRecorder

SHAPE = {"text": 512, "height": 64, "width": 64, "heads": 24, "channels": 128, "layers": 1, "singles": 2}
WORDS = {"cat": (4,)}
UNWATCHED = "unwatched"
ARMS: Mapping[str, tuple[System, ...]] = {
    UNWATCHED: (),
    "a word": (AttentionRecorder(words=WORDS, queries=0),),
    "a word and heads": (AttentionRecorder(words=WORDS),),
}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One arm: median seconds of a step, and of the ratio to the unwatched step its median, least and most."""

    arm: str
    seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float
    repeats: int


def measure(repeats: int, shape: Mapping[str, int] = SHAPE, device: str = "cpu") -> list[Recording]:
    """All arms in turn, `repeats` times, after one step of each that is not counted.

    Raises ValueError below 2 repeats.
    """
    if repeats < 2:
        raise ValueError(f"repeats={repeats} must be at least 2, for a spread")
    model, inputs = flux(**shape)
    model = model.to(device)
    given = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}
    steps = {name: partial(_step, model, given, systems) for name, systems in ARMS.items()}
    seconds = in_turn(steps, repeats, device=device)
    return [_recording(name, seconds[name], seconds[UNWATCHED]) for name in ARMS]


def _step(model: nn.Module, inputs: Mapping[str, Any], systems: tuple[System, ...]) -> None:
    with torch.inference_mode(), attach(model, *systems) if systems else nullcontext():
        model(**inputs)


def _recording(arm: str, seconds: list[float], unwatched: list[float]) -> Recording:
    ratios = [watched / plain for watched, plain in zip(seconds, unwatched, strict=True)]
    return Recording(
        arm=arm, seconds=statistics.median(seconds), ratio=statistics.median(ratios), ratio_low=min(ratios),
        ratio_high=max(ratios), repeats=len(ratios),
    )  # fmt: skip
