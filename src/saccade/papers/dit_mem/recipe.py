"""`saccade train dit-mem`: a memory encoder for the bundled video model, on rendered videos that keep a rule.

The videos' captions do not say the rule; those shown as memory keep it. A killed training goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from saccade.core.checks import check_whole
from saccade.papers.dit_mem.config import MemoryEncoderConfig
from saccade.papers.dit_mem.scenes import SMALL, RuleBank, rule_examples
from saccade.papers.dit_mem.training import MemoryStage, train_encoder
from saccade.pipelines.loading import load_pipeline
from saccade.train.launching import process
from saccade.train.loop import finished
from saccade.train.settings import check_run, flat

Stage = Literal["train"]
STAGES: tuple[Stage, ...] = get_args(Stage)
FOLDER = "encoder"


@dataclass(frozen=True, kw_only=True)
class DiTMemRecipe:
    """Everything that decides the result.

    model    a Wan pipeline: bundled name, directory, or identifier in the local cache
    encoder  of the model's width and latents
    bank, count  videos that may be shown, and that are trained on
    shown    K, videos of each prompt
    Raises ValueError for options out of range.
    """

    model: str = "scenes-wan"
    encoder: MemoryEncoderConfig = SMALL
    bank: int = 448
    count: int = 448
    shown: int = 3
    train: MemoryStage = field(default_factory=MemoryStage)

    free: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_whole(1, bank=self.bank, count=self.count, shown=self.shown)

    def run(self, folder: Path, stages: Sequence[Stage] = STAGES) -> Path:
        """Train, and store the encoder; returns its folder. Raises ValueError for a folder with another training."""
        check_run(folder / "train", self.settings)
        place = folder / FOLDER
        if "train" not in stages or (place.exists() and finished(self.train.fit, folder / "train")):
            return place
        pipe, seed = load_pipeline(self.model, device=str(process().device)), self.train.fit.seed
        bank = RuleBank.of(pipe, self.bank, seed=2 * seed)
        known = rule_examples(pipe, bank, self.count, self.shown, seed=2 * seed + 1)
        encoder = train_encoder(
            pipe.transformer, known, self.encoder, self.train, folder / "train", settings=self.settings
        )  # fmt: skip
        if process().is_main_process:
            encoder.save_pretrained(place)
        return place

    @property
    def settings(self) -> dict[str, Any]:
        """By dotted names, without the length."""
        return flat(self)
