"""A long video by windows: each step denoises overlapping windows and blends their clean guesses before the solver.

Windows are predicted some at a time, as (source, target) pairs by default: window k with window k + 1, so that inner
windows are predicted twice and both guesses count. The solver, its history and its noise know only the long latent.

A prediction is turned into the clean latent x0 it stands for, and a blended x0 back, at a level x = alpha x0 + sigma e:

    epsilon            e                    x0 = (x - sigma e) / alpha
    v_prediction       alpha e - sigma x0   x0 = alpha x - sigma v
    flow_prediction    e - x0               x0 = (x - sigma v) / (alpha + sigma)
    sample             x0

Source: Cai et al., "DiTCtrl" (2024).
"""

from collections.abc import Callable, Iterable, Sequence
from math import cos, pi
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.checks import check_whole, check_word
from saccade.runs.windows import Windows, pairs, visit_shares

PredictionKind = Literal["epsilon", "flow_prediction", "sample", "v_prediction"]
ScheduleIndex = Literal["step", "official"]
Clean = Callable[[Tensor, list[Any], tuple[int, ...], int], Tensor]  # (windows, conditions, numbers, step) -> x0
Advance = Callable[[Tensor, Tensor, int], Tensor]  # (latent, x0, step) -> latent


@torch.no_grad()
def sample_windows(
    clean: Clean,
    noise: Float[Tensor, "*d"],
    windows: Windows,
    conditions: Sequence[Any],
    advance: Advance,
    *,
    steps: int,
    visits: Sequence[tuple[int, ...]] | None = None,
) -> Float[Tensor, "*d"]:
    """Denoise the long latent (frames ...).

    clean       `clean(x (r tile *d), conditions of r windows, their numbers, step)`: what each would be without noise
    conditions  one for each window, handed on as they are
    advance     `advance(latent, x0, step)`: a step of any solver, both (f *d)
    visits      windows of each call of `clean`; by default pairs of neighbours
    Raises ValueError where frames, conditions or windows do not fit, and for pairs where there is one window alone.
    """
    check_whole(1, steps=steps)
    if len(noise) != windows.frames:
        raise ValueError(f"noise has {len(noise)} frames, {windows.count} windows cover {windows.frames}: {windows}")
    if len(conditions) != windows.count:
        raise ValueError(f"conditions are {len(conditions)} for {windows.count} windows; give one for each")
    if visits is None and windows.count < 2:
        raise ValueError(f"one window is no pair: {windows}; give two prompts or more, the same one again if need be")
    chosen = pairs(windows) if visits is None else tuple(visits)
    x = noise
    for step in range(steps):
        found = (clean(_at(x, windows, visit), [conditions[w] for w in visit], visit, step) for visit in chosen)
        x = advance(x, blended(found, windows, chosen), step)
    return x


def blended(
    found: Iterable[Float[Tensor, "r t *d"]], windows: Windows, visits: Sequence[tuple[int, ...]] | None = None
) -> Float[Tensor, "*whole"]:
    """One long latent (frames ...) of what was found in each visit's windows; frames that were visited once are copied.

    Raises ValueError where a frame is never visited, or a visit holds other frames than a window has.
    """
    chosen = pairs(windows) if visits is None else tuple(visits)
    shares, whole = iter(visit_shares(windows, chosen)), None
    for visit, pieces in zip(chosen, found, strict=True):
        if pieces.shape[:2] != (len(visit), windows.tile):
            raise ValueError(
                f"windows {visit} were answered by {tuple(pieces.shape)}; {(len(visit), windows.tile)} frames are due"
            )
        whole = pieces.new_zeros(windows.frames, *pieces.shape[2:]) if whole is None else whole
        for window, piece in zip(visit, pieces, strict=True):
            share = next(shares).to(whole)
            whole[windows.span(window)] += share.view(-1, *[1] * (piece.ndim - 1)) * piece
    assert whole is not None
    return whole


def to_clean(
    prediction: Float[Tensor, "*d"], x: Float[Tensor, "*d"], *, alpha: float, sigma: float, kind: PredictionKind
) -> Float[Tensor, "*d"]:
    """The clean latent that a prediction at this level stands for.

    Raises ValueError for a kind there is not, and for epsilon where alpha is 0: pure noise says nothing of it.
    """
    check_word(get_args(PredictionKind), kind=kind)
    if kind == "epsilon":
        _refuse_nothing(alpha=alpha)
        return (x - sigma * prediction) / alpha
    if kind == "v_prediction":
        return alpha * x - sigma * prediction
    return (x - sigma * prediction) / (alpha + sigma) if kind == "flow_prediction" else prediction


def from_clean(
    clean: Float[Tensor, "*d"], x: Float[Tensor, "*d"], *, alpha: float, sigma: float, kind: PredictionKind
) -> Float[Tensor, "*d"]:
    """The prediction that stands for this clean latent: `to_clean` the other way.

    Raises ValueError for a kind there is not, and where sigma is 0: without noise there is none to predict.
    """
    check_word(get_args(PredictionKind), kind=kind)
    if kind == "sample":
        return clean
    _refuse_nothing(sigma=sigma)
    if kind == "epsilon":
        return (x - alpha * clean) / sigma
    return (alpha * x - clean) / sigma if kind == "v_prediction" else (x - (alpha + sigma) * clean) / sigma


def rising_guidance(
    step: int,
    steps: int,
    *,
    scale: float = 6.0,
    power: float = 5.0,
    index: ScheduleIndex = "step",
    timestep: float | None = None,
) -> float:
    """Guidance that grows from 1 at the first step towards 1 + scale: 1 + scale (1 - cos(pi (i / steps)^power)) / 2.

    index  "step" counts sampler steps; "official" takes steps - timestep, a training timestep, as the released code
           does, where i is far below 0 and the weight leaps about in [1, 1 + scale]
    Raises ValueError for an index there is not, and for "official" without the timestep.
    """
    check_word(get_args(ScheduleIndex), index=index)
    if index == "official" and timestep is None:
        raise ValueError("index='official' needs the training timestep of the step; give timestep=")
    i = step if index == "step" or timestep is None else steps - timestep
    return 1 + scale * (1 - cos(pi * (i / steps) ** power)) / 2


def _at(x: Tensor, windows: Windows, visit: tuple[int, ...]) -> Tensor:
    return torch.stack([x[windows.span(window)] for window in visit])


def _refuse_nothing(**level: float) -> None:
    ((name, value),) = level.items()
    if value == 0:
        raise ValueError(f"{name}=0 leaves nothing to divide by; choose a prediction that holds there, as v_prediction")
