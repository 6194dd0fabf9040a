"""Tune the LoRA on pictures of the size a model knows: the loss of the picture beside its own clean small copy.

x_t = (1 - t) x_0 + t e,    loss = mean |v(x_t, t | copy) - (e - x_0)|^2 over the picture's tokens alone
logit(t) ~ N(0, 1)
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attach import attach
from saccade.papers.scale_dit.anchor_layout import anchored
from saccade.papers.scale_dit.low_stream import LowStream, LowTokens
from saccade.papers.scale_dit.system import ScaleDiT
from saccade.pipelines.flow import Flow

CLIP = 0.1  # norm of the gradients


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """A batch: clean latents (b n c), their copy, the text's embeddings, and the time and noise that were drawn.

    low   None for a picture without a copy, on which LoRA is off
    text  `encoder_hidden_states`, `pooled_projections`, and `guidance` (b) of ones for a guidance-distilled model
    ids   places (n 3) of the picture's tokens
    """

    latents: Float[Tensor, "b n c"]
    low: LowTokens | None
    text: Mapping[str, Tensor]
    ids: Float[Tensor, "n 3"]
    t: Float[Tensor, " b"]
    noise: Float[Tensor, "b n c"] = field(repr=False)


def flow_loss(stream: LowStream, example: Example) -> Float[Tensor, ""]:
    """Of the picture's tokens, the copy being given clean; the model's attention is as attached.

    With gradient checkpointing call backward inside `stream.holding(example.low)` of your own.
    """
    t = example.t[:, None, None]
    noised = (1 - t) * example.latents + t * example.noise
    words = example.text["encoder_hidden_states"]
    given = dict(
        hidden_states=noised, timestep=example.t, img_ids=example.ids, txt_ids=words.new_zeros(words.shape[1], 3),
        return_dict=False, **example.text,
    )  # fmt: skip
    with stream.holding(example.low):
        velocity = stream.transformer(**given)[0]
    return (velocity.float() - (example.noise - example.latents)).square().mean()


def tune(
    stream: LowStream,
    system: ScaleDiT | None,
    parameters: Iterable[nn.Parameter],
    examples: Iterable[Example],
    *,
    lr: float = 1e-3,
) -> Iterator[float]:
    """One step of AdamW an example, gradients clipped; gives the loss of each. All examples are of one size.

    system  the mask to train under, None for dense; the paper's is `ScaleDiT.training()`
    Raises ValueError for a picture without a copy where LoRA is off without one.
    """
    tuned = [*parameters]
    optimiser = torch.optim.AdamW(tuned, lr=lr, weight_decay=0.01)
    for example in examples:
        if example.low is None and not stream.lora_alone:
            raise ValueError("low=None leaves LoRA off; give the copy, or LowStream(..., lora_alone=True)")
        high = tuple((example.ids[:, 1:].amax(0) + 1).long().tolist())
        words = example.text["encoder_hidden_states"].shape[1]
        layout = anchored(text=words, high=high, low=None if example.low is None else example.low.low)
        systems = () if system is None else (system,)
        with stream.holding(example.low), attach(stream.transformer, *systems, layout=layout):
            loss = flow_loss(stream, example)
            loss.backward()
        nn.utils.clip_grad_norm_(tuned, CLIP)
        optimiser.step()
        optimiser.zero_grad()
        yield loss.item()


def logit_normal(n: int, rng: np.random.Generator) -> Float[Tensor, " n"]:
    """Times in (0, 1)."""
    return torch.from_numpy(rng.standard_normal(n)).float().sigmoid()


def shrunk(pictures: Float[np.ndarray, "b h w 3"], ratio: int) -> Float[np.ndarray, "b H W 3"]:
    """Pictures in [0, 1] at a `ratio`-th of their sides, by bicubic interpolation without aliasing.

    Raises ValueError where the sides are no multiples.
    """
    height, width = pictures.shape[1:3]
    if ratio < 1 or height % ratio or width % ratio:
        raise ValueError(f"pictures of {height} x {width} pixels cannot be shrunk by ratio={ratio}; crop them first")
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, size=(height // ratio, width // ratio), mode="bicubic", antialias=True)
    return x.clamp(0, 1).permute(0, 2, 3, 1).numpy()


def encoded(
    pipe: Any, pictures: Float[np.ndarray, "b h w 3"], ratio: int, scaled: bool = True
) -> tuple[Tensor, LowTokens]:
    """Packed latents of pictures in [0, 1], and of their copies at a `ratio`-th."""
    small = shrunk(pictures, ratio)
    high, low = (Flow(pipe=pipe, height=p.shape[1], width=p.shape[2]) for p in (pictures, small))
    return high.encode(pictures), LowTokens(tokens=low.encode(small), low=low.grid, high=high.grid, scaled=scaled)
