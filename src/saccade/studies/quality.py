"""How far the offline judges can be trusted: how often they are right, and what each score says of known failings.

CIFAR-10 is read from SACCADE_DATA (parquet needs pyarrow). Expected: every kind of scene recognised, four in five
CIFAR-10 pictures; noise, blur and mixtures far off in distance and precision; missing kinds in recall and coverage; a
missing background most of all in the layout.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.data.labelled import SceneSource, open_scenes
from saccade.data.scenes import Scene
from saccade.experiments import Bench, Experiment, Figures, Results, Row
from saccade.metrics import Spread
from saccade.metrics import quality as judged_as
from saccade.metrics.stopwatch import measure
from saccade.models.classifier import Classifier
from saccade.train.classifier import ClassifierRecipe
from saccade.ui.markdown import markdown_table

FEW = 20  # of so many pictures one is kept, where few are repeated
LACKING: dict[str, Callable[[Scene], bool]] = {
    "another sample of real ones": lambda scene: True,
    "only black backgrounds": lambda scene: scene.background == "black",
    "only large objects": lambda scene: scene.things[0].size == "large",
    "only at the left": lambda scene: "left" in scene.things[0].place,
    "no cyan, no crosses": lambda scene: scene.things[0].colour != "cyan" and scene.things[0].shape != "cross",
}
DAMAGED: dict[str, Callable[[Tensor], Tensor]] = {
    "faint noise": lambda x: (x + 0.05 * torch.randn_like(x)).clamp(-1, 1),
    "noise": lambda x: (x + 0.2 * torch.randn_like(x)).clamp(-1, 1),
    "blur over 3 pixels": lambda x: F.avg_pool2d(F.pad(x, (1,) * 4, mode="replicate"), 3, 1),
    "three tenths of another picture": lambda x: 0.7 * x + 0.3 * x.roll(1, 0),
}
DISTANCES = ("frechet", "kernel", "layout")
SHARES = ("precision", "recall", "density", "coverage")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Classifiers of `sources`, each trained for `steps` of `batch` pictures; `judged` pictures against as many."""

    sources: tuple[str, ...] = ("scenes", "cifar10")
    steps: int = 1000
    batch: int = 128
    judged: int = 1000
    accuracy_of: int = 4000
    scenes: int = 16384

    @property
    def pool(self) -> int:
        """Real pictures, from which subsets are taken that lack something."""
        return 12 * self.judged


def accuracy_table(results: Results, figures: Figures) -> str:
    """A row for each source."""
    head = ("source", "side", "classes", "right on held-out pictures", "of", "steps", "training, s", "weights")
    rows = [
        (
            row["source"], row["side"], row["classes"], f"{100 * row['accuracy']:.1f} %", f"{row['pictures']:,}",
            f"{row['steps']:,} of {row['batch']}", f"{row['seconds']:.0f}", f"{row['parameters']:,}",
        )
        for row in results.rows("judges")
    ]  # fmt: skip
    return markdown_table(head, rows)


def failings_table(results: Results, figures: Figures) -> str:
    """A row for each way of failing."""
    rows = [
        (
            row["pictures"],
            *(Spread(value=row[name], spread=row[f"{name}_spread"]) for name in DISTANCES),
            *(f"{row[name]:.2f}" for name in SHARES),
            f"{100 * row['accuracy']:.1f} %",
        )
        for row in results.rows("failings")
    ]
    table = markdown_table(("pictures", *DISTANCES, *SHARES, "accuracy"), rows)
    return f"{table}\n\n{results.settings['judged']:,} pictures against as many real ones."


EXPERIMENT: Experiment[Settings] = Experiment(
    name="quality",
    settings=Settings(),
    quick=Settings(sources=("scenes",), steps=2, batch=16, judged=24, accuracy_of=64, scenes=256),
    hours=0.1,
    device="best",
    sections={"accuracy": (accuracy_table,), "failings": (failings_table,)},
    page="studies/quality.md",
)


@EXPERIMENT.part(tables=True)
def judging(bench: Bench[Settings]) -> Iterable[Row]:
    """Accuracy of every source's judge, and what that of scenes says of failings."""
    for number, source in enumerate(bench.settings.sources):
        bench.progress(number, len(bench.settings.sources), source)
        made = measure(lambda source=source: judge(bench.settings, source, bench.work / source))
        yield {"table": "judges"} | accuracy(bench.settings, source, bench.work / source) | {"seconds": made.seconds}
        if source == "scenes":
            yield from ({"table": "failings"} | row for row in failings(made.result, bench.settings))


def recipe(settings: Settings, source: str) -> ClassifierRecipe:
    """How a source's judge is made."""
    usual = ClassifierRecipe()
    stage = replace(usual.train, fit=replace(usual.train.fit, steps=settings.steps), batch=settings.batch)
    return ClassifierRecipe(
        source=source, judged=settings.accuracy_of, count=settings.scenes, held=settings.scenes // 4, train=stage
    )


def judge(settings: Settings, source: str, folder: Path) -> Classifier:
    """A source's judge, trained unless the folder holds it."""
    return recipe(settings, source).judge(folder)


def accuracy(settings: Settings, source: str, folder: Path) -> Row:
    """What a judge measured of itself."""
    found: dict[str, Any] = json.loads((folder / "model" / "measured.json").read_text())["measured"]
    about = {name: found[name] for name in ("side", "pictures", "parameters")}
    made = recipe(settings, source).train
    trained = {"steps": made.fit.steps, "batch": made.batch}
    return {"source": source, "classes": len(found["names"]), "accuracy": found["accuracy"]["mid"], **about, **trained}


def failings(classifier: Classifier, settings: Settings) -> Iterable[Row]:
    """Every score of every failing, on as many pictures."""
    n = settings.judged
    source = open_scenes(32, count=1, held=settings.pool, seed=1)
    x, labels = source.held_out(settings.pool)
    torch.manual_seed(0)
    others, wanted = x[n : 2 * n], labels[n : 2 * n]
    lacking = ((name, chosen(source, keep, settings)) for name, keep in LACKING.items())
    fakes: dict[str, tuple[Tensor, Tensor]] = {
        **{name: (x[rows], labels[rows]) for name, rows in lacking},
        **{name: (damage(others), wanted) for name, damage in DAMAGED.items()},
        "few pictures, repeated": (repeated(others), repeated(wanted)),
    }
    for name, (fake, asked) in fakes.items():
        found = judged_as(classifier, x[:n], labels[:n], fake, asked)
        distances = {each: getattr(found, each) for each in DISTANCES}
        yield {
            "pictures": name,
            **{each: score.value for each, score in distances.items()},
            **{f"{each}_spread": score.spread for each, score in distances.items()},
            **{each: getattr(found, each) for each in SHARES},
            "accuracy": found.accuracy.mid,
        }


def chosen(source: SceneSource, keep: Callable[[Scene], bool], settings: Settings) -> Tensor:
    """Which pictures to take: the first ones behind the real ones that `keep` accepts."""
    scenes = source.scenes(settings.pool)
    kept = np.array([i >= settings.judged and keep(scene) for i, scene in enumerate(scenes)])
    return torch.from_numpy(np.flatnonzero(kept)[: settings.judged])


def repeated(rows: Tensor) -> Tensor:
    """The first of so many, again and again."""
    return rows[: len(rows) // FEW].repeat(FEW, *(1,) * (rows.dim() - 1))
