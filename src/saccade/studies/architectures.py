"""Every mixer and architecture of the library at one budget of multiply-adds, on rendered scenes and on CIFAR-10.

`saccade bench architectures` compares arms of your own in the same way. CIFAR-10 is read from SACCADE_DATA.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from saccade.experiments import Bench, Experiment, Figures, Results, Row
from saccade.experiments.claims import difference
from saccade.metrics.intervals import t_interval
from saccade.metrics.machine import best_device
from saccade.train.budget_comparison import ARMS, BudgetComparison
from saccade.ui.markdown import markdown_table, signed

AGAINST = "dit"
POINTS = 12  # of a curve that are kept
KEPT = ("arm", "seed", "scaled", "parameters", "macs", "kept_bytes", "loss", "frechet", "accuracy")
HEADS = ("arm", "width", "parameters", "MMACs", "loss", "above DiT", "Frechet*", "accuracy", "kept KiB", "forward",
         "step")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the comparison (see `BudgetComparison`), with the steps of training for each source of pictures."""

    arms: tuple[str, ...] = tuple(arm.name for arm in ARMS)
    sources: dict[str, int] = field(default_factory=lambda: {"scenes": 1000, "cifar10": 600})
    judge_steps: dict[str, int] = field(default_factory=lambda: {"scenes": 400, "cifar10": 600})
    seeds: tuple[int, ...] = (0, 1, 2)
    depth: int = 4
    width: int = 64
    side: int = 16
    batch: int = 16
    pictures: int = 1000
    samples: int = 500
    sampling_steps: int = 25
    guidance: float = 1.5
    scenes: int = 16384
    rounds: int = 9


def comparison(settings: Settings, source: str) -> BudgetComparison:
    """What is equal for all arms on one source."""
    usual, steps = BudgetComparison(), settings.sources[source]
    return replace(
        usual, arms=tuple(arm for arm in ARMS if arm.name in settings.arms), source=source, side=settings.side,
        seeds=settings.seeds, depth=settings.depth, width=settings.width, batch=settings.batch,
        pictures=settings.pictures, samples=settings.samples, drawn=settings.sampling_steps,
        guidance=settings.guidance, count=settings.scenes, held=settings.scenes // 4,
        fit=replace(usual.fit, steps=steps, log_every=min(usual.fit.log_every, steps)),
        judge=replace(usual.judge, steps=settings.judge_steps[source]),
    )  # fmt: skip


def decimated(curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """About `POINTS` of a curve's points, the first and the last among them, denser early, where it falls fastest."""
    last = len(curve) - 1
    return [curve[i] for i in sorted({round(last * (k / (POINTS - 1)) ** 1.5) for k in range(POINTS)})]


@dataclass(frozen=True)
class Section:
    """Picture, table and setting of one source, where it was run."""

    source: str

    def __call__(self, results: Results, figures: Figures) -> str:
        if self.source not in results.distinct("runs.source"):
            return "Not run."
        used = results.settings
        setting = (
            f"{used['side']} x {used['side']} pixels, {used['sources'][self.source]:,} steps of {used['batch']} "
            f"pictures, seeds {', '.join(map(str, used['seeds']))}; {used['samples']} samples in "
            f"{used['sampling_steps']} steps with guidance {used['guidance']:g}."
        )
        return f"{self.plot(results, figures)}\n\n{self.table(results)}\n\n{setting}"

    def losses(self, results: Results) -> dict[str, float]:
        """Mean loss on held-out pictures by arm, the best first."""
        arms = results.distinct("runs.arm", source=self.source)
        found = {arm: fmean(results.values("runs.loss", source=self.source, arm=arm)) for arm in arms}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def table(self, results: Results) -> str:
        """A row for each arm."""
        return markdown_table(HEADS, (self.row(results, arm) for arm in self.losses(results)))

    def row(self, results: Results, arm: str) -> tuple[str, ...]:
        """One arm's cells."""
        where = {"source": self.source, "arm": arm}
        first, times = results.rows("runs", **where)[0], results.rows("times", **where)[0]
        here = replace(results, tables={"runs": results.rows("runs", source=self.source)})
        above = "" if arm == AGAINST else signed(difference(here, "runs.loss", arm, AGAINST), 4)
        return (
            arm, str(first["scaled"]), f"{first['parameters']:,}", f"{first['macs'] / 1e6:.1f}",
            f"{fmean(results.values('runs.loss', **where)):.4f}", above,
            str(t_interval(results.values("runs.frechet", **where))),
            f"{fmean(results.values('runs.accuracy', **where)):.0%}", f"{first['kept_bytes'] / 1024:,.0f}",
            f"{times['forward']:.2f}", f"{times['step']:.2f}",
        )  # fmt: skip

    def plot(self, results: Results, figures: Figures) -> str:
        """Loss over steps, a line for each arm; and final loss against the time of a step."""
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        losses = self.losses(results)
        for number, arm in enumerate(results.distinct("runs.arm", source=self.source)):
            where = {"source": self.source, "arm": arm}
            colour, line = f"C{number % 10}", "-" if number < 10 else "--"
            curve = results.by("curves.loss", "step", **where)
            left.plot(list(curve), list(curve.values()), label=arm, linewidth=1.2, color=colour, linestyle=line)
            at = results.rows("times", **where)[0]["step"], losses[arm]
            right.plot(*at, "o", color=colour)
            right.annotate(arm, at, xytext=(4, 3), textcoords="offset points")
        left.set(xlabel="step", ylabel="training loss, mean over seeds", yscale="log")
        left.legend(fontsize=7, ncols=2, loc="upper right")
        right.set(xlabel="time of a training step, DiT's = 1", ylabel="loss on held-out pictures")
        about = "Loss over the steps, and loss against time of a training step, of every architecture"
        return figures.save(self.source, figure, about)


EXPERIMENT: Experiment[Settings] = Experiment(
    name="architectures",
    settings=Settings(),
    quick=Settings(
        arms=("dit", "linear"), sources={"scenes": 2}, judge_steps={"scenes": 2}, seeds=(0,), depth=1, width=16,
        batch=4, pictures=64, samples=28, sampling_steps=2, scenes=256, rounds=2,
    ),
    hours=3,
    device="best",
    sections={source: (Section(source),) for source in ("scenes", "cifar10")},
    page="studies/architectures.md",
)  # fmt: skip


@EXPERIMENT.part(tables=True)
def training(bench: Bench[Settings]) -> Iterable[Row]:
    """Runs, curves (means over seeds, a few points each) and times, for each source of pictures."""
    for source in bench.settings.sources:
        about = {"source": source}
        compared = comparison(bench.settings, source)
        runs = compared.run(bench.work / source, bench.progress)
        yield from ({"table": "runs"} | about | {name: run[name] for name in KEPT} for run in runs)
        for arm in bench.settings.arms:
            yield from ({"table": "curves"} | about | {"arm": arm} | row for row in mean_curve(runs, arm))
        bench.progress(len(runs), len(runs), f"{source}: timing")
        for arm, kinds in compared.times(bench.settings.rounds, best_device()).items():
            yield {"table": "times"} | about | {"arm": arm} | {kind: found[1] for kind, found in kinds.items()}


def mean_curve(runs: list[dict[str, Any]], arm: str) -> Iterable[Row]:
    """Training loss of an arm at a few steps, mean over seeds."""
    curves = [run["curve"] for run in runs if run["arm"] == arm]
    means = [(points[0][0], fmean(loss for _, loss in points)) for points in zip(*curves, strict=True)]
    yield from ({"step": step, "loss": loss} for step, loss in decimated(means))
