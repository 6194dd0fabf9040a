"""What training asks of a pipeline: latents of pictures, embedded prompts with gradients, a prediction and its target.

FluxPipeline, StableDiffusion3Pipeline     a flow: z = (1 - t) x + t e, target e - x
PixArt pipelines, StableDiffusionPipeline  a chain: z = sqrt(abar_t) x + sqrt(1 - abar_t) e, target e, or v
Latents are (b c h w), times shares in [0, 1) of the noise that there is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.mechanisms.attention_maps import Size
from saccade.pipelines.flow import TRAINED_STEPS, Flow

FLOWS = ("FluxPipeline", "StableDiffusion3Pipeline")
CHAINS = ("PixArtAlphaPipeline", "PixArtSigmaPipeline", "StableDiffusionPipeline")
GUIDANCE = 3.5  # of the embedding of guidance-distilled models
Text = dict[str, Any]


class Host(Protocol):
    """A pipeline opened for pictures of one size.

    grids       of the sites whose maps count, of words and among the image; None where there is one only
    masks_pads  whether the model does not see the padding of prompts
    size        of the latents
    """

    @property
    def model(self) -> Any: ...
    @property
    def grids(self) -> tuple[Size | None, Size | None]: ...
    @property
    def masks_pads(self) -> bool: ...
    @property
    def size(self) -> Size: ...

    def latents(self, picture: Float[np.ndarray, "1 h w 3"]) -> Float[Tensor, "1 c y x"]:
        """Of a picture."""
        ...

    def made(self, prompt: str, steps: int, seed: int) -> Float[Tensor, "1 c y x"]:
        """Latents of a picture that the pipeline makes."""
        ...

    def encode(self, prompts: Sequence[str]) -> Text:
        """What the model is given of prompts, with gradients where they are on."""
        ...

    def predict(
        self, latents: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], text: Text
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """(what the model says of noised latents, what it should say)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowHost:
    """FLUX and Stable Diffusion 3."""

    flow: Flow

    grids = (None, None)
    masks_pads = False

    @property
    def model(self) -> Any:
        return self.flow.pipe.transformer

    @property
    def size(self) -> Size:
        factor = self.flow.pipe.vae_scale_factor
        return self.flow.height // factor, self.flow.width // factor

    def latents(self, picture: np.ndarray) -> Tensor:
        return self._grid(self.flow.encode(picture))

    def made(self, prompt: str, steps: int, seed: int) -> Tensor:
        return self._grid(_drawn(self.flow.pipe, prompt, steps, seed, self.flow.height, self.flow.width))

    def encode(self, prompts: Sequence[str]) -> Text:
        return self.flow.arguments(prompts, (GUIDANCE,) * len(prompts))

    def predict(self, latents: Tensor, noise: Tensor, t: Tensor, text: Text) -> tuple[Tensor, Tensor]:
        share = t[:, None, None, None]
        z = (1 - share) * latents + share * noise
        z = self.flow.pipe._pack_latents(z, *z.shape) if self._packs else z
        time = t if self._packs else t * TRAINED_STEPS
        dtype = text["encoder_hidden_states"].dtype
        found = self.model(hidden_states=z.to(dtype), timestep=time.to(dtype), **text, return_dict=False)[0]
        return self._grid(found.float()), noise - latents

    @property
    def _packs(self) -> bool:
        return hasattr(self.flow.pipe, "_pack_latents")

    def _grid(self, x: Tensor) -> Tensor:
        if not self._packs:
            return x.float()
        flow = self.flow
        return flow.pipe._unpack_latents(x, flow.height, flow.width, flow.pipe.vae_scale_factor).float()


@dataclass(frozen=True, kw_only=True, eq=False)
class ChainHost:
    """PixArt, and Stable Diffusion's U-Net.

    Raises ValueError for a size that is no multiple of what a token covers, and for a scheduler whose prediction is
    neither the noise nor v.
    """

    pipe: Any
    height: int
    width: int
    text_tokens: int | None = None

    def __post_init__(self) -> None:
        side = self.pipe.vae_scale_factor * (1 if self._unet else self.model.config.patch_size)
        for name, value in (("height", self.height), ("width", self.width)):
            if value < side or value % side:
                raise ValueError(f"{name}={value} must be a multiple of {side} pixels, what a token covers")
        if (kind := self._kind) not in ("epsilon", "v_prediction"):
            raise ValueError(f"prediction_type='{kind}' of the scheduler must be epsilon or v_prediction")

    @property
    def model(self) -> Any:
        return self.pipe.unet if self._unet else self.pipe.transformer

    @property
    def grids(self) -> tuple[Size | None, Size | None]:
        """A quarter and a half of the latents' sides in a U-Net: 16 and 32 at 512 pixels."""
        high, wide = self.size
        return ((high // 4, wide // 4), (high // 2, wide // 2)) if self._unet else (None, None)

    @property
    def masks_pads(self) -> bool:
        return not self._unet

    @property
    def size(self) -> Size:
        return self.height // self.pipe.vae_scale_factor, self.width // self.pipe.vae_scale_factor

    @torch.no_grad()
    def latents(self, picture: np.ndarray) -> Tensor:
        vae = self.pipe.vae
        pixels = self.pipe.image_processor.preprocess(picture).to(vae.device, vae.dtype)
        return (vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor).float()

    def made(self, prompt: str, steps: int, seed: int) -> Tensor:
        more = {} if self._unet else {"use_resolution_binning": False}
        return _drawn(self.pipe, prompt, steps, seed, self.height, self.width, **more).float()

    def encode(self, prompts: Sequence[str]) -> Text:
        device, length = self.pipe.device, self.text_tokens
        if self._unet:
            words = self.pipe.encode_prompt(list(prompts), device, 1, do_classifier_free_guidance=False)[0]
            return {"encoder_hidden_states": words}
        given = {} if length is None else {"max_sequence_length": length}
        words, mask, *_ = self.pipe.encode_prompt(list(prompts), do_classifier_free_guidance=False, **given)
        return {"encoder_hidden_states": words, "encoder_attention_mask": mask, "added_cond_kwargs": self._sizes(words)}

    def predict(self, latents: Tensor, noise: Tensor, t: Tensor, text: Text) -> tuple[Tensor, Tensor]:
        kept = self.pipe.scheduler.alphas_cumprod.to(latents.device)
        step = (t * len(kept)).long()
        a, s = (x.sqrt()[:, None, None, None] for x in (kept[step], 1 - kept[step]))
        z = (a * latents + s * noise).to(text["encoder_hidden_states"].dtype)
        found = self.model(z, timestep=step, **text, return_dict=False)[0][:, : latents.shape[1]]
        return found.float(), noise if self._kind == "epsilon" else a * noise - s * latents

    @property
    def _kind(self) -> str:
        return self.pipe.scheduler.config.get("prediction_type", "epsilon")

    @property
    def _unet(self) -> bool:
        return getattr(self.pipe, "unet", None) is not None

    def _sizes(self, words: Tensor) -> dict[str, Tensor | None]:
        if not self.model.config.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        resolution = torch.tensor([[self.height, self.width]], dtype=words.dtype, device=words.device)
        ratio = torch.tensor([[self.height / self.width]], dtype=words.dtype, device=words.device)
        return {"resolution": resolution.expand(len(words), -1), "aspect_ratio": ratio.expand(len(words), -1)}


def open_host(pipe: Any, height: int, width: int, text_tokens: int | None = None) -> Host:
    """The host of a pipeline.

    Raises ValueError for a pipeline that is not known, and for a size that does not fit it.
    """
    known = {cls.__name__ for cls in type(pipe).__mro__}
    if known & {*FLOWS}:
        return FlowHost(flow=Flow(pipe=pipe, height=height, width=width, text_tokens=text_tokens))
    if known & {*CHAINS}:
        return ChainHost(pipe=pipe, height=height, width=width, text_tokens=text_tokens)
    raise ValueError(f"pipe={type(pipe).__name__} is not among {', '.join((*FLOWS, *CHAINS))}; give one of these")


@torch.no_grad()
def _drawn(pipe: Any, prompt: str, steps: int, seed: int, height: int, width: int, **more: Any) -> Tensor:
    draw: Callable[..., Any] = pipe
    return draw(
        prompt, height=height, width=width, num_inference_steps=steps, output_type="latent",
        generator=torch.Generator("cpu").manual_seed(seed), **more,
    ).images  # fmt: skip
