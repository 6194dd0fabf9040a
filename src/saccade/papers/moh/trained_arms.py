"""Small DiTs of one seed, of other mixtures of heads, trained alike from scratch or tuned on, and their scores."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.data.labelled import Source
from saccade.experiments.denoiser import fitted
from saccade.models.classifier import Classifier
from saccade.models.dit import DiT
from saccade.nn.registry import mixer
from saccade.nn.routing import Router, Routing, choose
from saccade.papers.moh.mixture_of_heads import MixtureOfHeads
from saccade.train.classifier import ClassifierRecipe, ClassifierStage
from saccade.train.denoising import ArchitectureStage
from saccade.train.judging import evaluate, null_condition
from saccade.train.loop import Fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim

FLOW = RectifiedFlow()


class RandomRouter(Router):
    """Picks `k` of the candidates at random, all with weight one."""

    def __init__(self, candidates: int, k: int) -> None:
        super().__init__()
        self.candidates, self.k = candidates, k

    def forward(self, x: Float[Tensor, "b n d"]) -> Routing:
        picked = choose(torch.rand(*x.shape[:2], self.candidates), self.k)
        return picked._replace(weight=torch.ones_like(picked.weight))


@mixer("random_heads")
class RandomHeads(MixtureOfHeads):
    """A mixture whose routed heads are chosen at random, token by token."""

    def __init__(self, width: int, heads: int, **options: Any) -> None:
        super().__init__(width, heads, **options)
        self.gates.router = RandomRouter(self.counts.candidates, self.counts.routed)  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the trainings on scenes.

    tuned        steps after a conversion
    pictures     held out, whose loss is measured
    samples      generated in `sampling_steps`, whose colour a classifier trained for `judge_steps` reads
    scenes       rendered to train on; a quarter as many are held out
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 240
    tuned: int = 24
    batch: int = 16
    side: int = 16
    depth: int = 4
    width: int = 72
    pictures: int = 1024
    samples: int = 140
    sampling_steps: int = 12
    judge_steps: int = 250
    scenes: int = 16384


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Trains the models of a seed, each in a folder of its own below `work`."""

    settings: Settings
    work: Path
    seed: int

    def from_scratch(self, arm: str, mixer: str) -> DiT:
        """A trained model; the one of the folder where it has been trained already."""
        s = self.settings
        torch.manual_seed(self.seed)
        model = DiT(
            depth=s.depth, width=s.width, patch=2, side=s.side, channels=3, classes=self.source.classes, mixer=mixer,
            learned_variance=False, time_scale=1000.0,
        )  # fmt: skip
        return self._fitted(model, arm, s.steps, lr=2e-3)

    def tuned(self, model: DiT, arm: str) -> DiT:
        """The model itself, trained on."""
        return self._fitted(model, f"tuned {arm}", self.settings.tuned, lr=5e-4)

    def loss(self, model: DiT) -> float:
        """Mean squared error on held-out pictures."""
        torch.manual_seed(0)
        return evaluate(model, FLOW, self.source, pictures=self.settings.pictures)["mse"]

    def accuracy(self, model: DiT) -> float:
        """Share of samples whose colour is the one asked for."""
        s, judge = self.settings, self.judge
        wanted = torch.arange(s.samples) % self.source.classes
        with torch.no_grad():
            sampled = FLOW.sample(
                model, wanted, null_condition(self.source, wanted), (s.samples, 3, s.side, s.side),
                steps=s.sampling_steps, generator=torch.Generator().manual_seed(0),
            )  # fmt: skip
            return (judge(sampled.clamp(-1, 1)).argmax(1) == wanted).float().mean().item()

    @cached_property
    def source(self) -> Source:
        """Scenes labelled by their colour."""
        return self._judging.open()

    @cached_property
    def judge(self) -> Classifier:
        """A classifier of colours, one for all seeds."""
        return self._judging.judge(self.work / "judge")

    @property
    def _judging(self) -> ClassifierRecipe:
        s = self.settings
        fit = replace(ClassifierStage().fit, minutes=None, steps=s.judge_steps, precision="no")
        return ClassifierRecipe(
            side=s.side, label="colour", judged=s.pictures, count=s.scenes, held=s.scenes // 4,
            train=ClassifierStage(fit=fit, shift=1),
        )  # fmt: skip

    def _fitted(self, model: DiT, name: str, steps: int, lr: float) -> DiT:
        optim = Optim(lr=lr, muon_lr=1.5 * lr, cooldown=0.3)
        stage = ArchitectureStage(
            batch=self.settings.batch, fit=Fit(steps=steps, seed=self.seed, precision="no", decay=0.99, optim=optim)
        )
        folder = f"{name.replace(' ', '-').replace(',', '')}-{self.seed}"
        return fitted(model, self.source, stage, self.work / folder)
