"""Arms trained at one budget, as a part of an experiment, and probes that look at every trained model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from saccade.data.labelled import Source
from saccade.experiments.experiment import Bench, Experiment
from saccade.experiments.results import Row
from saccade.models.sizing import Arm, build
from saccade.nn.eval_mode import eval_mode
from saccade.train.budget_comparison import BudgetComparison
from saccade.train.checkpoint import trained
from saccade.train.denoising import ArchitectureLoss
from saccade.train.objectives import RectifiedFlow

S = TypeVar("S")
DROPPED = ("curve",)  # of a run's result: what no page shows


@dataclass(frozen=True, kw_only=True)
class Probed:
    """A trained model, and held-out pictures noised to time `t` in [0, 1], 1 being noise."""

    model: nn.Module
    arm: str
    seed: int
    t: float
    clean: Tensor
    x: Tensor
    labels: Tensor
    source: Source

    def forward(self) -> None:
        """Run the model on the noised pictures."""
        self.model(self.x, torch.full((len(self.x),), self.t), self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """Rows of every arm and seed in the table "runs"; each probe's rows in the table of its name.

    arms        name -> model as text; `comparison` of the settings holds everything else
    comparison  from the experiment's settings, what is equal for all arms
    """

    arms: Mapping[str, str]
    comparison: Callable[[Any], BudgetComparison]
    scaled: str = "width"
    probes: dict[str, tuple[Callable[[Probed], Iterable[Row]], tuple[float, ...], int]] = field(default_factory=dict)

    def probe(self, *, times: tuple[float, ...] = (0.5,), pictures: int = 64) -> Callable[[Any], Any]:
        """Declare a function from a probed model to rows, called at each time for every run.

        pictures  it looks at; no more than the comparison measures
        """

        def declare(rows: Callable[[Probed], Iterable[Row]]) -> Callable[[Probed], Iterable[Row]]:
            self.probes[rows.__name__] = rows, times, pictures
            return rows

        return declare

    def into(self, experiment: Experiment[S]) -> None:
        """Make this a part of an experiment, by the name "training"."""
        experiment.part(tables=True, name="training")(self.rows)

    def rows(self, bench: Bench[Any]) -> Iterable[Row]:
        """Train what is not trained yet, then look at it."""
        arms = tuple(Arm(name=name, model=text, scaled=self.scaled) for name, text in self.arms.items())
        comparison = replace(self.comparison(bench.settings), arms=arms)
        source = comparison.open()
        for run in comparison.run(bench.work, bench.progress):
            yield {"table": "runs"} | {name: value for name, value in run.items() if name not in DROPPED}
            yield from self._probed(run, comparison, source, bench.work / f"{run['arm']}-{run['seed']}")

    def _probed(self, run: Row, comparison: BudgetComparison, source: Source, folder: Path) -> Iterable[Row]:
        if not self.probes:
            return
        model = restored(run, comparison.base(source), folder)
        for name, (rows, times, pictures) in self.probes.items():
            for t in times:
                about = {"table": name, "arm": run["arm"], "seed": run["seed"], "t": t}
                with torch.no_grad(), eval_mode(model):
                    seen = probed(model, run, source, t, min(pictures, comparison.pictures))
                    yield from (about | row for row in rows(seen))


def probed(model: nn.Module, run: Row, source: Source, t: float, pictures: int) -> Probed:
    """The model of a run on held-out pictures at a time; the noise is always the same."""
    clean, labels = source.held_out(pictures)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    x = (1 - t) * clean + t * noise
    return Probed(
        model=model, arm=run["arm"], seed=run["seed"], t=t, clean=clean, x=x, labels=labels, source=source
    )  # fmt: skip


def restored(run: Row, base: Mapping[str, Any], folder: Path) -> nn.Module:
    """A run's model with its averaged weights."""
    model = build(run["model"], **{**base, run["option"]: run["scaled"]})
    ArchitectureLoss(model, RectifiedFlow()).load_state_dict(trained(folder))
    return model.eval()
