"""Train an adapter: rectified flow, with more weight within boxes and more often at large noise.

    x_t = (1 - t) x_0 + t e,     loss = mean (1 + lambda [inside a box]) |v(x_t, t | text, layout) - (e - x_0)|^2

Times are logit-normal, or for a share of the pictures of the noisiest part of that, since layouts are decided early.
Text and layout are each dropped now and then, for guidance. The model itself stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.papers.siamlayout.adapter import LayoutAdapter
from saccade.papers.siamlayout.boxes import SLOTS, LayoutBatch
from saccade.papers.siamlayout.config import Variant
from saccade.papers.siamlayout.examples import SHARED, Examples
from saccade.papers.siamlayout.stream import LayoutStream
from saccade.pipelines.flow import TRAINED_STEPS
from saccade.train.checks import check_share
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim
from saccade.train.settings import flat

LAYOUT = ("boxes", "mask", "region_text")


@dataclass(frozen=True, kw_only=True)
class LayoutStage:
    """How an adapter is trained.

    batch       pictures of a step
    inside      lambda, the additional weight of latents within a box
    noisy       share of the steps' pictures whose time is drawn from the noisiest `noisiest` of all times
    drop_text   share of captions replaced by the empty one
    drop_layout share of layouts of which no slot is used
    slots       boxes of a picture at most; of more, encoded in as many slots, a random subset
    mean, std   of the times' logits
    Raises ValueError for options out of range.
    """

    fit: Fit = field(
        default_factory=lambda: Fit(
            steps=1000, precision="no", decay=0.99, save_every=100, log_every=20, sheet_every=10**6,
            optim=Optim(lr=1e-3, muon_lr=3e-3),
        )
    )  # fmt: skip
    batch: int = 16
    inside: float = 1.0
    noisy: float = 0.7
    noisiest: float = 0.4
    drop_text: float = 0.1
    drop_layout: float = 0.1
    slots: int = SLOTS
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        check_share(
            noisy=self.noisy, noisiest=self.noisiest, drop_text=self.drop_text, drop_layout=self.drop_layout
        )  # fmt: skip
        if min(self.batch, self.slots) < 1:
            raise ValueError(f"batch={self.batch} pictures and slots={self.slots} must be at least 1")
        if not self.inside >= 0:
            raise ValueError(f"inside={self.inside} must be 0 or more; 0 weighs all latents alike")


class LayoutLoss(nn.Module):
    """The loss of a batch; its weights are the adapter's. `undo` leaves the transformer as it was."""

    def __init__(self, transformer: Any, adapter: LayoutAdapter, *, inside: float = 1.0) -> None:
        super().__init__()
        self.adapter, self.inside = adapter, inside
        self._frozen = transformer, LayoutStream(transformer, adapter)  # a tuple: no submodules
        transformer.requires_grad_(False)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        transformer, stream = self._frozen
        boxes, mask, text = (batch[name] for name in LAYOUT)
        t = batch["t"].reshape(-1, *[1] * (batch["latents"].ndim - 1))
        units = TRAINED_STEPS if self.adapter.config.host == "sd3" else 1
        given = {name: batch[name] for name in batch if name.startswith(("encoder", "pooled", "guidance", *SHARED))}
        with stream.holding(LayoutBatch(boxes=boxes, mask=mask, text=text)):
            velocity = transformer(
                hidden_states=(1 - t) * batch["latents"] + t * batch["noise"], timestep=batch["t"] * units,
                return_dict=False, **given,
            )[0]  # fmt: skip
        error = (velocity.float() - (batch["noise"] - batch["latents"])).square()
        return {"loss": ((1 + self.inside * batch["inside"]) * error).mean(), "plain": error.mean()}

    def undo(self) -> None:
        """Take the stream off the transformer."""
        self._frozen[1].undo()


class LayoutTask:
    """A `Task`: pictures with boxes, drawn at random from `examples`."""

    shared = SHARED

    def __init__(self, module: LayoutLoss, examples: Examples, stage: LayoutStage) -> None:
        self.module, self.examples, self.stage = module, examples, stage

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """A step's pictures, noise, times, texts and layouts."""
        said, known = self.stage, self.examples
        rows = rng.integers(len(known), size=said.batch)
        no_text, no_layout = (rng.random(said.batch) < share for share in (said.drop_text, said.drop_layout))
        layout = known.layout.chosen(rows.tolist()).sampled(said.slots, rng)
        words = {name: value[np.where(no_text, 0, rows + 1)] for name, value in known.texts.items()}
        latents = known.latents[rows]
        return {
            "latents": latents, "inside": known.inside[rows], "t": sample_times(said, rng),
            "noise": torch.from_numpy(rng.standard_normal(tuple(latents.shape), dtype=np.float32)),
            "boxes": layout.boxes, "mask": layout.mask & ~torch.from_numpy(no_layout)[:, None],
            "region_text": layout.text, **words, **known.shared,
        }  # fmt: skip

    def uses_muon(self, name: str) -> bool:
        """Matrices within branches but for those of norms."""
        return "_blocks." in name and ".norm" not in name

    def sheet(self) -> None:
        """None is drawn."""
        return None


def train_adapter(
    pipe: Any,
    examples: Examples,
    stage: LayoutStage,
    folder: Path,
    *,
    variant: Variant = "siamese",
    rank: int | None = None,
    cpu: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> LayoutAdapter:
    """An adapter for a pipeline, trained, gone on with, or taken from the folder.

    Raises ValueError as `LayoutAdapter.of` and `saccade.train.loop.fit` do.
    """
    torch.manual_seed(stage.fit.seed)
    adapter = LayoutAdapter.of(pipe.transformer, variant=variant, rank=rank)
    loss = LayoutLoss(pipe.transformer, adapter, inside=stage.inside)
    try:
        fit(LayoutTask(loss, examples, stage), stage.fit, folder, cpu=cpu, settings=settings)
    finally:
        loss.undo()
    return adapter.eval().requires_grad_(False)


def sample_times(stage: LayoutStage, rng: np.random.Generator) -> Float[Tensor, " b"]:
    """Times in (0, 1), 1 being noise: logit-normal, or of its noisiest part."""
    from scipy.stats import norm

    quantile, early = rng.random(stage.batch), rng.random(stage.batch) < stage.noisy
    quantile = np.where(early, 1 - stage.noisiest * (1 - quantile), quantile)
    logits = stage.mean + stage.std * norm.ppf(quantile.clip(1e-6, 1 - 1e-6))
    return torch.from_numpy(logits).float().sigmoid()
