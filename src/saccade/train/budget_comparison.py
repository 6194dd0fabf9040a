"""The fair comparison: every architecture at one budget, on the same data, for the same steps, by the same seeds.

A run is one arm with one seed. It trains, and its folder then holds `result.json`; a run that is there is not repeated,
a killed one goes on. Seeds are the outer loop, so that a comparison that is cut short has compared all arms.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.core.catalogue import comparison_arms
from saccade.data.labelled import Label, Source
from saccade.metrics.quality import quality
from saccade.models.classifier import Classifier
from saccade.models.sizing import Arm, Budget, build, check_budget, parameters, sized
from saccade.models.stored import read_config
from saccade.nn.eval_mode import eval_mode
from saccade.train.checkpoint import write_atomically
from saccade.train.checks import check_positive
from saccade.train.classifier import ClassifierRecipe, ClassifierStage
from saccade.train.costs import Quartiles, device_of, kept_by, multiply_adds, ratios, seconds_in_turn
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import SMALLEST, evaluate, null_condition
from saccade.train.loop import Fit, fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim
from saccade.train.pictures import to_bytes
from saccade.train.plots import save_picture, tile
from saccade.train.settings import keep_settings

Progress = Callable[[int, int, str], None]
SHOWN = 32

ARMS = (
    Arm(name="dit"),
    Arm(name="linear", model='DiT(mixer="linear(local=5)")'),
    *(Arm(name=name, model=model) for name, model in comparison_arms().items()),
)


@dataclass(frozen=True, kw_only=True)
class BudgetComparison:
    """What is equal for all.

    budget           multiply-adds of a forward, or parameters: those of `DiT` at `width`
    source, side     of the pictures; label: what labels of scenes mean; count, held: how many are rendered
    pictures         held-out ones whose loss is measured, and against which samples are judged
    samples, drawn   how many are drawn, in how many steps; guidance: led by how much
    Raises ValueError for options out of range.
    """

    arms: tuple[Arm, ...] = ARMS
    budget: Budget = "macs"
    depth: int = 4
    width: int = 64
    heads: int = 4
    patch: int = 2
    source: str = "scenes"
    side: int = 16
    label: Label = "kind"
    count: int = 16384
    held: int = 4096
    seeds: tuple[int, ...] = (0, 1, 2)
    batch: int = 16
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

    def __post_init__(self) -> None:
        check_budget(self.budget)
        check_positive(batch=self.batch, pictures=self.pictures, samples=self.samples, drawn=self.drawn)
        names = [arm.name for arm in self.arms]
        if not self.seeds or len({*names}) < len(names):
            raise ValueError(f"seeds={self.seeds} must hold at least one, and arms={names} must differ in name")

    def run(self, folder: Path, progress: Progress = lambda done, total, what: None) -> list[dict[str, Any]]:
        """Every run's result; see `ArmRun.result`."""
        cases = self.cases(folder)
        found = []
        for number, (name, result) in enumerate(cases.items()):
            progress(number, len(cases), name)
            found.append(result())
        return found

    def cases(self, folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
        """What trains and judges one arm with one seed, by its name; the first also trains the classifier that judges.

        Raises ValueError where the folder holds runs of other settings.
        """
        self.check_folder(folder)
        source = self.open()
        base = self.base(source)
        options = {arm.name: base | {arm.scaled: self.size(arm, base)} for arm in self.arms}
        judge = cache(lambda: self.judging().judge(folder / "judge"))
        runs = [ArmRun(self, arm, options[arm.name], seed, source) for seed in self.seeds for arm in self.arms]
        folders = {f"{run.arm.name}-{run.seed}": run for run in runs}
        return {name: lambda name=name, run=run: run.complete(folder / name, judge()) for name, run in folders.items()}

    def times(self, rounds: int, device: torch.device | str = "cpu") -> dict[str, dict[str, Quartiles]]:
        """Seconds of a forward and of a training step, as ratios to the first arm's: quartiles over rounds."""
        base = self.base(self.open())
        models = {
            arm.name: build(arm.model, **base | {arm.scaled: self.size(arm, base)}).to(device) for arm in self.arms
        }
        return ratios(seconds_in_turn(models, base, rows=self.batch, rounds=rounds), self.arms[0].name)

    def check_folder(self, folder: Path) -> None:
        """Write down what is equal for all runs of a folder.

        Raises ValueError where the folder holds runs of other settings, which would not compare.
        """
        keep_settings(folder / "comparison.json", asdict(replace(self, arms=ARMS[:1], seeds=(0,))))

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

    def size(self, arm: Arm, base: dict[str, Any]) -> int:
        """The value of `arm.scaled` that meets the budget."""
        return sized(arm, base, lambda model: self.cost(model, base), self.cost(build("DiT", **base), base))

    def cost(self, model: nn.Module, base: dict[str, Any]) -> float:
        """What a model spends of the budget."""
        return parameters(model) if self.budget == "parameters" else multiply_adds(model, base)

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
class ArmRun:
    """One arm with one seed."""

    comparison: BudgetComparison
    arm: Arm
    options: dict[str, Any]
    seed: int
    source: Source

    def complete(self, folder: Path, classifier: Classifier) -> dict[str, Any]:
        """Train and judge, or read what `folder` holds.

        Raises ValueError where the folder holds another arm.
        """
        path = folder / "result.json"
        if not path.exists():
            model = self.trained(folder)
            text = json.dumps(self.result(model, folder, classifier), indent=1) + "\n"
            write_atomically(path, lambda partial: partial.write_text(text))
        found = read_config(path)
        for name, own in self.made.items():
            if found.get(name) != own:
                raise ValueError(f"folder='{folder}' holds {name}={found.get(name)}, not {own}; name the arm otherwise")
        return found

    @property
    def made(self) -> dict[str, Any]:
        """How the arm came to its budget."""
        return {"model": self.arm.model, "option": self.arm.scaled, "scaled": self.options[self.arm.scaled]}

    def trained(self, folder: Path) -> nn.Module:
        """The model after its steps, with averaged weights."""
        torch.manual_seed(self.seed)
        model = build(self.arm.model, **self.options)
        stage = ArchitectureStage(fit=replace(self.comparison.fit, seed=self.seed), batch=self.comparison.batch)
        task = ArchitectureTask(model, RectifiedFlow(), self.source, stage, SMALLEST)
        settings = {"fit": stage.fit, **task.settings, "model": {**self.options, **self.made}}
        fit(task, stage.fit, folder, settings=settings)
        return model

    def result(self, model: nn.Module, folder: Path, classifier: Classifier) -> dict[str, Any]:
        """`loss` on held-out pictures, the quality of samples, what the model costs, and the curve of its training."""
        comparison, flow = self.comparison, RectifiedFlow()
        real, labels = self.source.held_out(comparison.pictures)
        drawn, wanted = self.samples(model)
        save_picture(folder / "samples.png", tile([*to_bytes(drawn[:SHOWN])], columns=8))
        lines = [json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]
        judged_as = quality(classifier, real, labels, drawn, wanted)
        return {
            "arm": self.arm.name, "seed": self.seed, **self.made,
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
