"""DreamRelation's training: which sets act in a step, where the error counts more, and the contrast with other videos.

    L = L_rec + lambda_1 L_RCL

A step draws one name. The relation's activates all sets and counts within both subjects; a subject's activates its own
set and counts within that subject. A set that is not active gets no gradient at all, so that neither momentum nor decay
moves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.papers.dreamrelation.clips import RelationClips
from saccade.papers.dreamrelation.contrast import Contrast, RelationalContrast
from saccade.papers.dreamrelation.hosts import Predict
from saccade.papers.dreamrelation.losses import CONTRAST_WEIGHT, MASK_WEIGHT, Compat, masked_reconstruction
from saccade.papers.dreamrelation.placement import RELATION, SETS, SUBJECTS, Placement
from saccade.papers.dreamrelation.system import RelationSwitch
from saccade.train.checks import check_positive, check_share
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.settings import flat

EMPTY = ("words", "words_mask", "pooled")  # of a batch, what a dropped caption is zeros in


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """lambda_m and lambda_1. `compat`: "official" squares the mask. Raises ValueError for weights below 0."""

    mask: float = MASK_WEIGHT
    contrast: float = CONTRAST_WEIGHT
    compat: Compat | None = None

    def __post_init__(self) -> None:
        for name, value in (("mask", self.mask), ("contrast", self.contrast)):
            if value < 0:
                raise ValueError(f"{name}={value} must not be negative")


@dataclass(frozen=True, kw_only=True)
class RelationStage:
    """How to train; the defaults are the paper's, but for a rate that falls linearly.

    hybrid    hybrid mask training; without it all sets act in every step and no mask counts
    contrast  options of the contrastive loss, None for none; its weight is in `weights`
    batch     clips of a step, all under one name
    drop      share of captions replaced by zeros
    Raises ValueError for options out of range.
    """

    fit: Fit = field(
        default_factory=lambda: Fit(
            steps=2400, precision="no", decay=0, save_every=100, log_every=20, sheet_every=10**6,
            optim=Optim(kind="adamw", lr=2e-4, betas=(0.9, 0.999), warmup=1 / 12, cooldown=11 / 12, clip=None),
        )
    )  # fmt: skip
    rank: int = 16
    alpha: float | None = None
    placement: Placement = field(default_factory=Placement)
    hybrid: bool = True
    contrast: Contrast | None = field(default_factory=Contrast)
    weights: LossWeights = field(default_factory=LossWeights)
    batch: int = 1
    drop: float = 0.1

    def __post_init__(self) -> None:
        check_share(drop=self.drop)
        check_positive(batch=self.batch)


class RelationLoss(nn.Module):
    """The losses of a batch: `switch` must be attached to the model of `predict` meanwhile.

    predict   as `predictor` makes it
    contrast  the banks of the contrastive loss; None for none, as for pictures
    Its weights are those that are trained; the banks are kept with them. A batch is that of `predict`, with `set`, the
    number of a name in `SETS`, and `masks` (b 2 f h w) of the subjects.
    """

    def __init__(
        self,
        predict: Predict,
        switch: RelationSwitch,
        *,
        weights: LossWeights | None = None,
        contrast: RelationalContrast | None = None,
        hybrid: bool = True,
    ) -> None:
        super().__init__()
        self.learned, self.contrast = switch.learned, contrast
        self.weights, self.hybrid = weights or LossWeights(), hybrid
        self._frozen = predict, switch  # a tuple: no submodules

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raises ValueError for a name that has no set, and for a batch without masks under hybrid training."""
        predict, switch = self._frozen
        active, mask = self._chosen(SETS[int(batch["set"])], batch)
        with switch.using(*active):
            predicted, target = predict(batch)
        said = self.weights
        found = {"reconstruction": masked_reconstruction(predicted, target, mask, weight=said.mask, compat=said.compat)}
        contrast = None if self.contrast is None else self.contrast(predicted)
        if contrast is not None:
            found["contrast"] = contrast
        return {"loss": found["reconstruction"] + said.contrast * found.get("contrast", 0.0), **found}

    def _chosen(self, name: str, batch: Mapping[str, Tensor]) -> tuple[tuple[str, ...], Tensor | None]:
        """The sets that act, and the mask."""
        if not self.hybrid:
            return self.learned.names, None
        if "masks" not in batch:
            raise ValueError("hybrid=True needs `masks` (b 2 f h w) in the batch; segment the videos, or hybrid=False")
        if name == RELATION:
            return self.learned.names, batch["masks"].sum(1)  # M1 + M2, 2 where both are
        return (name,), batch["masks"][:, SUBJECTS.index(name)]


class RelationTask:
    """A `Task`: clips of one relation. `settings` say what decides the result."""

    shared = ("set",)

    def __init__(self, module: RelationLoss, clips: RelationClips, stage: RelationStage) -> None:
        self.module, self.clips, self.stage = module, clips, stage

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the clips."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Clips, noise, times uniform in [0, 1), and one name of those there are."""
        size, names = self.stage.batch, self.module.learned.names
        found = self.clips.drawn(rng, size)
        keep = torch.from_numpy(rng.random(size) >= self.stage.drop)
        for name in EMPTY:
            if name in found:
                found[name] = found[name] * keep.view(-1, *(1,) * (found[name].ndim - 1)).to(found[name])
        return found | {
            "noise": _normal(rng, found["latents"].shape),
            "sigma": torch.from_numpy(rng.random(size, dtype=np.float32)),
            "set": torch.tensor(SETS.index(names[rng.integers(len(names))])),
        }

    def uses_muon(self, name: str) -> bool:
        return False

    def sheet(self) -> None:
        return None


def contrast_of(stage: RelationStage, clips: RelationClips) -> RelationalContrast | None:
    """The banks for clips of this size; None where the stage wants none. Raises ValueError for pictures."""
    if stage.contrast is None:
        return None
    if clips.latents.ndim < 5:
        raise ValueError("contrast: pictures have no frames to contrast; give contrast=None")
    channels, frames = clips.latents.shape[1:3]
    return RelationalContrast(frames, channels, stage.contrast)


def _normal(rng: np.random.Generator, shape: torch.Size) -> Float[Tensor, "..."]:
    return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))
