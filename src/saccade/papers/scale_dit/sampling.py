"""Two stages: the small picture by the model as it is, then the large one, which sees the small one at every step.

The pipeline itself runs both; the second begins from the small picture, enlarged, sharpened and noised to the level
from which `high_steps` of the `steps` remain, or from pure noise.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.checks import check_word
from saccade.papers.scale_dit.anchor_layout import Size, anchored, ratio_of
from saccade.papers.scale_dit.low_stream import LowStream, LowTokens
from saccade.papers.scale_dit.system import ScaleDiT
from saccade.pipelines.flow import Flow
from saccade.pipelines.no_progress_bar import no_progress_bar

Start = Literal["upsampled", "noise"]
BLUR = 0.8  # deviation of the sharpening kernel, in pixels, as torchvision chooses for 3 x 3


@dataclass(frozen=True, kw_only=True)
class Stages:
    """How a picture is drawn.

    low, high    pixels (down, across) of the two pictures
    steps        of a whole run; `high_steps` of them remain for the large picture, unless it starts from "noise"
    guidance     embedding of a guidance-distilled model, of the small picture; `high_guidance` of the large one
    true_cfg     guidance away from the empty caption, 1 for none
    text_tokens  captions are padded to
    scaled       whether the small picture's places are stretched to the large one's
    anchor       whether the large picture sees the small one at all
    Raises ValueError for options out of range.
    """

    low: Size = (1024, 1024)
    high: Size = (4096, 4096)
    steps: int = 28
    high_steps: int = 18
    start: Start = "upsampled"
    guidance: float = 3.5
    high_guidance: float = 4.5
    true_cfg: float = 1.0
    text_tokens: int = 512
    scaled: bool = True
    anchor: bool = True

    def __post_init__(self) -> None:
        ratio_of(self.high, self.low)
        check_word(get_args(Start), start=self.start)
        if not 1 <= self.high_steps <= self.steps:
            raise ValueError(f"high_steps={self.high_steps} must lie in 1..steps={self.steps}, of which they remain")


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoPictures:
    """What was drawn, in [0, 1], one for each prompt; `tokens` are the small pictures' final latents, the anchor."""

    low: Float[np.ndarray, "b h w 3"]
    high: Float[np.ndarray, "b H W 3"]
    tokens: Float[Tensor, "b n c"]


def two_stages(
    pipe: Any, stream: LowStream, system: ScaleDiT | None, prompts: list[str], stages: Stages, *, seed: int = 0
) -> TwoPictures:
    """Draw each prompt small, then large. The i-th noise of either stage is drawn from `seed + i`.

    stream  of the pipeline's transformer; without LoRA layers in it the anchor is used as the model can
    system  the mask of the second stage; None: dense
    Raises ValueError for sizes that do not fit the pipeline, and a stream of another transformer.
    """
    if stream.transformer is not pipe.transformer:
        raise ValueError("stream is of another transformer; make it by LowStream(pipe.transformer)")
    small, large = (Flow(pipe=pipe, height=h, width=w, text_tokens=stages.text_tokens) for h, w in _sizes(stages))
    with no_progress_bar(pipe):
        tokens = _run(pipe, small, prompts, stages.guidance, stages, seed)
        low = small.decode(tokens)
        return TwoPictures(
            low=low,
            high=_large(pipe, stream, system, prompts, stages, seed, large, small, (tokens, low)),
            tokens=tokens,
        )


def enlarged(pictures: Float[np.ndarray, "b h w 3"], size: Size) -> Float[np.ndarray, "b H W 3"]:
    """Pictures in [0, 1] by bicubic interpolation, then twice each pixel less its surroundings' mean (unsharp mask)."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, size=size, mode="bicubic", align_corners=False)
    return (2 * x - blurred(x)).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def blurred(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """A 3 x 3 Gaussian, the border mirrored."""
    line = torch.exp(-0.5 * (torch.arange(-1.0, 2.0) / BLUR) ** 2)
    kernel = (line[:, None] * line / line.sum() ** 2).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1])


def _large(
    pipe: Any, stream: LowStream, system: ScaleDiT | None, prompts: list[str], stages: Stages, seed: int,
    large: Flow, small: Flow, made: tuple[Tensor, np.ndarray],
) -> np.ndarray:  # fmt: skip
    tokens, pictures = made
    anchor = LowTokens(tokens=tokens, low=small.grid, high=large.grid, scaled=stages.scaled)
    low = anchor if stages.anchor else None
    layout = anchored(text=stages.text_tokens, high=large.grid, low=small.grid if stages.anchor else None)
    start = _start(large, pictures, stages, seed) if stages.start == "upsampled" else {}
    systems = () if system is None else (system,)
    with stream.holding(low), attach(pipe, *systems, layout=layout):
        return large.decode(_run(pipe, large, prompts, stages.high_guidance, stages, seed, **start))


def _start(large: Flow, pictures: np.ndarray, stages: Stages, seed: int) -> dict[str, Any]:
    """Latents and the levels that remain: (1 - s) z + s e at the first of them."""
    first = stages.steps - stages.high_steps
    level = large.sigmas(stages.steps)[first]
    clean = large.encode(enlarged(pictures, (large.height, large.width)))
    noise = torch.cat([large.noise(seed + i) for i in range(len(clean))]).to(clean)
    left = np.linspace(1, 1 / stages.steps, stages.steps)[first:].tolist()
    return {"latents": (1 - level) * clean + level * noise, "sigmas": left, "num_inference_steps": stages.high_steps}


@torch.no_grad()
def _run(
    pipe: Any, flow: Flow, prompts: list[str], guidance: float, stages: Stages, seed: int, **start: Any
) -> Float[Tensor, "b n c"]:
    options = {"num_inference_steps": stages.steps} | start
    return pipe(
        list(prompts),
        height=flow.height,
        width=flow.width,
        guidance_scale=guidance,
        negative_prompt=[""] * len(prompts) if stages.true_cfg > 1 else None,
        true_cfg_scale=stages.true_cfg,
        max_sequence_length=stages.text_tokens,
        generator=[torch.Generator().manual_seed(seed + i) for i in range(len(prompts))],
        output_type="latent",
        **options,
    ).images


def _sizes(stages: Stages) -> tuple[Size, Size]:
    return stages.low, stages.high
