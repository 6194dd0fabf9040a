"""A diffusers video pipeline in pieces, for videos longer than a call makes: texts, noise, predictions, steps, frames.

Everything comes from the pipeline's own parts. Latents are (frames c h w) here, whatever order the model has. CogVideoX
with schedulers of alphas (DPM, DDIM), Wan with flow-matching ones (Euler, UniPC), HunyuanVideo with Euler.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.pipelines.words import text_length
from saccade.runs.latent_blending import PredictionKind, from_clean, to_clean

COG, WAN, HUNYUAN = "CogVideoXPipeline", "WanPipeline", "HunyuanVideoPipeline"
KNOWN = (COG, WAN, HUNYUAN)
OWN = {WAN: (480, 832, 81), HUNYUAN: (720, 1280, 129)}  # height, width and frames of a call that names none
EMBEDDED_GUIDANCE = 6.0  # the default of HunyuanVideo's call
Texts = dict[str, Tensor]  # of some prompts, as the model takes them: arguments by name, a row for each prompt


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoParts:
    """A pipeline opened for windows of one size.

    height, width  pixels, multiples of what one video token covers; None for the pipeline's own
    tile           latent frames of a window; None for the pipeline's own
    text_tokens    the pipeline's `max_sequence_length`; None for its default
    embedded_guidance  the scale that a distilled model reads; None for the pipeline's own
    Raises ValueError for options out of range, and for pipelines and schedulers that are not known here.
    """

    pipe: Any
    height: int | None = None
    width: int | None = None
    tile: int | None = None
    text_tokens: int | None = None
    embedded_guidance: float | None = None

    def __post_init__(self) -> None:
        name = type(self.pipe).__name__
        if not self._kinds & set(KNOWN):
            raise ValueError(f"pipe={name} is no video pipeline that is known here; give a {' or a '.join(KNOWN)}")
        if getattr(self.pipe.config, "expand_timesteps", False):
            raise ValueError(f"{name} gives every token a time of its own (expand_timesteps), which is not known here")
        self.check_scheduler()
        for what, value in zip(("height", "width"), self.size, strict=True):
            if value < self.side or value % self.side:
                raise ValueError(f"{what}={value} must be a multiple of {self.side} pixels, the side of a video token")
        if self.frames % self._patch_t:
            raise ValueError(f"tile={self.frames} must be a multiple of {self._patch_t}, the frames of a video token")
        if self.embedded_guidance is not None and not self.distilled:
            raise ValueError(
                f"embedded_guidance={self.embedded_guidance} is read by distilled models, as HunyuanVideo's, and "
                f"{name} runs none; give guidance="
            )

    @property
    def size(self) -> tuple[int, int]:
        """Pixels (down, across)."""
        height, width = self.height, self.width
        return self._own[0] if height is None else height, self._own[1] if width is None else width

    @property
    def frames(self) -> int:
        """Latent frames of a window."""
        return self._own[2] if self.tile is None else self.tile

    @property
    def factor(self) -> int:
        """Frames of a latent frame, but for the first, which is one by itself."""
        return self.pipe.vae_scale_factor_temporal

    @property
    def side(self) -> int:
        """Pixels along one side of a video token."""
        patch = self.pipe.transformer.config.patch_size
        return self.pipe.vae_scale_factor_spatial * (patch if isinstance(patch, int) else patch[1])

    @property
    def stacked(self) -> bool:
        """Whether both branches of guidance are rows of one batch."""
        return COG in self._kinds

    @property
    def distilled(self) -> bool:
        """Whether the model reads a scale of guidance and runs without an unconditional branch."""
        return HUNYUAN in self._kinds

    @property
    def kind(self) -> PredictionKind:
        """What the model predicts."""
        if not self._by_alphas:
            return "flow_prediction"
        return self.pipe.scheduler.config.prediction_type

    def shown(self, latent: slice) -> slice:
        """The frames that a run of latent frames decodes to."""
        first, last = (0 if i == 0 else 1 + (i - 1) * self.factor for i in (latent.start, latent.stop))
        return slice(first, last)

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Texts:
        """What the model reads of each prompt, in its type; for HunyuanVideo, which tokens are text as well."""
        length = text_length(self.pipe, self.text_tokens)  # of a call; `encode_prompt` has a default of its own
        one_branch = {} if self.distilled else {"do_classifier_free_guidance": False}
        words, *more = self.pipe.encode_prompt(list(prompts), max_sequence_length=length, **one_branch)
        words = words.to(self.pipe.transformer.dtype)
        if not self.distilled:
            return {"encoder_hidden_states": words}
        pooled, mask = more
        return {
            "encoder_hidden_states": words, "pooled_projections": pooled.to(words), "encoder_attention_mask": mask > 0
        }  # fmt: skip

    def noise(self, frames: int, generator: torch.Generator) -> Float[Tensor, "f c h w"]:
        """The latent that a video of so many latent frames begins with, drawn where the generator lives."""
        height, width = (side // self.pipe.vae_scale_factor_spatial for side in self.size)
        shape = (frames, self.pipe.transformer.config.in_channels, height, width)
        drawn = torch.randn(self._as_host(shape), generator=generator, device=generator.device)
        started = drawn * getattr(self.pipe.scheduler, "init_noise_sigma", 1.0)
        return self._turned(started.to(self.device))[0]

    def begin(self, steps: int) -> None:
        """Set the scheduler's timesteps for a video."""
        given = {"sigmas": np.linspace(1.0, 0.0, steps + 1)[:-1]} if self.distilled else {"num_inference_steps": steps}
        self.pipe.scheduler.set_timesteps(**given, device=self.device)
        if hasattr(self.pipe.scheduler, "set_begin_index"):
            self.pipe.scheduler.set_begin_index(0)

    def timestep(self, step: int) -> float:
        """What the model receives as time."""
        return float(self.pipe.scheduler.timesteps[step])

    def level(self, step: int) -> tuple[float, float]:
        """(alpha, sigma) of the latent at a step; (1, 0) past the last."""
        scheduler = self.pipe.scheduler
        if step == len(scheduler.timesteps):
            return 1.0, 0.0
        if not self._by_alphas:
            sigma = float(scheduler.sigmas[step])
            return 1 - sigma, sigma
        kept = float(scheduler.alphas_cumprod[int(scheduler.timesteps[step])].double())
        return sqrt(kept), sqrt(1 - kept)

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "r t c h w"], texts: Texts, step: int) -> Float[Tensor, "r t c h w"]:
        """What the model predicts for some windows, a row each, in float32."""
        model, time = self._model(step), self.pipe.scheduler.timesteps[step].expand(len(x))
        given = self._turned(x).to(model.dtype)
        own: dict[str, Any] = {}
        if self.stacked and self._rotary is not None:
            own["image_rotary_emb"] = self._rotary
        if self.distilled:
            scale = EMBEDDED_GUIDANCE if self.embedded_guidance is None else self.embedded_guidance
            own["guidance"] = torch.full((len(x),), scale, dtype=model.dtype, device=self.device) * 1000.0
        found = model(hidden_states=given, timestep=time, return_dict=False, **texts, **own)[0]
        return self._turned(found).float()

    def clean(self, prediction: Tensor, x: Tensor, step: int) -> Tensor:
        """The clean latent a prediction stands for."""
        alpha, sigma = self.level(step)
        return to_clean(prediction, x, alpha=alpha, sigma=sigma, kind=self.kind)

    def advance(
        self, clean: Float[Tensor, "f c h w"], x: Float[Tensor, "f c h w"], step: int, kept: dict[str, Any],
        generator: torch.Generator,
    ) -> Float[Tensor, "f c h w"]:  # fmt: skip
        """A step of the pipeline's own scheduler from a clean guess; `kept` is what it hands on to the next."""
        alpha, sigma = self.level(step)
        scheduler, times = self.pipe.scheduler, self.pipe.scheduler.timesteps
        prediction = from_clean(clean, x, alpha=alpha, sigma=sigma, kind=self.kind)
        given, latent = self._turned(prediction[None]), self._turned(x[None])
        takes = inspect.signature(scheduler.step).parameters
        more = {"generator": generator} if "generator" in takes else {}
        if "old_pred_original_sample" in takes:
            before = times[step - 1] if step else None
            moved, kept["old"] = scheduler.step(
                given, kept.get("old"), times[step], before, latent, return_dict=False, **more
            )
        else:
            moved = scheduler.step(given, times[step], latent, return_dict=False, **more)[0]
        return self._turned(moved)[0].to(x.dtype)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "f c h w"]) -> Float[np.ndarray, "t y x 3"]:
        """Frames in [0, 1]."""
        vae = self.pipe.vae
        given = latents[None].to(vae.dtype)
        if self.stacked:
            found = self.pipe.decode_latents(given)
        elif self.distilled:
            found = vae.decode(given.transpose(1, 2) / vae.config.scaling_factor, return_dict=False)[0]
        else:
            mean, std = (
                torch.tensor(v).view(1, -1, 1, 1, 1).to(given)
                for v in (vae.config.latents_mean, vae.config.latents_std)
            )
            found = vae.decode(given.transpose(1, 2) * std + mean, return_dict=False)[0]
        return self.pipe.video_processor.postprocess_video(video=found, output_type="np")[0]

    @contextmanager
    def guidance(self, guided: bool) -> Iterator[None]:
        """The pipeline says, while this lasts, whether its batch holds both branches."""
        before = vars(self.pipe).get("_guidance_scale")
        self.pipe._guidance_scale = 2.0 if guided else 1.0
        try:
            yield
        finally:
            if before is None:
                del self.pipe._guidance_scale
            else:
                self.pipe._guidance_scale = before

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.pipe.transformer.device

    def check_scheduler(self) -> None:
        """Raise ValueError for a scheduler whose levels are not known."""
        scheduler = self.pipe.scheduler
        flow = scheduler.config.get("prediction_type") == "flow_prediction" or "FlowMatch" in type(scheduler).__name__
        if not flow and (hasattr(scheduler, "sigmas") or not hasattr(scheduler, "alphas_cumprod")):
            raise ValueError(
                f"the scheduler {type(scheduler).__name__} is not known here; give a flow-matching one, "
                "or one with alphas_cumprod and without sigmas, as CogVideoXDPMScheduler"
            )

    def check_alphas(self) -> None:
        """Raise ValueError for a scheduler without alphas, which a solver in variance-preserving form needs."""
        if not self._by_alphas:
            raise ValueError(f"solver='sde_dpmpp_2m' needs alphas, {type(self.pipe.scheduler).__name__} has sigmas")

    @property
    def _by_alphas(self) -> bool:
        return not hasattr(self.pipe.scheduler, "sigmas")

    @property
    def _kinds(self) -> set[str]:
        return {cls.__name__ for cls in type(self.pipe).__mro__}

    @cached_property
    def _own(self) -> tuple[int, int, int]:
        if own := [sizes for name, sizes in OWN.items() if name in self._kinds]:
            height, width, frames = own[0]
        else:
            config, scale = self.pipe.transformer.config, self.pipe.vae_scale_factor_spatial
            height, width, frames = config.sample_height * scale, config.sample_width * scale, config.sample_frames
        return height, width, (frames - 1) // self.factor + 1

    @property
    def _patch_t(self) -> int:
        patch = self.pipe.transformer.config.patch_size
        return (self.pipe.transformer.config.patch_size_t or 1) if isinstance(patch, int) else patch[0]

    @cached_property
    def _rotary(self) -> Any:
        if not self.pipe.transformer.config.use_rotary_positional_embeddings:
            return None
        return self.pipe._prepare_rotary_positional_embeddings(*self.size, self.frames, self.device)

    def _model(self, step: int) -> Any:
        """The transformer of a step: Wan 2.2 has one for high noise and one for low."""
        boundary = getattr(self.pipe.config, "boundary_ratio", None)
        if boundary is None or self.pipe.transformer_2 is None:
            return self.pipe.transformer
        high = self.timestep(step) >= boundary * self.pipe.scheduler.config.num_train_timesteps
        return self.pipe.transformer if high else self.pipe.transformer_2

    def _as_host(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        frames, channels, *size = shape
        return (1, frames, channels, *size) if self.stacked else (1, channels, frames, *size)

    def _turned(self, x: Tensor) -> Tensor:
        """(b f c h w) as the model has it, and back."""
        return x if self.stacked else x.transpose(1, 2)
