"""One training of a relation: its sets beside a frozen transformer, its clips, and how long."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saccade.attach import attach
from saccade.papers.dreamrelation.clips import RelationClips
from saccade.papers.dreamrelation.hosts import Predict, predictor
from saccade.papers.dreamrelation.lora import RelationLora
from saccade.papers.dreamrelation.system import RelationSwitch
from saccade.papers.dreamrelation.training import RelationLoss, RelationStage, RelationTask, contrast_of
from saccade.train.checkpoint import trained
from saccade.train.loop import finished, fit


class RelationTuning:
    """What is trained for a transformer, which is frozen and otherwise left as it is.

    predict  as `predictor` makes it, which None stands for
    Raises ValueError for a model that is not known, and for clips the stage cannot use.
    """

    def __init__(
        self, transformer: nn.Module, clips: RelationClips, stage: RelationStage, predict: Predict | None = None
    ) -> None:
        if stage.hybrid and clips.masks is None:
            raise ValueError("hybrid=True needs masks of the subjects; segment the videos, or hybrid=False")
        torch.manual_seed(stage.fit.seed)
        self.transformer, self.clips, self.stage = transformer.requires_grad_(False), clips, stage
        self.learned = RelationLora.fresh(
            transformer, rank=stage.rank, alpha=stage.alpha, placement=stage.placement
        )  # fmt: skip
        self.switch = RelationSwitch(learned=self.learned)
        self.loss = RelationLoss(
            predict or predictor(transformer), self.switch, weights=stage.weights, contrast=contrast_of(stage, clips),
            hybrid=stage.hybrid,
        )  # fmt: skip

    def run(self, folder: Path, *, cpu: bool = False, settings: Mapping[str, Any] | None = None) -> RelationLora:
        """Train, or go on with what `folder` holds; returns the sets. The banks go on too.

        Raises ValueError for a folder with a training of other settings.
        """
        if finished(self.stage.fit, folder):
            return self.stored(folder)
        with attach(self.transformer, self.switch):
            fit(RelationTask(self.loss, self.clips, self.stage), self.stage.fit, folder, cpu=cpu, settings=settings)
        return self.learned

    def stored(self, folder: Path) -> RelationLora:
        """The sets of a training, finished or not.

        Raises FileNotFoundError where there is none, ValueError for files that are not whole.
        """
        self.loss.load_state_dict(trained(folder))
        return self.learned
