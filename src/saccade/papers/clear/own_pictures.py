"""What the paper distils on: pictures that the teacher itself makes of prompts, kept as latents with embedded prompts.

One file a picture, so that a killed run goes on making them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from saccade.models.stored import read_weights
from saccade.train.checkpoint import write_atomically


@dataclass(frozen=True, kw_only=True)
class OwnPictures:
    """How they are made.

    prompts      a text file, a prompt a line; "" for the scenes of `saccade.data.scenes`, rendered, instead
    side         in pixels
    steps        of the sampler
    guidance     of models that are distilled for it
    text_tokens  to which prompts are padded
    batch        pictures of a training step
    Raises ValueError for options out of range.
    """

    prompts: str = ""
    side: int = 1024
    steps: int = 28
    guidance: float = 3.5
    text_tokens: int = 512
    batch: int = 2

    def __post_init__(self) -> None:
        for name in ("side", "steps", "text_tokens", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    def texts(self) -> list[str]:
        """The prompts.

        Raises ValueError for a file without any.
        """
        found = [line.strip() for line in Path(self.prompts).read_text(encoding="utf-8").splitlines() if line.strip()]
        if not found:
            raise ValueError(f"prompts='{self.prompts}' holds no line of text; write a prompt a line")
        return found


class PictureDraws:
    """Batches of noised pictures; the pictures are made in `folder`, from seed `seed + i` the i-th."""

    def __init__(self, pipe: Any, wanted: OwnPictures, folder: Path, seed: int) -> None:
        self.wanted = wanted
        self.files = [folder / f"picture-{i:06d}.safetensors" for i in range(len(wanted.texts()))]
        for i, (text, file) in enumerate(zip(wanted.texts(), self.files, strict=True)):
            if not file.exists():
                made = _made(pipe, text, wanted, seed + i)
                write_atomically(file, lambda path, made=made: save_file(made, path))
        tokens = wanted.side // (2 * pipe.vae_scale_factor)
        ids = pipe._prepare_latent_image_ids(1, tokens, tokens, torch.device("cpu"), torch.float32)
        self.positions = {"img_ids": ids, "txt_ids": torch.zeros(wanted.text_tokens, 3)}

    def __call__(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Latents, noise, embedded prompts and positions."""
        chosen = rng.integers(len(self.files), size=self.wanted.batch)
        stored = [read_weights(self.files[i]) for i in chosen]
        found = {name: torch.stack([each[name] for each in stored]).float() for name in stored[0]}
        noise = torch.from_numpy(rng.standard_normal(found["latents"].shape, dtype=np.float32))
        return {**found, "noise": noise, **self.positions}


@torch.no_grad()
def _made(pipe: Any, text: str, wanted: OwnPictures, seed: int) -> dict[str, Tensor]:
    words, pooled, _ = pipe.encode_prompt(prompt=text, prompt_2=None, max_sequence_length=wanted.text_tokens)
    latents = pipe(
        prompt_embeds=words, pooled_prompt_embeds=pooled, height=wanted.side, width=wanted.side, output_type="latent",
        num_inference_steps=wanted.steps, guidance_scale=wanted.guidance,
        generator=torch.Generator().manual_seed(seed),
    ).images  # fmt: skip
    found = {"latents": latents, "words": words, "pooled": pooled}
    return {name: value[0].detach().half().cpu().contiguous() for name, value in found.items()}
