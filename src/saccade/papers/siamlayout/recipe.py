"""`saccade train siamlayout`: an adapter for the bundled model, or another that reads captions of scenes.

A finished training is not run again, a killed one goes on: repeat the command to resume.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from saccade.core.checks import check_whole, check_word
from saccade.papers.siamlayout.adapter import FILE
from saccade.papers.siamlayout.config import Variant
from saccade.papers.siamlayout.scenes import SIDE, boxed_scenes
from saccade.papers.siamlayout.training import LayoutStage, train_adapter
from saccade.pipelines.loading import load_pipeline
from saccade.train.launching import process
from saccade.train.loop import finished
from saccade.train.settings import check_run, flat

Stage = Literal["train"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, kw_only=True)
class SiamLayoutRecipe:
    """Everything that decides the result.

    model    a pipeline: bundled name, directory, or identifier in the local cache
    variant  "siamese", or an ablation, "adapter" or "m3"
    rank     of low-rank terms on the weights of SD3; 0 for whole weights of its own
    count    rendered scenes, of one to three things, at `side` pixels
    places   whether captions may say where things are
    Raises ValueError for options out of range.
    """

    model: str = "scenes-flux"
    variant: Variant = "siamese"
    rank: int = 0
    count: int = 2048
    side: int = SIDE
    places: bool = True
    train: LayoutStage = field(default_factory=LayoutStage)

    free: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_word(get_args(Variant), variant=self.variant)
        check_whole(1, count=self.count, side=self.side)
        check_whole(0, rank=self.rank)

    def run(self, folder: Path, stages: Sequence[Stage] = STAGES) -> Path:
        """Train, and store the adapter; returns its file. Raises ValueError for a folder with another training."""
        check_run(folder / "train", self.settings)
        file = folder / FILE
        if "train" not in stages or (file.exists() and finished(self.train.fit, folder / "train")):
            return file
        pipe = load_pipeline(self.model, device=str(process().device))
        known = boxed_scenes(self.count, seed=self.train.fit.seed, places=self.places).examples(pipe, self.side)
        options: dict[str, Any] = {"variant": self.variant, "rank": self.rank or None, "settings": self.settings}
        adapter = train_adapter(pipe, known, self.train, folder / "train", **options)
        return adapter.save(file) if process().is_main_process else file

    @property
    def settings(self) -> dict[str, Any]:
        """By dotted names, without the length."""
        return flat(self)
