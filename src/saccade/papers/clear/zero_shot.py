"""What CLEAR does to the bundled model: losses at fixed noise, and pictures generated with it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.data.scenes import describe, judge, prompts, rates
from saccade.experiments import Row
from saccade.metrics import Interval, fidelity, paired_difference, share
from saccade.papers.clear.arms import DENSE, TEXT, AttentionArm

PIXELS = 8  # per image token, along a side
SEED = 11
CALL_TOKENS = 2048  # image tokens of one forward
ATTRIBUTES = ("colour", "shape")  # whose rates are shown


@dataclass(frozen=True, eq=False, kw_only=True)
class Noised:
    """Pictures of held-out scenes on their way to noise: x_t = (1 - t) x_0 + t e."""

    latents: Float[Tensor, "b n c"]
    noise: Float[Tensor, "b n c"]
    t: Float[Tensor, " b"]
    text: dict[str, Tensor]
    ids: Float[Tensor, "n 3"]

    @property
    def target(self) -> Float[Tensor, "b n c"]:
        """The velocity that flow matching wants."""
        return self.noise - self.latents


def losses(pipe: Any, grid: int, arms: Iterable[AttentionArm], *, pictures: int) -> Iterable[Row]:
    """Per arm: flow-matching loss and teacher MSE on the same pictures, times and noise, and the share of pairs."""
    data, weights = noised(pipe, grid, pictures), digest(pipe.transformer)
    dense = velocity(pipe, data)
    power = dense.square().mean().item()
    for arm in arms:
        v = dense if arm.system is None else velocity(pipe, data, arm)
        flow, teacher = (x.square().mean((1, 2)) for x in (v - data.target, v - dense))
        plain = (dense - data.target).square().mean((1, 2))
        yield _about(arm, grid) | {
            "flow_loss": flow.mean().item(),
            "teacher_mse": teacher.mean().item(),
            "relative": teacher.mean().item() / power,
            **interval("extra", paired_difference(flow.tolist(), plain.tolist())),
            "weights": weights,
        }


def samples(pipe: Any, grid: int, arms: Iterable[AttentionArm], *, captions: int, steps: int) -> Iterable[Row]:
    """Per arm: fidelity to the first arm's pictures of the same noise, and how many keep what captions promise."""
    from saccade.train.sampling import draw

    wanted = prompts(captions, seed=SEED, count=1, split="held-out")
    weights, first = digest(pipe.transformer), None
    for arm in arms:
        with attach(pipe, *arm.systems):
            made = draw(pipe, [p.text for p in wanted], steps=steps, side=PIXELS * grid, seed=SEED, text_tokens=TEXT)
        first = made if first is None else first
        verdicts = [judge(image, prompt) for image, prompt in zip(made, wanted, strict=True)]
        kept = interval("kept", share([bool(v.all) for v in verdicts]))
        yield _about(arm, grid) | _fidelity(made, first) | kept | _attributes(verdicts) | {"weights": weights}


@torch.no_grad()
def noised(pipe: Any, grid: int, pictures: int) -> Noised:
    """`pictures` held-out scenes with their captions, at times spread evenly over (0, 1)."""
    from saccade.train.latent_cache import encode
    from saccade.train.pictures import scenes

    sampled = scenes(pictures, seed=SEED, counts=(1, 2, 3), split="held-out")
    latents = torch.from_numpy(encode(pipe.vae, sampled, PIXELS * grid)).float()
    texts = [describe(scene, np.random.default_rng([SEED, i])).text for i, scene in enumerate(sampled)]
    words, pooled, _ = pipe.encode_prompt(prompt=texts, prompt_2=None, max_sequence_length=TEXT)
    return Noised(
        latents=latents,
        noise=torch.randn(latents.shape, generator=torch.Generator().manual_seed(SEED)),
        t=(torch.arange(pictures) + 0.5) / pictures,
        text={"encoder_hidden_states": words.float(), "pooled_projections": pooled.float()},
        ids=pipe._prepare_latent_image_ids(1, grid, grid, torch.device("cpu"), torch.float32),
    )


@torch.no_grad()
def velocity(pipe: Any, data: Noised, arm: AttentionArm = DENSE) -> Float[Tensor, "b n c"]:
    """The transformer's output under an arm's attention."""
    t = data.t[:, None, None]
    x = (1 - t) * data.latents + t * data.noise
    size = max(CALL_TOKENS // x.shape[1], 1)
    with attach(pipe.transformer, *arm.systems):
        parts = [
            pipe.transformer(
                hidden_states=x[rows], timestep=data.t[rows], img_ids=data.ids, txt_ids=torch.zeros(TEXT, 3),
                return_dict=False, **{name: value[rows] for name, value in data.text.items()},
            )[0]
            for rows in torch.arange(len(x)).split(size)
        ]  # fmt: skip
    return torch.cat(parts)


def digest(model: nn.Module) -> str:
    """Twelve hexadecimal digits of a model's weights, so that figures say what they were measured on."""
    found = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def _about(arm: AttentionArm, grid: int) -> Row:
    layout = Layout.joint(text=TEXT, grid=(1, grid, grid))
    pairs = arm.share(layout)
    return {"grid": grid, "arm": arm.label, "family": arm.family, "scaled": arm.scaled, "pairs": pairs}


def interval(name: str, found: Interval) -> Row:
    """Middle and 95 % interval, None where there is none."""
    ends = {name: found.mid, f"{name}_low": found.low, f"{name}_high": found.high}
    return {key: x if isfinite(x) else None for key, x in ends.items()}


def _fidelity(made: np.ndarray, first: np.ndarray) -> Row:
    if made is first:
        return {"psnr": None, "ssim": 1.0}
    scores = [fidelity(a[None] / 255, b[None] / 255) for a, b in zip(made, first, strict=True)]
    psnr = [s.psnr for s in scores if isfinite(s.psnr)]
    return {"psnr": float(np.mean(psnr)) if psnr else None, "ssim": float(np.mean([s.ssim for s in scores]))}


def _attributes(verdicts: Sequence[Any]) -> Row:
    found = rates(verdicts)
    return {name: found[name] if isfinite(found[name]) else None for name in ATTRIBUTES}
