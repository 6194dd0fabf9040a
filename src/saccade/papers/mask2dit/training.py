"""Train a CogVideoX transformer on n scenes: all of them noised, or the last alone, after the others.

normal       x_t of all clips,           loss = mean |v(x_t, t) - v|^2
conditional  x_t of clip c, others x_0,  loss the same over clip c alone, the others under timestep 0
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.papers.mask2dit.captions import in_a_row
from saccade.papers.mask2dit.known_scenes import KnownScenes
from saccade.papers.mask2dit.stories import Stories, embed_words
from saccade.train.checks import check_share
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.settings import flat

NORMAL = -1  # in place of a clip


@dataclass(frozen=True, kw_only=True)
class SceneStage:
    """One stage of training.

    related      consecutive shots of one story; without it unrelated clips
    conditional  share of the batches in which only the last clip is noised
    drop         share of captions replaced by the empty one, each by itself; the paper drops none
    Raises ValueError for options out of range.
    """

    fit: Fit = field(
        default_factory=lambda: Fit(
            steps=400, precision="no", decay=0.98, save_every=100, log_every=20, sheet_every=100000,
            optim=Optim(lr=2e-3, muon_lr=6e-3),
        )
    )  # fmt: skip
    batch: int = 24
    related: bool = True
    conditional: float = 0.5
    drop: float = 0.0

    def __post_init__(self) -> None:
        check_share(conditional=self.conditional, drop=self.drop)


class SceneLoss(nn.Module):
    """The loss of a batch: `latents`, `noise` (b f k y x), `timestep` (b), `words` (b n c), and `clip`, or -1 for all.

    The mask is attached to `transformer` meanwhile. With checkpointing call backward inside `holding` of `known`.
    rotary  cosines and sines of the places of all scenes, None where the model adds a table
    """

    def __init__(self, transformer: Any, scheduler: Any, *, scenes: int, rotary: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        self.transformer, self.scenes = transformer, scenes
        self.known = KnownScenes(transformer, scenes=scenes)
        self._given = scheduler, rotary  # a tuple: no submodules

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        scheduler, rotary = self._given
        latents, noise, t, clip = batch["latents"], batch["noise"], batch["timestep"], int(batch["clip"])
        noised = self.of(scheduler.add_noise(latents, noise, t), latents, clip)
        with self.known.holding(None if clip == NORMAL else clip):
            found = self.transformer(
                hidden_states=noised, encoder_hidden_states=batch["words"], timestep=t, return_dict=False,
                image_rotary_emb=None if rotary is None else tuple(x.to(latents) for x in rotary),
            )[0]  # fmt: skip
        error = (found.float() - scheduler.get_velocity(latents, noise, t)).square()
        if clip != NORMAL:
            error = error.chunk(self.scenes, dim=1)[clip]
        return {"loss": error.mean()}

    def of(self, noised: Float[Tensor, "b f k y x"], latents: Tensor, clip: int) -> Float[Tensor, "b f k y x"]:
        """Noise in one clip, the others as they are; in all of them in the normal mode."""
        if clip == NORMAL:
            return noised
        parts = [*latents.chunk(self.scenes, dim=1)]
        parts[clip] = noised.chunk(self.scenes, dim=1)[clip]
        return torch.cat(parts, dim=1)


class SceneTask:
    """A `Task`: clips of stories, and captions of `text_tokens` words."""

    shared = ("clip",)

    def __init__(self, module: SceneLoss, stories: Stories, stage: SceneStage, *, text_tokens: int) -> None:
        self.module, self.stories, self.stage, self.text_tokens = module, stories, stage, text_tokens

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        n, size = self.module.scenes, self.stage.batch
        draw = self.stories.one if self.stage.related else self.stories.unrelated
        drawn = [draw(rng, n) for _ in range(size)]
        captions = ["" if rng.random() < self.stage.drop else text for _, texts in drawn for text in texts]
        latents = torch.stack([clips.flatten(0, 1) for clips, _ in drawn])
        return {
            "latents": latents,
            "noise": torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)),
            "timestep": torch.from_numpy(rng.integers(1000, size=size)),
            "words": in_a_row(embed_words(captions, self.text_tokens), n),
            "clip": torch.tensor(n - 1 if rng.random() < self.stage.conditional else NORMAL),
        }

    def uses_muon(self, name: str) -> bool:
        return "transformer_blocks" in name and "norm" not in name

    def sheet(self) -> None:
        return None
