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
    drawing = _Drawing(pipe=pipe, stream=stream, system=system, prompts=list(prompts), stages=stages, seed=seed)
    with no_progress_bar(pipe):
        tokens = drawing.run(drawing.flow(stages.low), stages.guidance)
        low = drawing.flow(stages.low).decode(tokens)
        return TwoPictures(low=low, high=drawing.large(tokens, low), tokens=tokens)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawing:
    """What both stages share."""

    pipe: Any
    stream: LowStream
    system: ScaleDiT | None
    prompts: list[str]
    stages: Stages
    seed: int

    def flow(self, size: Size) -> Flow:
        """The pipeline opened for pictures of a size."""
        return Flow(pipe=self.pipe, height=size[0], width=size[1], text_tokens=self.stages.text_tokens)

    def large(self, tokens: Float[Tensor, "b n c"], low: Float[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b H W 3"]:
        """The second stage, beside the small picture's tokens."""
        stages, small, large = self.stages, self.flow(self.stages.low), self.flow(self.stages.high)
        anchor = LowTokens(tokens=tokens, low=small.grid, high=large.grid, scaled=stages.scaled)
        held = anchor if stages.anchor else None
        layout = anchored(text=stages.text_tokens, high=large.grid, low=small.grid if stages.anchor else None)
        start = self.start(large, low) if stages.start == "upsampled" else {}
        systems = () if self.system is None else (self.system,)
        with self.stream.holding(held), attach(self.pipe, *systems, layout=layout):
            return large.decode(self.run(large, stages.high_guidance, **start))

    def start(self, large: Flow, low: Float[np.ndarray, "b h w 3"]) -> dict[str, Any]:
        """Latents and the levels that remain: (1 - s) z + s e at the first of them."""
        steps, high_steps = self.stages.steps, self.stages.high_steps
        level = large.sigmas(steps)[steps - high_steps]
        clean = large.encode(enlarged(low, self.stages.high))
        noise = torch.cat([large.noise(self.seed + i) for i in range(len(clean))]).to(clean)
        left = np.linspace(1, 1 / steps, steps)[steps - high_steps :].tolist()
        return {"latents": (1 - level) * clean + level * noise, "sigmas": left, "num_inference_steps": high_steps}

    @torch.no_grad()
    def run(self, flow: Flow, guidance: float, **start: Any) -> Float[Tensor, "b n c"]:
        """A call of the pipeline; final latents."""
        rows, stages = len(self.prompts), self.stages
        options = {"num_inference_steps": stages.steps} | start
        return self.pipe(
            self.prompts, height=flow.height, width=flow.width, guidance_scale=guidance,
            negative_prompt=[""] * rows if stages.true_cfg > 1 else None, true_cfg_scale=stages.true_cfg,
            max_sequence_length=stages.text_tokens, output_type="latent",
            generator=[torch.Generator().manual_seed(self.seed + i) for i in range(rows)], **options,
        ).images  # fmt: skip
