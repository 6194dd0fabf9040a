"""Train the memory encoder on a frozen video model: weighted flow matching under retrieved memory.

    s = 1, .999, ..., .001,  s' = shift s / (1 + (shift - 1) s),  x = (1 - s') x_0 + s' e
    loss = weight(1000 s') |v(x, 1000 s' | text, memory) - (e - x_0)|^2
weight(t) is exp(-2 ((t - 500) / 1000)^2) less its least value, of mean 1 over all steps. Nothing is dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attach import attach
from saccade.papers.dit_mem.config import MemoryEncoderConfig
from saccade.papers.dit_mem.encoder import MemoryEncoder
from saccade.papers.dit_mem.examples import Examples
from saccade.papers.dit_mem.system import DiTMem
from saccade.papers.dit_mem.tokens import HeldMemory
from saccade.pipelines.flow import TRAINED_STEPS
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim
from saccade.train.settings import flat


@dataclass(frozen=True, kw_only=True)
class MemoryStage:
    """How an encoder is trained; the paper takes AdamW at 1e-5 for 5 epochs of 10,000 videos, 8 at a time.

    batch  videos of a step
    shift  of the times; a pipeline's own is its scheduler's `shift`
    bell   whether times weigh as in the paper; there those near noise, where motion is decided, weigh least
    Raises ValueError for options out of range.
    """

    fit: Fit = field(
        default_factory=lambda: Fit(
            steps=1000, precision="no", decay=0.99, save_every=100, log_every=20, sheet_every=10**6,
            optim=Optim(lr=1e-3, muon_lr=3e-3, flatten=True, weight_decay=0),
        )
    )  # fmt: skip
    batch: int = 8
    shift: float = 5.0
    bell: bool = True

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch={self.batch} videos must be at least 1")
        if not self.shift > 0:
            raise ValueError(f"shift={self.shift} must be positive; 1 leaves the times evenly spread")


def shifted_times(shift: float) -> Float[Tensor, " t"]:
    """The 1000 times s' in (0, 1], from noise on."""
    even = 1 - torch.arange(TRAINED_STEPS, dtype=torch.float64) / TRAINED_STEPS
    return shift * even / (1 + (shift - 1) * even)


def time_weights(times: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """weight of each of these times; most near the middle, of mean 1."""
    bell = torch.exp(-2 * (times - 0.5).square())
    raised = bell - bell.min()
    return raised / raised.mean()


class MemoryLoss(nn.Module):
    """The loss of a batch; its weights are the encoder's. `held` is attached to the transformer meanwhile."""

    def __init__(self, transformer: Any, encoder: MemoryEncoder) -> None:
        super().__init__()
        self.encoder, self.held = encoder, HeldMemory()
        self._frozen = (transformer,)  # a tuple: no submodules
        transformer.requires_grad_(False)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        s, (transformer,) = batch["s"].reshape(-1, 1, 1, 1, 1), self._frozen
        with self.held.holding(self.encoder.memory(batch["memory"])):
            velocity = transformer(
                hidden_states=(1 - s) * batch["latents"] + s * batch["noise"],
                timestep=TRAINED_STEPS * batch["s"], encoder_hidden_states=batch["words"], return_dict=False,
            )[0]  # fmt: skip
        error = (velocity.float() - (batch["noise"] - batch["latents"])).square().flatten(1).mean(1)
        return {"loss": (batch["weight"] * error).mean(), "plain": error.mean()}


class MemoryTask:
    """A `Task`: videos with the memory of their captions, drawn at random from `examples`."""

    def __init__(self, module: MemoryLoss, examples: Examples, stage: MemoryStage) -> None:
        self.module, self.examples, self.stage = module, examples, stage
        self._times = shifted_times(stage.shift)
        self._weights = time_weights(self._times) if stage.bell else torch.ones_like(self._times)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage) | flat({"encoder": self.module.encoder.config})

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """A step's videos, noise, times, captions and memory."""
        known = self.examples
        rows, places = (
            rng.integers(len(known), size=self.stage.batch),
            rng.integers(TRAINED_STEPS, size=self.stage.batch),
        )
        latents = known.latents[rows]
        return {
            "latents": latents, "words": known.words[rows], "memory": known.bank[known.nearest[rows]],
            "s": self._times[places].float(), "weight": self._weights[places].float(),
            "noise": torch.from_numpy(rng.standard_normal(tuple(latents.shape), dtype=np.float32)),
        }  # fmt: skip

    def uses_muon(self, name: str) -> bool:
        """Convolutions and projections."""
        return ".conv." in name or "proj" in name or "attention" in name

    def sheet(self) -> None:
        """None is drawn."""
        return None


def train_encoder(
    transformer: Any,
    examples: Examples,
    config: MemoryEncoderConfig,
    stage: MemoryStage,
    folder: Path,
    *,
    cpu: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> MemoryEncoder:
    """An encoder for a Wan transformer, trained, gone on with, or taken from the folder; the transformer stays frozen.

    Raises ValueError as `MemoryEncoder` and `saccade.train.loop.fit` do, and for an encoder of another width.
    """
    torch.manual_seed(stage.fit.seed)
    loss = MemoryLoss(transformer, MemoryEncoder(config).train())
    with attach(transformer, DiTMem(memory=loss.held)):
        fit(MemoryTask(loss, examples, stage), stage.fit, folder, cpu=cpu, settings=settings)
    return loss.encoder.eval().requires_grad_(False)
