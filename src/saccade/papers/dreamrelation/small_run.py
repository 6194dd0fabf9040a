"""Small models that learn a relation from ten videos in several ways, and what they draw of it between other things."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.attach import attach
from saccade.experiments import Row
from saccade.papers.dreamrelation.bounces import Bounce, exemplars, unseen
from saccade.papers.dreamrelation.clips import RelationClips
from saccade.papers.dreamrelation.contrast import Contrast
from saccade.papers.dreamrelation.judging import judge_relation
from saccade.papers.dreamrelation.lora import RelationLora
from saccade.papers.dreamrelation.masks import latent_masks
from saccade.papers.dreamrelation.placement import Placement
from saccade.papers.dreamrelation.small_model import DRAWN, Pool, PretrainTask, SmallVideos, caption_of, embedded
from saccade.papers.dreamrelation.subspaces import attention_subspaces
from saccade.papers.dreamrelation.system import DreamRelation
from saccade.papers.dreamrelation.training import RelationStage
from saccade.papers.dreamrelation.tuning import RelationTuning
from saccade.pipelines.loading import load_pipeline
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim

LOOKS: Mapping[str, Any] = {"sizes": ("large",), "backgrounds": ("black",)}
HELD_OUT = 1000  # seeds of what is asked for


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to learn: where the sets stand, and whether masks and the contrast count."""

    placement: Placement = field(default_factory=Placement)
    masks: bool = True
    contrast: bool = True


@dataclass(frozen=True, kw_only=True)
class SmallRun:
    """Sizes of everything.

    pretrain  steps of the first training, of `rows` videos of a pool each
    count     exemplars of a relation, learned in `steps` steps of `batch` of them
    asked     videos of unseen things, made in `sampling` steps
    """

    size: SmallVideos = field(default_factory=SmallVideos)
    pretrain: int = 600
    rows: int = 32
    pool: int = 1200
    count: int = 10
    steps: int = 120
    batch: int = 8
    rank: int = 8
    lr: float = 5e-3
    asked: int = 32
    sampling: int = 12

    def base(self, folder: Path) -> Any:
        """The model before any relation, trained once in a folder."""
        torch.manual_seed(0)
        transformer = self.size.transformer()
        length = Fit(
            steps=self.pretrain, precision="no", decay=0.98, save_every=50, sheet_every=10**6,
            optim=Optim(lr=3e-3, muon_lr=1e-2),
        )  # fmt: skip
        task = PretrainTask(transformer, Pool.drawn(self.size, self.pool, seed=0), self.rows)
        fit(task, length, folder, cpu=True)
        return transformer.eval()

    def clips(self, seed: int) -> RelationClips:
        """Exemplars of this seed; latents are pixels."""
        drawn = exemplars(self.count, seed=seed, **LOOKS)
        grid = (self.size.side, self.size.side)
        masks = [
            latent_masks(one.masks(DRAWN * self.size.side, self.size.frames), grid, strides=(1, 1)) for one in drawn
        ]
        return RelationClips(
            latents=torch.stack([self.size.exemplar(one) for one in drawn]),
            words=torch.stack([embedded(caption_of(one)) for one in drawn]), masks=torch.stack(masks).transpose(1, 2),
        )  # fmt: skip

    def learned(self, transformer: Any, arm: Arm, seed: int, folder: Path) -> RelationLora:
        """The sets of one arm."""
        optim = Optim(kind="adamw", lr=self.lr, betas=(0.9, 0.999), warmup=0.1, cooldown=0.5, clip=None)
        rare: dict[str, Any] = {"save_every": 10**6, "sheet_every": 10**6}
        stage = RelationStage(
            fit=Fit(steps=self.steps, seed=seed, precision="no", decay=0, optim=optim, **rare),
            rank=self.rank, placement=arm.placement, hybrid=arm.masks, contrast=Contrast() if arm.contrast else None,
            batch=self.batch,
        )  # fmt: skip
        return RelationTuning(transformer, self.clips(seed), stage).run(folder, cpu=True)

    def drawn(self, transformer: Any, learned: RelationLora | None, wanted: list[Bounce], seed: int) -> Tensor:
        """Videos of what is wanted (b 3 t h w), by the relation's set alone."""
        words, options = (
            torch.stack([embedded(caption_of(one)) for one in wanted]),
            {"steps": self.sampling, "seed": seed},
        )
        if learned is None:
            return self.size.sample(transformer, words, **options)
        with attach(transformer, DreamRelation(learned=learned)):
            return self.size.sample(transformer, words, **options)

    def rows_of(self, transformer: Any, arm: Arm | None, seed: int, folder: Path) -> Iterator[Row]:
        """A row for each video: what it shows."""
        learned = None if arm is None else self.learned(transformer, arm, seed, folder)
        wanted = list(unseen(self.asked, seed=HELD_OUT + seed, **LOOKS))
        for number, (video, one) in enumerate(
            zip(self.drawn(transformer, learned, wanted, seed * self.asked), wanted, strict=True)
        ):
            found = judge_relation(self.size.enlarged(video), one)
            yield {
                "video": number, "success": float(found.success), "seen": found.seen, "caption": found.caption,
                "leaked": found.leaked,
            }  # fmt: skip


def similarity_rows(model: str, rank: int) -> Iterator[Row]:
    """Of a bundled model, a row for each pair of projections at each site."""
    for found in attention_subspaces(load_pipeline(model).transformer, rank):
        yield {
            "model": model, "site": f"{model} {found.site}", "layer": found.layer, "arm": found.pair,
            "similarity": found.similarity, "random": found.random,
        }  # fmt: skip
