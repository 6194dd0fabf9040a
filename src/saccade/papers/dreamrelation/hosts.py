"""How each host is trained: a batch's latents on their way to noise, what the model says of them, and what it should.

    z_s = (1 - s) z + s e     Mochi predicts z - e at timestep 1000 (1 - s), the others e - z at 1000 s

CogVideoX, a diffusion model, is at the timestep of its scheduler that is the share s of all, and predicts a velocity.
The sign changes neither loss. Batches hold `latents` and `noise` (b c f h w), of pictures (b c h w), `sigma` (b), and
of the text `words` (b n c), `words_mask` (b n) and `pooled` (b c) where the host takes them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
Predict = Callable[[Batch], tuple[Tensor, Tensor]]  # what is predicted, and its target
TIMES = 1000


@dataclass(frozen=True, kw_only=True)
class Convention:
    """Of a flow model: arguments of the text by the batch's names, and how it reads time.

    scale      timesteps of pure noise; FLUX multiplies by itself
    to_clean   whether it predicts z - e, at timesteps that grow as noise falls
    packed     whether it takes 2 x 2 latents as one token
    """

    text: Mapping[str, str]
    scale: float = TIMES
    to_clean: bool = False
    packed: bool = False


WORDS = {"encoder_hidden_states": "words"}
MASKED = WORDS | {"encoder_attention_mask": "words_mask"}
POOLED = {"pooled_projections": "pooled"}
FLOWS: Mapping[str, Convention] = {
    "MochiTransformer3DModel": Convention(text=MASKED, to_clean=True),
    "WanTransformer3DModel": Convention(text=WORDS),
    "HunyuanVideoTransformer3DModel": Convention(text=MASKED | POOLED),
    "SD3Transformer2DModel": Convention(text=WORDS | POOLED),
    "FluxTransformer2DModel": Convention(text=WORDS | POOLED, scale=1, packed=True),
}
COG = "CogVideoXTransformer3DModel"


def predictor(model: nn.Module, *, scheduler: Any = None, **more: Any) -> Predict:
    """A function of batches for a transformer of one of these classes.

    scheduler  of CogVideoX, whose alphas the noise is of
    more       arguments of every forward, such as `guidance` or `image_rotary_emb`
    Raises ValueError for another class, and for CogVideoX without a scheduler.
    """
    name = type(model).__name__
    if name in FLOWS:
        said = FLOWS[name]
        return lambda batch: _flow(model, said, batch, more)
    if name != COG:
        raise ValueError(f"model={name} is none of {', '.join((*FLOWS, COG))}; give a predict= of your own")
    if scheduler is None:
        raise ValueError(f"scheduler=None says nothing of the noise of a {COG}; give scheduler=pipe.scheduler")
    alphas = scheduler.alphas_cumprod
    return lambda batch: _diffusion(model, alphas, batch, more)


def noised(batch: Batch) -> Tensor:
    """z_s of a batch."""
    sigma = _spread(batch["sigma"], batch["latents"])
    return (1 - sigma) * batch["latents"] + sigma * batch["noise"]


def _flow(model: Any, said: Convention, batch: Batch, more: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    z, sigma = noised(batch).to(model.dtype), batch["sigma"]
    given = {name: batch[key] for name, key in said.text.items() if key in batch}
    if said.packed:
        given |= _places(z, given["encoder_hidden_states"])
    out = model(
        hidden_states=_packed(z) if said.packed else z,
        timestep=said.scale * (1 - sigma if said.to_clean else sigma),
        return_dict=False, **given, **more,
    )[0]  # fmt: skip
    predicted = (_unpacked(out, z.shape) if said.packed else out).float()
    velocity = batch["noise"] - batch["latents"]
    return predicted, -velocity if said.to_clean else velocity


def _diffusion(model: Any, alphas: Tensor, batch: Batch, more: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    time = (batch["sigma"] * len(alphas)).long().clamp(max=len(alphas) - 1)
    alpha = _spread(alphas.to(batch["sigma"])[time], batch["latents"])
    signal, noise = alpha.sqrt(), (1 - alpha).sqrt()
    z = (signal * batch["latents"] + noise * batch["noise"]).to(model.dtype).transpose(1, 2)
    out = model(hidden_states=z, encoder_hidden_states=batch["words"], timestep=time, return_dict=False, **more)[0]
    return out.float().transpose(1, 2), signal * batch["noise"] - noise * batch["latents"]


def _spread(values: Float[Tensor, " b"], like: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (like.ndim - 1))


def _packed(z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n k"]:
    """(b c 2y 2x) -> (b y*x 4c), as FLUX takes them."""
    return z.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _unpacked(tokens: Float[Tensor, "b n k"], shape: torch.Size) -> Float[Tensor, "b c h w"]:
    _, channels, height, width = shape
    apart = tokens.unflatten(2, (channels, 2, 2)).unflatten(1, (height // 2, width // 2))
    return apart.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def _places(z: Tensor, words: Tensor) -> dict[str, Tensor]:
    rows, columns = z.shape[2] // 2, z.shape[3] // 2
    grid = torch.cartesian_prod(torch.zeros(1), torch.arange(rows).float(), torch.arange(columns).float())
    return {"img_ids": grid.to(z), "txt_ids": words.new_zeros(words.shape[1], 3)}
