"""The recipe of the classifier that judges generated pictures: train, export, evaluate.

A finished training is not run again, a killed one goes on: repeat the command to resume.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data.labelled import Label, Source, open_source
from saccade.metrics.intervals import share
from saccade.models.architecture import Prediction
from saccade.models.classifier import Classifier
from saccade.train.checkpoint import trained, write_atomically
from saccade.train.checks import check_positive
from saccade.train.loop import Fit, finished, fit
from saccade.train.optimisers import Optim
from saccade.train.settings import check_run, flat, keep_settings

Stage = Literal["train", "export", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ClassifierStage:
    """`batch`: pictures; `shift`: pixels that a picture moves at most; `flip`: mirror half of them.

    Raises ValueError for options out of range.
    """

    fit: Fit = field(
        default_factory=lambda: Fit(
            steps=1000, decay=0.99, save_every=100, optim=Optim(lr=2e-3, muon_lr=1e-2, warmup=0.05, cooldown=0.7)
        )
    )
    batch: int = 128
    shift: int = 3
    flip: bool = True

    def __post_init__(self) -> None:
        check_positive(batch=self.batch)
        if self.shift < 0:
            raise ValueError(f"shift={self.shift} must be at least 0 pixels")


class ClassifierLoss(nn.Module):
    """Cross-entropy of a batch, with the auxiliary losses of a model that answers with a `Prediction`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits, losses = predicted(self.model, batch["x"])
        loss = F.cross_entropy(logits.float(), batch["labels"])
        return {"loss": loss + sum(losses.values()), **losses}


class ClassifierTask:
    """A `Task`: tell the labels of a source's pictures."""

    def __init__(self, model: nn.Module, source: Source, stage: ClassifierStage) -> None:
        self.module, self.source, self.stage = ClassifierLoss(model), source, stage

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> Batch:
        x, labels = self.source.batch(rng, self.stage.batch)
        return {"x": moved(x, rng, self.stage.shift, self.stage.flip), "labels": labels}

    def uses_muon(self, name: str) -> bool:
        return ".head." not in name

    def sheet(self) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe:
    """Everything that decides the result.

    `source`, `side`: as `open_source` takes them. `label`: what labels of scenes mean. `cache`: where decoded pictures
    of other sources are kept. `judged`: held-out pictures that the accuracy is measured on. `count`, `held`: scenes
    rendered to train on, and held out.
    """

    seed: int = 0
    source: str = "scenes"
    side: int = 32
    label: Label = "kind"
    cache: str | None = None
    width: int = 32
    judged: int = 4000
    count: int = 16384
    held: int = 4096
    train: ClassifierStage = field(default_factory=ClassifierStage)

    free: ClassVar[tuple[str, ...]] = ("cache", "judged")

    def __post_init__(self) -> None:
        check_positive(judged=self.judged)

    def run(self, folder: Path, stages: Sequence[Stage] = STAGES) -> Path:
        """Run `stages` in order, each taking over what earlier ones left in `folder`; returns the model's folder."""
        check_run(folder / "train", self)
        torch.manual_seed(self.seed)
        source = self.open()
        model = Classifier(side=self.side, channels=source.channels, classes=source.classes, width=self.width)
        task = ClassifierTask(model, source, self.train)
        if "train" in stages and not finished(self.train.fit, folder / "train"):
            fit(task, self.train.fit, folder / "train", settings=flat(self))
        if "export" in stages:
            task.module.load_state_dict(trained(folder / "train"))
            model.save_pretrained(folder / "model")
        if "evaluate" in stages:
            self._evaluate(source, folder / "model")
        return folder / "model"

    def judge(self, folder: Path) -> Classifier:
        """The finished classifier of `folder`, trained there first where it is missing.

        Raises ValueError where the folder holds one of another recipe.
        """
        keep_settings(folder / "recipe.json", asdict(self))  # its length and what it is judged on, too
        if not (folder / "model" / "measured.json").exists():
            self.run(folder)
        return Classifier.from_pretrained(folder / "model").eval()

    def open(self) -> Source:
        """The source."""
        scenes = {"label": self.label, "count": self.count, "held": self.held}
        options: dict[str, Any] = scenes if self.source == "scenes" else {"cache": self.cache}
        return open_source(self.source, self.side, **options)

    def _evaluate(self, source: Source, folder: Path) -> None:
        model = Classifier.from_pretrained(folder).eval()
        found = {
            "source": self.source,
            "side": self.side,
            "names": source.names,
            **measured(model, source, self.judged),
        }
        text = json.dumps({"measured": found}, indent=1) + "\n"
        write_atomically(folder / "measured.json", lambda path: path.write_text(text))


@torch.no_grad()
def held_out(model: nn.Module, source: Source, n: int) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Nats that each of n held-out pictures' labels cost, and whether they are found; the model in its own mode."""
    x, labels = source.held_out(n)
    logits = torch.cat([predicted(model, part).out.float() for part in x.split(256)])
    return F.cross_entropy(logits, labels, reduction="none"), logits.argmax(1) == labels


def predicted(model: nn.Module, x: Float[Tensor, "n c h w"]) -> Prediction:
    """A classifier's logits, with the losses of one that has some."""
    found = model(x)
    return found if isinstance(found, Prediction) else Prediction(found, {})


def measured(model: nn.Module, source: Source, n: int) -> dict[str, Any]:
    """Share of held-out pictures whose label is found, over all with its interval, and by label."""
    labels, right = source.held_out(n)[1], held_out(model, source, n)[1]
    by_name = {name: right[labels == i] for i, name in enumerate(source.names)}
    return {
        "pictures": n,
        "parameters": sum(p.numel() for p in model.parameters()),
        "accuracy": {key: round(value, 4) for key, value in asdict(share(right.tolist())).items()},
        "by_label": {name: round(float(found.float().mean()), 4) for name, found in by_name.items() if len(found)},
    }


def moved(x: Float[Tensor, "n c h w"], rng: np.random.Generator, shift: int, flip: bool) -> Float[Tensor, "n c h w"]:
    """Each picture shifted by up to `shift` pixels, what comes in repeating the border, half of them mirrored."""
    n, side = len(x), x.shape[-1]
    steps = torch.from_numpy(rng.integers(-shift, shift + 1, size=(2, n, 1)))
    down, across = (torch.arange(side) + steps).clamp(0, side - 1)
    if flip:
        across = torch.where(torch.from_numpy(rng.random((n, 1)) < 0.5), across.flip(1), across)
    rows = torch.arange(n)[:, None, None]
    return x.movedim(1, -1)[rows, down[:, :, None], across[:, None, :]].movedim(-1, 1)
