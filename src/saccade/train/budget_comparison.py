"""The fair comparison of architectures: each at one budget, on the same pictures, for the same steps and seeds."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from saccade.core.catalogue import comparison_arms
from saccade.data.labelled import Label, Source
from saccade.metrics.quality import quality
from saccade.models.classifier import Classifier
from saccade.models.sizing import Arm, build, parameters
from saccade.nn.eval_mode import eval_mode
from saccade.train.checks import check_positive
from saccade.train.classifier import ClassifierRecipe, ClassifierStage
from saccade.train.costs import Quartiles, device_of, kept_by, multiply_adds, ratios, seconds_in_turn
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.equal_budget import ArmRun, Begin, EqualBudget
from saccade.train.judging import SMALLEST, evaluate, null_condition
from saccade.train.loop import Fit, fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim
from saccade.train.pictures import to_bytes
from saccade.train.plots import save_picture, tile

SHOWN = 32

ARMS = (
    Arm(name="dit"),
    Arm(name="linear", model='DiT(mixer="linear(local=5)")'),
    *(Arm(name=name, model=model) for name, model in comparison_arms().items()),
)


@dataclass(frozen=True, kw_only=True)
class BudgetComparison(EqualBudget):
    """As `EqualBudget`, of models that draw labelled pictures.

    source, side     of the pictures; label: what labels of scenes mean; count, held: how many are rendered
    pictures         held-out ones whose loss is measured, and against which samples are judged
    samples, drawn   how many are drawn, in how many steps; guidance: led by how much
    Raises ValueError for options out of range.
    """

    arms: tuple[Arm, ...] = ARMS
    patch: int = 2
    source: str = "scenes"
    side: int = 16
    label: Label = "kind"
    count: int = 16384
    held: int = 4096
    fit: Fit = field(
        default_factory=lambda: Fit(
            steps=1000, precision="no", decay=0.99, log_every=20, save_every=500, sheet_every=10**9,
            optim=Optim(lr=5e-3, muon_lr=1.5e-2, flatten=True),
        )
    )  # fmt: skip
    pictures: int = 1000
    samples: int = 500
    drawn: int = 25
    guidance: float = 1.5
    judge: Fit = field(default_factory=lambda: replace(ClassifierStage().fit, precision="no", steps=400, minutes=None))

    baseline: ClassVar[str] = "DiT"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(pictures=self.pictures, samples=self.samples, drawn=self.drawn)

    def runs(self, folder: Path, source: Source) -> Begin:
        """Runs that share the classifier that judges, which the first of them trains."""
        judge = cache(lambda: self.judging().judge(folder / "judge"))
        return lambda arm, options, seed: PictureRun(self, arm, options, seed, source, judge)

    def times(self, rounds: int, device: torch.device | str = "cpu") -> dict[str, dict[str, Quartiles]]:
        """Seconds of a forward and of a training step, as ratios to the first arm's: quartiles over rounds."""
        base = self.base(self.open())
        found = seconds_in_turn(self.models(device), base, rows=self.batch, rounds=rounds)
        return ratios(found, self.arms[0].name)

    def base(self, source: Source) -> dict[str, Any]:
        """Options that every architecture gets, where it has them."""
        of_source = {"side": source.side, "channels": source.channels, "classes": source.classes}
        sizes = {name: getattr(self, name) for name in ("depth", "width", "heads", "patch")}
        return {
            **sizes,
            **of_source,
            "learned_variance": False,
            "time_scale": 1000.0,
            "words_width": 64,
        }

    def multiply_adds(self, model: nn.Module, base: dict[str, Any]) -> float:
        """Of a forward of one picture."""
        return multiply_adds(model, base)

    def open(self) -> Source:
        """The pictures."""
        return self.judging().open()

    def judging(self) -> ClassifierRecipe:
        """How the classifier that judges samples is made."""
        stage = replace(ClassifierStage(), fit=self.judge, shift=1 if self.side <= 16 else 3)
        return ClassifierRecipe(
            source=self.source, side=self.side, label=self.label, judged=self.pictures, train=stage, count=self.count,
            held=self.held,
        )  # fmt: skip


@dataclass(frozen=True)
class PictureRun(ArmRun):
    """One arm with one seed; `judge` answers with the classifier."""

    comparison: BudgetComparison
    source: Source
    judge: Callable[[], Classifier]

    def trained(self, folder: Path) -> nn.Module:
        """The model after its steps, with averaged weights."""
        torch.manual_seed(self.seed)
        model = build(self.arm.model, **self.options)
        stage = ArchitectureStage(fit=replace(self.comparison.fit, seed=self.seed), batch=self.comparison.batch)
        task = ArchitectureTask(model, RectifiedFlow(), self.source, stage, SMALLEST)
        settings = {"fit": stage.fit, **task.settings, "model": {**self.options, **self.made}}
        fit(task, stage.fit, folder, settings=settings)
        return model

    def result(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        """`loss` on held-out pictures, the quality of samples, what the model costs, and the curve of its training."""
        comparison, flow = self.comparison, RectifiedFlow()
        real, labels = self.source.held_out(comparison.pictures)
        drawn, wanted = self.samples(model)
        save_picture(folder / "samples.png", tile([*to_bytes(drawn[:SHOWN])], columns=8))
        lines = [json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]
        judged_as = quality(self.judge(), real, labels, drawn, wanted)
        return {
            "parameters": parameters(model), "macs": multiply_adds(model, self.options),
            "kept_bytes": kept_by(model, self.options),
            "loss": evaluate(model, flow, self.source, pictures=comparison.pictures)["mse"],
            "frechet": judged_as.frechet.value, "kernel": judged_as.kernel.value,
            "precision": judged_as.precision, "recall": judged_as.recall,
            "accuracy": judged_as.accuracy.mid, "real_accuracy": judged_as.real_accuracy.mid,
            "curve": [(line["step"], line["mse"]) for line in lines],
        }  # fmt: skip

    def samples(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Pictures and the labels they were drawn for, as many of each label as can be."""
        comparison, side = self.comparison, self.source.side
        wanted = (torch.arange(comparison.samples) % self.source.classes).to(device_of(model))
        noise = torch.Generator().manual_seed(self.seed)
        parts = []
        with eval_mode(model):
            for labels in wanted.split(100):
                shape = (len(labels), self.source.channels, side, side)
                none = null_condition(self.source, labels)
                parts.append(
                    RectifiedFlow().sample(
                        model,
                        labels,
                        none,
                        shape,
                        steps=comparison.drawn,
                        guidance=comparison.guidance,
                        generator=noise,
                    )
                )
        return torch.cat(parts).clamp(-1, 1).cpu(), wanted.cpu()
