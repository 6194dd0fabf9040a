"""Shelves of coloured shapes, a made searcher, and models that learn its ways: what is trained and how it is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional as F

from saccade.experiments.results import Row
from saccade.metrics.scanpaths import behaviour, behaviour_delta, levenshtein, mean_behaviour, next_sim, sequence_score
from saccade.nn.eval_mode import eval_mode
from saccade.papers.oat.decoding import scanpaths
from saccade.papers.oat.model import OAT
from saccade.papers.oat.search import Search, special
from saccade.papers.oat.shelves import Searcher, Shelf, sample_shelf
from saccade.papers.oat.training import ScanpathStage, ScanpathTask, padded
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim

Paths = list[list[Int64[np.ndarray, " _"]]]  # of each shelf


@dataclass(frozen=True, kw_only=True)
class ShelfRun:
    """`trained`, `judged`: shelves; `trials`: searches of each, made and sampled; `side` of a crop, in pixels."""

    grid: tuple[int, int] = (3, 6)
    trained: int = 600
    judged: int = 40
    trials: int = 4
    side: int = 24
    width: int = 128
    depth: int = 2
    steps: int = 200
    batch: int = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Searched:
    """Shelves and how they were searched, `paths[i]` of shelf i."""

    shelves: list[Shelf]
    paths: Paths

    @classmethod
    def made(cls, count: int, trials: int, grid: tuple[int, int], rng: np.random.Generator) -> "Searched":
        """By the searcher."""
        return cls(shelves=[sample_shelf(rng, grid) for _ in range(count)], paths=[]).again(trials, rng)

    def again(self, trials: int, rng: np.random.Generator) -> "Searched":
        """The same shelves, searched anew."""
        searcher = Searcher()
        paths = [[searcher.search(each, rng) for _ in range(trials)] for each in self.shelves]
        return Searched(shelves=self.shelves, paths=paths)

    def search(self, side: int) -> Search:
        """A row for each shelf."""
        crops = torch.from_numpy(np.stack([each.crops(side) for each in self.shelves]))
        target = torch.tensor([each.target for each in self.shelves])
        return Search(objects=crops, grid=self.shelves[0].grid, target=target)

    def trials(self, side: int) -> dict[str, Tensor]:
        """What a `ScanpathTask` takes."""
        search, counts = self.search(side), torch.tensor([len(each) for each in self.paths])
        assert search.target is not None
        return {
            "objects": search.objects,
            "layout": torch.arange(len(counts)).repeat_interleave(counts),
            "target": search.target.repeat_interleave(counts),
            "sequence": padded([path for paths in self.paths for path in paths], search.count),
        }


def stage(steps: int, batch: int) -> ScanpathStage:
    """A short training."""
    optim = Optim(lr=1e-3, muon_lr=5e-3)
    fit_ = Fit(steps=steps, precision="no", decay=0.97, log_every=50, sheet_every=10**9, optim=optim)
    return ScanpathStage(fit=fit_, batch=batch)


def fitted(model: OAT, trials: dict[str, Tensor], grid: tuple[int, int], how: ScanpathStage, folder: Path) -> OAT:
    """The model after its training, with averaged weights; one that `folder` holds goes on where it stopped."""
    fit(ScanpathTask(model, trials, grid, how), how.fit, folder, cpu=True)
    return model.eval()


def trained(run: ShelfRun, seen: Searched, seed: int, folder: Path, **options: Any) -> OAT:
    """A model of some options on shelves."""
    torch.manual_seed(seed)
    sizes = {"width": run.width, "hidden": run.width, "depth": run.depth, "decoder_depth": run.depth}
    model = OAT(**sizes, crop=(run.side, run.side), pyramid=2, places=max(run.grid), **options)
    return fitted(model, seen.trials(run.side), run.grid, stage(run.steps, run.batch), folder)


def sampled(model: OAT, held: Searched, run: ShelfRun, seed: int) -> Paths:
    """As many searches of every shelf as somebody made, sampled."""
    search = held.search(run.side).repeated(run.trials)
    generator = torch.Generator().manual_seed(seed)
    found = scanpaths(model, search, longest=Searcher().longest, sample=True, generator=generator)
    return [found[i : i + run.trials] for i in range(0, len(found), run.trials)]


def judged(found: Paths, held: Searched) -> Row:
    """Sampled searches against all of somebody's on the same shelf, and behaviour over all shelves."""
    pairs = [(a, b) for ours, theirs in zip(found, held.paths, strict=True) for a in ours for b in theirs]
    mine, human = (behaviours(paths, held.shelves) for paths in (found, held.paths))
    return {
        "nw": float(np.mean([sequence_score(a, b) for a, b in pairs])),
        "levenshtein": float(np.mean([levenshtein(a, b) for a, b in pairs])),
        "delta": behaviour_delta(mine, human),
        **mine._asdict(),
    }


def behaviours(paths: Paths, shelves: Sequence[Shelf]) -> Any:
    """The mean over all searches."""
    trials = zip(paths, shelves, strict=True)
    return mean_behaviour([behaviour(path, shelf.target) for each, shelf in trials for path in each])


@torch.no_grad()
def foretold(model: OAT, held: Searched, side: int) -> Row:
    """Nats a fixation, and the probability given to the next object, where the fixations before are known."""
    trials = held.trials(side)
    search = Search(objects=trials["objects"][trials["layout"]], grid=held.shelves[0].grid, target=trials["target"])
    with eval_mode(model):
        logits = model(search, trials["sequence"][:, :-1]).out
    wanted = trials["sequence"][:, 1:]
    real = wanted != special(search.count).pad
    return {
        "nats": float(F.cross_entropy(logits[real], wanted[real])),
        "sim": next_sim(logits[real].softmax(-1).numpy(), wanted[real].numpy()),
    }
