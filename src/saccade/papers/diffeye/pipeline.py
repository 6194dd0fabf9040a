"""Pictures in, trajectories of virtual observers out: encode, sample by DDIM under guidance, scale to pixels.

eps = eps_u + guidance (eps_c - eps_u);    1: the condition alone, 0: without the picture
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.checks import check_whole, check_word
from saccade.data.rgb import as_picture
from saccade.nn.eval_mode import eval_mode
from saccade.papers.diffeye.encoders import Encoder
from saccade.papers.diffeye.estimate import LooksAtEstimate
from saccade.papers.diffeye.model import DiffEye
from saccade.papers.diffeye.observers import Observers
from saccade.papers.diffeye.source import null, shown
from saccade.runs.denoising import guided
from saccade.runs.gaussian import Chain, linear_betas

Picture = Any  # an array (h w 3) of bytes or floats in [0, 1], or one of PIL
Progress = Callable[[int, int], None]  # steps done, in all
Sampler = Literal["ddim", "ddpm"]


class DiffEyePipeline:
    """A trained DiffEye and the encoder whose features it was trained on.

    steps, low, high   of the chain of training: linear variances
    estimate           look positions up at the model's own estimate, see `estimate`; as it was trained
    Raises ValueError for an encoder whose tokens, features or pixels are not the model's.
    """

    def __init__(
        self,
        model: DiffEye,
        encoder: Encoder,
        *,
        steps: int = 1000,
        low: float = 1e-4,
        high: float = 2e-2,
        estimate: bool = False,
    ) -> None:
        c = model.config
        for name in ("features", *(("grid", "pixels") if c.sees == "patches" else ())):
            if (theirs := getattr(encoder, name)) != (ours := getattr(c, name)):
                raise ValueError(
                    f"the encoder's {name}={theirs} is not the model's, {ours}; give the one it learned by"
                )
        self.model, self.encoder, self.estimate = model, encoder, estimate
        self.chain = Chain(betas=linear_betas(steps, low, high), times=torch.arange(steps))

    @classmethod
    def from_pretrained(cls, folder: str | Path, encoder: Encoder, **options: Any) -> Self:
        """The model that a folder holds, as `model.save_pretrained` wrote it."""
        return cls(DiffEye.from_pretrained(folder).eval(), encoder, **options)

    @torch.no_grad()
    def __call__(
        self,
        pictures: Sequence[Picture],
        *,
        observers: int = 15,
        steps: int = 50,
        guidance: float = 2.0,
        sampler: Sampler = "ddim",
        eta: float = 0.0,
        clip: float | None = None,
        batch: int = 64,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> Observers:
        """Trajectories of so many observers of each picture, whatever its size.

        eta        of DDIM: 0 adds no noise on the way; "ddpm" adds it
        clip       keep estimates of the clean trajectory within so much, 1 for the picture; None: as they are
        batch      rows of a forward, which changes nothing but memory
        generator  of all noise, on the CPU unless it lives elsewhere: the same samples for the same seed
        Raises ValueError for options out of range, no picture, and trajectories that became NaN.
        """
        check_whole(1, observers=observers, steps=steps, batch=batch)
        check_word(("ddim", "ddpm"), sampler=sampler)
        if not len(pictures):
            raise ValueError("pictures is empty; give one or more")
        arrays = [as_picture(picture) for picture in pictures]
        image = torch.cat([self.encode(array) for array in arrays]).repeat_interleave(observers, 0)
        options = {"steps": steps, "guidance": guidance, "sampler": sampler, "eta": eta, "clip": clip, "batch": batch}
        unit = self.sample(image, generator=generator, progress=progress, **options)  # type: ignore[arg-type]
        sizes = tuple((array.shape[2], array.shape[1]) for array in arrays)
        return Observers(unit=unit.view(len(pictures), observers, -1, 2).double().cpu().numpy(), sizes=sizes)

    def encode(self, picture: Float[np.ndarray, "1 h w 3"]) -> Float[Tensor, "1 k c"]:
        """What the model sees of a picture."""
        like = next(self.model.parameters())
        found = self.encoder(torch.from_numpy(picture).permute(0, 3, 1, 2).to(like.device).float())
        return (found.tokens if self.model.config.sees == "patches" else found.summary[:, None]).to(like)

    @torch.no_grad()
    def sample(
        self,
        image: Float[Tensor, "b k c"],
        *,
        steps: int = 50,
        guidance: float = 2.0,
        sampler: Sampler = "ddim",
        eta: float = 0.0,
        clip: float | None = None,
        batch: int = 64,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> Float[Tensor, "b l 2"]:
        """A trajectory in [-1, 1] for each row of encoded pictures. Raises ValueError where one became NaN."""
        scheduler = self.scheduler(sampler, clip)
        scheduler.set_timesteps(steps)
        device = "cpu" if generator is None else generator.device
        start = torch.randn((len(image), self.model.config.length, 2), generator=generator, device=device)
        z, extra = start.to(image), {"eta": eta} if sampler == "ddim" else {}
        predicts = [self._predict(part, guidance) for part in image.split(batch)]
        with eval_mode(self.model):
            for done, t in enumerate(scheduler.timesteps):
                parts = zip(predicts, z.split(batch), strict=True)
                eps = torch.cat([predict(part, t.to(part).expand(len(part))) for predict, part in parts])
                z = scheduler.step(eps, t, z, generator=generator, **extra).prev_sample
                if progress is not None:
                    progress(done + 1, steps)
        _check_finite(z)
        return z

    def scheduler(self, sampler: Sampler = "ddim", clip: float | None = None) -> Any:
        """That of diffusers, from the noisiest step on in even strides."""
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        kind: Any = DDIMScheduler if sampler == "ddim" else DDPMScheduler
        betas = self.chain.betas.float().numpy()
        clipped = {"clip_sample": clip is not None, "clip_sample_range": clip or 1.0}
        return kind(len(betas), trained_betas=betas, timestep_spacing="trailing", **clipped)

    def _predict(self, image: Tensor, guidance: float) -> Callable[[Tensor, Tensor], Tensor]:
        condition, model = shown(image), LooksAtEstimate(self.model, self.chain) if self.estimate else self.model
        return guided(model, condition, null(condition), guidance)


def _check_finite(unit: Float[Tensor, "b l 2"]) -> None:
    broken = (~unit.isfinite().flatten(1).all(1)).nonzero()
    if len(broken):
        raise ValueError(f"trajectory {int(broken[0])} of {len(unit)} became NaN or infinite; sample in float32")
