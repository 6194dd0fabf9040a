"""Any architecture, taught any objective on any source of labelled pictures: train, export, evaluate.

A finished training is not run again, a killed one goes on: repeat the command to resume.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch

from saccade.data.labelled import Source, open_source
from saccade.models.architecture import Architecture
from saccade.models.dit import DiTConfig
from saccade.train.checkpoint import trained, write_atomically
from saccade.train.denoising import ArchitectureLoss, ArchitectureStage, ArchitectureTask
from saccade.train.judging import Evaluation, evaluate, sample_sheet
from saccade.train.launching import process
from saccade.train.loop import finished, fit
from saccade.train.objectives import Ddpm, Objective, RectifiedFlow
from saccade.train.plots import save_picture
from saccade.train.settings import check_run, flat

Stage = Literal["train", "export", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, kw_only=True)
class ArchitectureRecipe:
    """Everything that decides the result.

    architecture  a class of saccade.models; `model` is its configuration, its side, channels and classes those of
                  the source
    size          a published size to set out from: replaces `model`, whose options may then be changed one by one
    source        scenes, controlled-scenes, cifar10 or folder:PATH, at `side` pixels, with `options` of `open_source`
    objective     which of `flow` and `ddpm` is taught
    seed          of the random start; that of the training is `train.fit.seed`
    Raises ValueError for options out of range.
    """

    architecture: str = "DiT"
    size: str = ""
    model: Any = field(default_factory=lambda: DiTConfig(depth=4, width=64, heads=4, patch=4, learned_variance=False))
    source: str = "scenes"
    side: int = 32
    options: Mapping[str, Any] = field(default_factory=dict)
    objective: Literal["flow", "ddpm"] = "flow"
    flow: RectifiedFlow = field(default_factory=RectifiedFlow)
    ddpm: Ddpm = field(default_factory=Ddpm)
    seed: int = 0
    train: ArchitectureStage = field(default_factory=ArchitectureStage)
    evaluation: Evaluation = field(default_factory=Evaluation)

    free: ClassVar[tuple[str, ...]] = ("size", "evaluation")

    def __post_init__(self) -> None:
        known = Architecture.kinds()
        if self.architecture not in known:
            raise ValueError(f"architecture='{self.architecture}' is unknown; choose from {', '.join(known)}")
        self._check(known[self.architecture].config_class)
        if self.size:
            sizes = known[self.architecture].sizes
            if self.size not in sizes:
                raise ValueError(f"size='{self.size}' is unknown; choose one of {', '.join(sizes)}")
            object.__setattr__(self, "model", sizes[self.size])
            object.__setattr__(self, "size", "")

    def _check(self, config_class: type[Any]) -> None:
        if "classes" not in {each.name for each in fields(config_class)}:
            raise ValueError(
                f"architecture='{self.architecture}' is conditioned on words, not labels; train it by its own task"
            )
        if not self.size and type(self.model) is not config_class:
            raise ValueError(
                f"model is a {type(self.model).__name__}, not the {config_class.__name__} of "
                f"architecture='{self.architecture}'; set size too, or start from the recipe of its name"
            )

    def run(self, folder: Path, stages: Sequence[Stage] = STAGES) -> Path:
        """Run `stages` in order, each taking over what earlier ones left in `folder`; returns the model's folder."""
        check_run(folder / "train", self.settings)
        source: Source = open_source(self.source, self.side, **self.options)
        objective: Objective = getattr(self, self.objective)
        if "train" in stages and not finished(self.train.fit, folder / "train"):
            task = ArchitectureTask(self.fresh(source), objective, source, self.train, self.evaluation)
            fit(task, self.train.fit, folder / "train", settings=self.settings)
        if not process().is_main_process:
            return folder / "model"
        if "export" in stages:
            model = self.fresh(source)
            ArchitectureLoss(model, objective).load_state_dict(trained(folder / "train"))
            model.save_pretrained(folder / "model")
        if "evaluate" in stages:
            self._evaluate(folder / "model", objective, source)
        return folder / "model"

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result: all but where pictures are cached and the objective that is not taught."""
        free = "ddpm." if self.objective == "flow" else "flow.", "options.cache"
        return {path: value for path, value in flat(self).items() if not path.startswith(free)}

    def fresh(self, source: Source) -> Architecture:
        """The untrained model, made to fit the source, and the objective where its configuration names one."""
        torch.manual_seed(self.seed)
        fitting = {"side": source.side, "channels": source.channels, "classes": source.classes}
        fitting |= {"objective": self.objective}
        known = {each.name for each in fields(self.model)}
        config = replace(self.model, **{name: value for name, value in fitting.items() if name in known})
        return Architecture.kinds()[self.architecture](config)

    def _evaluate(self, folder: Path, objective: Objective, source: Source) -> None:
        model, wanted = Architecture.from_pretrained(folder).to(process().device), self.evaluation
        losses = evaluate(model, objective, source, pictures=wanted.pictures, seed=wanted.seed)
        found = {
            "source": self.source,
            "side": self.side,
            "objective": self.objective,
            "split": "held-out",
            "pictures": wanted.pictures,
            "seed": wanted.seed,
            "parameters": sum(p.numel() for p in model.parameters()),
            **{name: round(value, 5) for name, value in losses.items()},
        }
        text = json.dumps({"measured": found}, indent=1) + "\n"
        write_atomically(folder / "measured.json", lambda path: path.write_text(text))
        save_picture(folder / "samples.png", sample_sheet(model, objective, source, wanted))
