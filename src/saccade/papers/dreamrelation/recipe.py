"""`saccade train dreamrelation`: a relation from a few videos, for the bundled video model or any Wan pipeline.

A finished training is not run again, a killed one goes on: repeat the command to resume.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch

from saccade.papers.dreamrelation.bounces import exemplars
from saccade.papers.dreamrelation.clips import RelationClips, encode_clips, read_clips
from saccade.papers.dreamrelation.training import RelationStage
from saccade.papers.dreamrelation.tuning import RelationTuning
from saccade.pipelines.loading import load_pipeline
from saccade.train.launching import process
from saccade.train.settings import check_run, flat

Stage = Literal["train", "export"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, kw_only=True)
class DreamRelationRecipe:
    """Everything that decides the result.

    model        a Wan pipeline: bundled name, directory, or identifier in the local cache
    videos       a folder of folders, each with `frames/` and `masks/` of numbered PNG files and `caption.txt`; "" for
                 `count` rendered videos of a red circle and a blue square that approach and go back
    text_tokens  to which captions are padded
    """

    model: str = "scenes-wan"
    videos: str = ""
    count: int = 10
    text_tokens: int = 32
    train: RelationStage = field(default_factory=RelationStage)

    free: ClassVar[tuple[str, ...]] = ()

    def run(self, folder: Path, stages: Sequence[Stage] = STAGES) -> Path:
        """Train, then store the sets; returns the folder that `DreamRelation` takes."""
        check_run(folder / "train", self.settings)
        pipe = load_pipeline(self.model, device=str(process().device))
        made = RelationTuning(pipe.transformer, self.clips(pipe), self.train)
        learned = (
            made.run(folder / "train", settings=self.settings) if "train" in stages else made.stored(folder / "train")
        )
        if "export" in stages and process().is_main_process:
            learned.save(folder / "relation")
        return folder / "relation"

    def clips(self, pipe: Any) -> RelationClips:
        """The videos, encoded."""
        if self.videos:
            return encode_clips(pipe, *read_clips(self.videos), text_tokens=self.text_tokens)
        return rendered(pipe, self.count, seed=self.train.fit.seed, text_tokens=self.text_tokens)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result."""
        return flat(self)


def rendered(pipe: Any, count: int, *, seed: int, text_tokens: int) -> RelationClips:
    """Rendered exemplars, encoded."""
    drawn = exemplars(count, seed=seed)
    videos, masks = np.stack([one.video() for one in drawn]), torch.stack([one.masks() for one in drawn])
    return encode_clips(pipe, videos, masks, [one.caption for one in drawn], text_tokens=text_tokens)
