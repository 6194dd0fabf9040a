"""A diffusers flow pipeline in pieces: pictures to latents and back, the levels it steps through, its velocity.

Text, latents, ids and levels come from the pipeline's own parts, which are left as they are: levels are asked of a copy
of its scheduler. FLUX and Stable Diffusion 3.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.pipelines.latents import encoded

TRAINED_STEPS = 1000  # a timestep is this many times its level, in all of diffusers' flow schedulers
SCHEDULER = "FlowMatchEulerDiscreteScheduler"
KNOWN = ("FluxPipeline", "StableDiffusion3Pipeline")


@dataclass(kw_only=True, eq=False)
class Levels:
    """A schedule that also has the clean level, for `attach(..., schedule=...)` while a picture is inverted.

    step_index  the level the velocity is taken at; in low precision the transformer's timestep does not tell
    """

    sigmas: Float[Tensor, " n"]
    step_index: int | None = None

    @cached_property
    def timesteps(self) -> Float[Tensor, " n"]:
        """One object for good: a schedule that makes new ones begins a new generation."""
        return self.sigmas * TRAINED_STEPS

    def enter(self, sigma: float) -> None:
        """Say that the next forward is at this level."""
        self.step_index = int((self.sigmas - sigma).abs().argmin())


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow:
    """A pipeline opened for pictures of one size.

    height, width  pixels, multiples of what one image token covers
    text_tokens    the pipeline's `max_sequence_length`; None for its default
    Raises ValueError for options out of range.
    """

    pipe: Any
    height: int
    width: int
    text_tokens: int | None = None

    def __post_init__(self) -> None:
        _check_pipeline(self.pipe)
        side = self.side
        for name, value in (("height", self.height), ("width", self.width)):
            if value < side or value % side:
                raise ValueError(f"{name}={value} must be a multiple of {side} pixels, the side of one image token")

    @property
    def side(self) -> int:
        """Pixels along one side of an image token."""
        return token_side(self.pipe)

    @property
    def grid(self) -> tuple[int, int]:
        """Image tokens (down, across)."""
        return self.height // self.side, self.width // self.side

    def sigmas(self, steps: int) -> tuple[float, ...]:
        """The levels of a run of `steps` steps, falling, the clean one last.

        Raises ValueError for fewer than one step.
        """
        if steps < 1:
            raise ValueError(f"steps={steps} must be at least 1")
        scheduler = deepcopy(self.pipe.scheduler)
        scheduler.set_timesteps(**_schedule_arguments(self, scheduler.config, steps))
        return tuple(scheduler.sigmas.tolist())

    def levels(self, steps: int, *, clean: bool = True) -> Levels:
        """The same as a schedule; `clean` says whether forwards may also be at the clean level, which counts as one."""
        return Levels(sigmas=torch.tensor(self.sigmas(steps)[: None if clean else -1]))

    def on_tokens(self, mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "y x"]:
        """A mask on image tokens; of a mask on pixels, the tokens that cover any of it.

        Raises ValueError for a mask of another size or type.
        """
        if mask.dtype != torch.bool:
            raise ValueError(f"mask of {mask.dtype} must be bool; compare it with a threshold first")
        if tuple(mask.shape) == self.grid:
            return mask
        if tuple(mask.shape) != (self.height, self.width):
            sizes = f"{self.grid} image tokens nor {(self.height, self.width)} pixels"
            raise ValueError(f"mask of {tuple(mask.shape)} places fits neither {sizes}")
        return mask.unflatten(1, (-1, self.side)).unflatten(0, (-1, self.side)).any(3).any(1)

    def noise(self, seed: int) -> Float[Tensor, "1 ..."]:
        """The latent a pipeline starts from when called with a generator of this seed on the CPU."""
        pipe, channels = self.pipe, self.pipe.transformer.config.in_channels
        sizes = (1, channels // 4 if _is_flux(pipe) else channels, self.height, self.width, pipe.transformer.dtype)
        made = pipe.prepare_latents(*sizes, pipe.device, torch.Generator("cpu").manual_seed(seed))
        return made[0] if _is_flux(pipe) else made

    @torch.no_grad()
    def encode(self, pictures: Float[np.ndarray, "b h w 3"]) -> Float[Tensor, "b ..."]:
        """The mean latents of pictures in [0, 1], as the transformer takes them, float32.

        Raises ValueError for pictures of another size.
        """
        if pictures.shape[1:3] != (self.height, self.width):
            raise ValueError(
                f"pictures of {pictures.shape[1:3]} pixels must be {(self.height, self.width)}; resize them"
            )
        return encoded(self.pipe, pictures)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b ..."]) -> Float[np.ndarray, "b h w 3"]:
        """Pictures in [0, 1] of latents as the transformer takes them."""
        vae = self.pipe.vae
        if _is_flux(self.pipe):
            latents = self.pipe._unpack_latents(latents, self.height, self.width, self.pipe.vae_scale_factor)
        scaled = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
        return self.pipe.image_processor.postprocess(vae.decode(scaled, return_dict=False)[0], output_type="np")

    def arguments(self, prompts: Sequence[str], guidance: Sequence[float]) -> dict[str, Any]:
        """What the transformer is given beside latents and time, one prompt a row; with gradients where they are on.

        Raises ValueError where guidance is of another length than the prompts.
        """
        if len(guidance) != len(prompts):
            raise ValueError(
                f"guidance={guidance} gives {len(guidance)} values for {len(prompts)} prompts; give one for each"
            )
        made = _flux_arguments if _is_flux(self.pipe) else _sd3_arguments
        return made(self, list(prompts), tuple(guidance))

    @torch.no_grad()
    def velocity(
        self, prompts: Sequence[str], *, guidance: float | Sequence[float] = 1.0, levels: Levels | None = None
    ) -> Callable[[Tensor, float], Tensor]:
        """The derivative by sigma of latents (b ...), one prompt a row, encoded once.

        guidance  guidance embedding of a guidance-distilled model, or one for each row; others are run without guidance
        levels    the schedule an attachment reads, set to the level of each call
        Raises ValueError as `arguments` does.
        """
        flux, transformer = _is_flux(self.pipe), self.pipe.transformer
        rows = tuple(guidance) if isinstance(guidance, Sequence) else (guidance,) * len(prompts)
        arguments = self.arguments(prompts, rows)
        dtype = arguments["encoder_hidden_states"].dtype

        @torch.no_grad()
        def velocity(z: Tensor, sigma: float) -> Tensor:
            if levels is not None:
                levels.enter(sigma)
            time = torch.full((len(z),), sigma * TRAINED_STEPS, device=z.device)
            time = time.to(dtype) / TRAINED_STEPS if flux else time  # rounded as each pipeline does
            return transformer(hidden_states=z.to(dtype), timestep=time, **arguments, return_dict=False)[0].float()

        return velocity


def token_side(pipe: Any) -> int:
    """Pixels along one side of an image token: the autoencoder's factor times the transformer's patches."""
    packs = hasattr(pipe, "_pack_latents")  # as all of FLUX do
    return pipe.vae_scale_factor * (2 if packs else pipe.transformer.config.patch_size)


def _is_flux(pipe: Any) -> bool:
    return KNOWN[0] in _ancestry(pipe)


def _ancestry(pipe: Any) -> set[str]:
    return {cls.__name__ for cls in type(pipe).__mro__}


def _check_pipeline(pipe: Any) -> None:
    name, scheduler = type(pipe).__name__, type(getattr(pipe, "scheduler", None)).__name__
    if not _ancestry(pipe) & set(KNOWN):
        raise ValueError(f"pipe={name} is no flow pipeline that is known here; give a {' or a '.join(KNOWN)}")
    if scheduler != SCHEDULER or pipe.scheduler.config.get("stochastic_sampling"):
        raise ValueError(
            f"the scheduler of {name}, {scheduler}, must be a deterministic {SCHEDULER} to be run backwards"
        )


def _schedule_arguments(flow: Flow, config: Any, steps: int) -> dict[str, Any]:
    """What the pipeline hands its scheduler: FLUX even levels and a shift by tokens, SD3 the number of steps."""
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    flux, tokens = _is_flux(flow.pipe), flow.grid[0] * flow.grid[1]
    mu = calculate_shift(
        tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15 if flux else 1.16),
    )
    if flux and not config.get("use_flow_sigmas"):
        return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": mu}
    shifted = flux or config.get("use_dynamic_shifting")
    return {"num_inference_steps": steps, **({"mu": mu} if shifted else {})}


def _text(flow: Flow) -> dict[str, Any]:
    return {} if flow.text_tokens is None else {"max_sequence_length": flow.text_tokens}


def _flux_arguments(flow: Flow, prompts: list[str], guidance: tuple[float, ...]) -> dict[str, Any]:
    pipe = flow.pipe
    embeds, pooled, text_ids = pipe.encode_prompt(prompt=prompts, prompt_2=None, **_text(flow))
    places = {"generator": None, "latents": torch.empty(0)}  # latents are given, so only their ids are made
    sizes = (len(prompts), 1, flow.height, flow.width, embeds.dtype, embeds.device)
    embedded = torch.tensor(guidance, dtype=torch.float32, device=embeds.device)
    return {
        "encoder_hidden_states": embeds,
        "pooled_projections": pooled,
        "txt_ids": text_ids,
        "img_ids": pipe.prepare_latents(*sizes, **places)[1],
        "guidance": embedded if pipe.transformer.config.guidance_embeds else None,
    }


def _sd3_arguments(flow: Flow, prompts: list[str], guidance: tuple[float, ...]) -> dict[str, Any]:
    texts = {"prompt": prompts, "prompt_2": None, "prompt_3": None}
    embeds, _, pooled, _ = flow.pipe.encode_prompt(**texts, do_classifier_free_guidance=False, **_text(flow))
    return {"encoder_hidden_states": embeds, "pooled_projections": pooled}
