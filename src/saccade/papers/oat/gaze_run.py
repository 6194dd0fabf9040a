"""Photographs that people looked at freely, as grids of cells, and a model that learns how: training and judging.

OSIE where it lies on this machine, or pictures of discs, which need no file. Every arm makes some scanpaths of each
held-out picture, and all are compared with the same observers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from saccade.core.checks import check_word
from saccade.core.scanpath import Points
from saccade.data.discs import disc_gaze
from saccade.data.gaze import GazeSet
from saccade.data.osie import read_osie
from saccade.experiments.results import Row
from saccade.metrics.scanpaths import (
    auc_judd,
    cc,
    grid_cells,
    levenshtein,
    multimatch,
    nss,
    saliency_map,
    scanmatch,
    sequence_score,
)
from saccade.papers.oat.cells import FEATURES, as_cells, cell_features, in_cells
from saccade.papers.oat.decoding import scanpaths
from saccade.papers.oat.model import OAT
from saccade.papers.oat.preparation import usual_lengths
from saccade.papers.oat.search import Search
from saccade.papers.oat.shelf_run import fitted, stage
from saccade.papers.oat.training import padded

GazeName = Literal["osie", "discs"]
BINS, MAP, SIGMA = (12, 8), (40, 30), 2.0  # cells of strings and of maps; a blur in cells of maps
DISCS = 60


@dataclass(frozen=True, kw_only=True)
class GazeRun:
    """`trained`, `judged`: pictures; `made`: scanpaths of each by every arm; `observers`: those it is judged by."""

    source: GazeName = "osie"
    grid: tuple[int, int] = (6, 8)
    trained: int = 300
    judged: int = 50
    made: int = 3
    observers: int = 5
    width: int = 128
    depth: int = 2
    steps: int = 250
    batch: int = 32

    def __post_init__(self) -> None:
        check_word(get_args(GazeName), source=self.source)


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Pictures as cells, and for each its observers' fixations (n 2), in pixels of `size`."""

    features: Float32[np.ndarray, "m p d"]
    people: list[list[Points]]
    size: tuple[int, int]
    grid: tuple[int, int]

    def take(self, chosen: Sequence[int] | np.ndarray) -> "Views":
        """Some of the pictures."""
        people = [self.people[i] for i in chosen]
        return Views(features=self.features[np.asarray(chosen)], people=people, size=self.size, grid=self.grid)

    def trials(self) -> dict[str, Tensor]:
        """What a `ScanpathTask` takes, without trials of unusual length."""
        paths = [as_cells(path, self.size, self.grid) for each in self.people for path in each]
        layout = np.repeat(np.arange(len(self.people)), [len(each) for each in self.people])
        kept = usual_lengths(paths)
        sequence = padded([path for path, keep in zip(paths, kept, strict=True) if keep], self.features.shape[1])
        objects = torch.from_numpy(self.features)
        return {"objects": objects, "layout": torch.from_numpy(layout[kept]), "sequence": sequence}


@cache
def views(run: GazeRun) -> tuple[Views, Views]:
    """Pictures to train on and held-out ones, features scaled by the former.

    Raises FileNotFoundError where SACCADE_DATA has no OSIE.
    """
    gaze = read_osie() if run.source == "osie" else disc_gaze(DISCS, run.observers + run.made)
    parts = [_opened(gaze.split("train"), run.trained, run.grid), _opened(gaze.split("held-out"), None, run.grid)]
    mean, spread = parts[0].features.mean((0, 1)), parts[0].features.std((0, 1)) + 1e-6
    for part in parts:
        np.divide(part.features - mean, spread, out=part.features)
    return parts[0], parts[1]


def _opened(gaze: GazeSet, count: int | None, grid: tuple[int, int]) -> Views:
    names = gaze.names[:count]
    features = np.stack([cell_features(gaze.picture(name), grid) for name in names])
    people = [[path.points for path in gaze.scanpaths[name]] for name in names]
    return Views(features=features, people=people, size=gaze.size, grid=grid)


def trained(run: GazeRun, seen: Views, seed: int, folder: Path) -> OAT:
    """A model of free viewing."""
    torch.manual_seed(seed)
    width, depth = run.width, run.depth
    model = OAT(width=width, hidden=width, depth=depth, decoder_depth=depth, features=FEATURES, places=max(run.grid))
    return fitted(model, seen.trials(), run.grid, stage(run.steps, run.batch), folder)


Made = list[list[Points]]  # of each picture


def sampled(model: OAT, held: Views, run: GazeRun, seed: int) -> Made:
    """Scanpaths of the model, each fixation somewhere in its cell."""
    rng, generator = np.random.default_rng([seed, 1]), torch.Generator().manual_seed(seed)
    search = Search(objects=torch.from_numpy(held.features), grid=held.grid).repeated(run.made)
    found = scanpaths(model, search, longest=20, sample=True, generator=generator)
    points = [in_cells(path, held.size, held.grid, rng) for path in found]
    return [points[i : i + run.made] for i in range(0, len(points), run.made)]


def drawn_from(odds: Float[np.ndarray, " p"], seen: Views, held: Views, run: GazeRun, seed: int) -> Made:
    """Cells by their odds, whatever the picture, as many as somebody's fixations while training."""
    rng = np.random.default_rng([seed, 2])
    lengths = [len(path) for each in seen.people for path in each]

    def one() -> Points:
        cells = rng.choice(len(odds), int(rng.choice(lengths)), p=odds / odds.sum())
        return in_cells(cells, held.size, held.grid, rng)

    return [[one() for _ in range(run.made)] for _ in held.people]


def centre_odds(seen: Views) -> Float[np.ndarray, " p"]:
    """How often each cell is fixated over all pictures."""
    cells = np.concatenate([as_cells(path, seen.size, seen.grid) for each in seen.people for path in each])
    return np.bincount(cells, minlength=seen.features.shape[1]).astype(np.float64)


def judged(made: Made, held: Views, run: GazeRun) -> Row:
    """Means over pictures; the last observers are those compared with, so that others may be an arm themselves."""
    rows = [_of_picture(a, b[-run.observers :], held) for a, b in zip(made, held.people, strict=True)]
    return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


def _of_picture(made: list[Points], people: list[Points], held: Views) -> Row:
    size = held.size
    pairs = [(a, b) for a in made for b in people]
    score: dict[str, Callable[[Points, Points], float]] = {
        "scanmatch": lambda a, b: scanmatch(a, b, size, BINS),
        "nw": lambda a, b: sequence_score(grid_cells(a, size, BINS), grid_cells(b, size, BINS)),
        "levenshtein": lambda a, b: levenshtein(grid_cells(a, size, BINS), grid_cells(b, size, BINS)),
    }
    chains = np.array([multimatch(a, b, size)[:4] for a, b in pairs])
    named = dict(zip(("vector", "direction", "length", "position"), _means(chains), strict=True))
    found = {name: float(np.mean([each(a, b) for a, b in pairs])) for name, each in score.items()}
    return {**found, **named, **_saliency(made, people, size)}


def _means(chains: Float[np.ndarray, "n 4"]) -> list[float]:
    """Without pairs of which one has fewer than three fixations."""
    there = chains[~np.isnan(chains).any(1)]
    return there.mean(0).tolist() if len(there) else [np.nan] * 4


def _saliency(made: list[Points], people: list[Points], size: tuple[int, int]) -> Row:
    fixations = np.concatenate(people)
    ours, theirs = (saliency_map(np.concatenate(each), size, SIGMA, MAP) for each in (made, people))
    return {
        "nss": nss(ours, fixations, size),
        "auc": auc_judd(ours, fixations, size),
        "cc": cc(ours, theirs),
        "fixations": float(np.mean([len(path) for path in made])),
    }
