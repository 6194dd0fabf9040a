"""Stage three: rectified flow in FLUX's conventions, the text encoders and the autoencoder frozen.

    x_t = (1 - t) x_0 + t e,    loss = mean |v(x_t, t, caption) - (e - x_0)|^2
    logit(t) ~ N(mean + log(side / 64), std)

The higher noise at larger sides makes up for their redundancy. The pipeline pads captions to any length without a mask,
and all pads are alike, so P pads weigh as one with log P added to its score: training sees every padding at no cost.

Source: Liu et al., rectified flow (2022); Esser et al., SD3 (2024), logit-normal times and shift by resolution.
"""

from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from saccade.data.scenes import describe, prompts
from saccade.models.scene_words import PAD
from saccade.train.checks import check_share
from saccade.train.latent_cache import LatentCache, make_latent_cache
from saccade.train.loop import Fit
from saccade.train.plots import tile
from saccade.train.sampling import draw
from saccade.train.settings import flat
from saccade.train.text import WIDTH, clip_ids, t5_ids

PADDED = (WIDTH, 32, 48, 64, 77, 128, 256, 512)  # lengths to which users have captions padded


@dataclass(frozen=True, kw_only=True)
class FlowStage:
    """`sides`: in pixels, each with its share of the steps, its batch and the size of its pool of scenes.

    `drop`: share of captions replaced by the empty one, for guidance. `mean`, `std`: of the times' logits.
    Raises ValueError for options out of range.
    """

    fit: Fit = field(default_factory=lambda: Fit(minutes=80, save_every=100, log_every=50))
    sides: tuple[int, ...] = (64, 128, 256)
    shares: tuple[float, ...] = (0.88, 0.09, 0.03)
    batches: tuple[int, ...] = (64, 20, 5)
    pools: tuple[int, ...] = (32000, 4000, 800)
    drop: float = 0.05
    mean: float = 0.3
    std: float = 1.2
    compile: bool = True

    free: ClassVar[tuple[str, ...]] = ("compile",)

    def __post_init__(self) -> None:
        check_share(drop=self.drop)
        lengths = {len(self.sides), len(self.shares), len(self.batches), len(self.pools)}
        if len(lengths) > 1:
            raise ValueError(
                f"sides={self.sides}, shares={self.shares}, batches={self.batches} and pools={self.pools} "
                "must be of one length, an entry for each side"
            )


class FlowLoss(nn.Module):
    """The loss of a batch of noised latents."""

    def __init__(self, transformer: FluxTransformer2DModel, *, compiled: bool) -> None:
        super().__init__()
        self.transformer = transformer
        self._run = (torch.compile(transformer, dynamic=False) if compiled else transformer,)  # a tuple: no submodule

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        t = batch["t"][:, None, None]
        velocity = self._run[0](
            hidden_states=(1 - t) * batch["latents"] + t * batch["noise"],
            timestep=batch["t"],
            encoder_hidden_states=batch["words"],
            pooled_projections=batch["pooled"],
            img_ids=batch["img_ids"],
            txt_ids=batch["txt_ids"],
            joint_attention_kwargs={"attention_mask": batch["pads"]},
            return_dict=False,
        )[0]
        return {"loss": (velocity.float() - (batch["noise"] - batch["latents"])).square().mean()}


class FlowTask:
    """A `Task`: draw scenes by their captions. `folder` keeps the pools."""

    shared = ("img_ids", "txt_ids")

    def __init__(self, pipe: FluxPipeline, stage: FlowStage, folder: Path) -> None:
        self.pipe, self.stage = pipe, stage
        self.module = FlowLoss(pipe.transformer, compiled=stage.compile)
        seed = stage.fit.seed
        self.pools = {
            side: make_latent_cache(pipe.vae, folder, n, side=side, seed=seed + side)
            for side, n in zip(stage.sides, stage.pools, strict=True)
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        kind = rng.choice(len(self.stage.sides), p=np.array(self.stage.shares) / sum(self.stage.shares))
        side, size = self.stage.sides[kind], self.stage.batches[kind]
        latents, texts = self._examples(self.pools[side], size, rng)
        logits = rng.normal(self.stage.mean + log(side / 64), self.stage.std, size)
        return {
            "latents": latents,
            "noise": torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)),
            "t": torch.from_numpy(logits).float().sigmoid(),
            **self._positions(side),
            **self._encode(texts, latents.shape[1], rng),
        }

    def _examples(
        self, pool: LatentCache, size: int, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "b n c"], list[str]]:
        chosen = rng.integers(len(pool.scenes), size=size)
        texts = [describe(pool.scenes[i], rng).text for i in chosen]
        dropped = rng.random(size) < self.stage.drop
        kept = ["" if gone else text for gone, text in zip(dropped, texts, strict=True)]
        return torch.from_numpy(pool.latents[np.sort(chosen)][np.argsort(np.argsort(chosen))]).float(), kept

    def _positions(self, side: int) -> dict[str, Tensor]:
        tokens = side // (2 * self.pipe.vae_scale_factor)
        ids = self.pipe._prepare_latent_image_ids(1, tokens, tokens, torch.device("cpu"), torch.float32)
        return {"img_ids": ids, "txt_ids": torch.zeros(WIDTH, 3)}

    @torch.no_grad()
    def _encode(self, texts: list[str], tokens: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Embeddings of captions in `WIDTH` tokens, and the bias by which their pads count as more."""
        t5, clip = self.pipe.text_encoder_2, self.pipe.text_encoder
        ids = t5_ids(texts)
        pads = pad_bias(ids == PAD, torch.from_numpy(rng.choice(PADDED, size=len(texts))))
        return {
            "words": t5(input_ids=ids.to(t5.device)).last_hidden_state,
            "pooled": clip(input_ids=clip_ids(texts).to(clip.device)).pooler_output,
            "pads": torch.cat((pads, torch.zeros(len(texts), tokens)), dim=1)[:, None, None],
        }

    def uses_muon(self, name: str) -> bool:
        return "blocks." in name and ".norm" not in name

    def sheet(self) -> UInt8[np.ndarray, "h w 3"]:
        """Sixteen held-out captions with two things, drawn in twenty steps."""
        captions = prompts(16, seed=1, count=2, split="held-out")
        return tile([*draw(self.pipe, [caption.text for caption in captions], steps=20)], columns=8)


def pad_bias(is_pad: Tensor, length: Tensor) -> Float[Tensor, "b n"]:
    """Scores to add so that the pads present count as those of captions padded to `length`: log(wanted / present).

    `is_pad` (b n), at least one a row; `length` (b). Never fewer than are present.
    """
    present = is_pad.sum(1)
    wanted = (length - (~is_pad).sum(1)).maximum(present)
    return torch.where(is_pad, (wanted / present).log()[:, None], 0.0)
