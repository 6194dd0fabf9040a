"""What CLEAR without distillation does to the model in the box: losses at fixed noise, and pictures drawn with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attach import attach
from saccade.cli.clear_arms import DENSE, Arm
from saccade.core.layout import Layout
from saccade.data.scenes import describe, judge, prompts
from saccade.metrics import Interval, fidelity, paired_difference, share

TEXT = 32  # tokens to which captions are padded
PIXELS = 8  # per image token, along a side
SEED = 11
CALL_TOKENS = 2048  # image tokens of one forward

Say = Callable[[str], None]


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


def losses(pipe: Any, grid: int, arms: Sequence[Arm], *, pictures: int, say: Say) -> list[dict[str, Any]]:
    """Per arm: flow-matching loss and teacher MSE on the same pictures, times and noise, and the share of pairs."""
    data = noised(pipe, grid, pictures)
    layout = Layout.joint(text=TEXT, grid=(1, grid, grid))
    rows, dense = [], velocity(pipe, data)
    power = dense.square().mean().item()
    for arm in arms:
        say(f"losses at {grid} x {grid}: {arm.label}")
        v = dense if arm.system is None else velocity(pipe, data, arm)
        flow, teacher = (x.square().mean((1, 2)) for x in (v - data.target, v - dense))
        plain = (dense - data.target).square().mean((1, 2))
        rows.append(
            _told(arm, layout)
            | {
                "flow_loss": flow.mean().item(),
                "teacher_mse": teacher.mean().item(),
                "relative_teacher_mse": teacher.mean().item() / power,
                "extra_loss": _interval(paired_difference(flow.tolist(), plain.tolist())),
            }
        )
    return rows


def samples(pipe: Any, grid: int, arms: Sequence[Arm], *, captions: int, steps: int, say: Say) -> list[dict[str, Any]]:
    """Per arm: fidelity to the dense pictures of the same noise, and how many keep what their captions promise."""
    from saccade.train.sampling import draw

    wanted = prompts(captions, seed=SEED, count=1, split="held-out")
    layout, rows, dense = Layout.joint(text=TEXT, grid=(1, grid, grid)), [], None
    for arm in (DENSE, *(a for a in arms if a.system is not None)):
        say(f"pictures at {grid} x {grid}: {arm.label}")
        with attach(pipe, *arm.systems):
            made = draw(pipe, [p.text for p in wanted], steps=steps, side=PIXELS * grid, seed=SEED, text_tokens=TEXT)
        dense = made if dense is None else dense
        verdicts = [judge(image, prompt) for image, prompt in zip(made, wanted, strict=True)]
        kept = share([bool(v.all) for v in verdicts])
        kept = {"kept": _interval(kept), "attributes": _attributes(verdicts)}
        rows.append(_told(arm, layout) | _fidelity(made, dense) | kept)
    return rows


@torch.no_grad()
def noised(pipe: Any, grid: int, pictures: int) -> Noised:
    """`pictures` held-out scenes with their captions, at times spread evenly over (0, 1)."""
    from saccade.train.latent_cache import encode
    from saccade.train.pictures import scenes

    drawn = scenes(pictures, seed=SEED, counts=(1, 2, 3), split="held-out")
    latents = torch.from_numpy(encode(pipe.vae, drawn, PIXELS * grid)).float()
    texts = [describe(scene, np.random.default_rng([SEED, i])).text for i, scene in enumerate(drawn)]
    words, pooled, _ = pipe.encode_prompt(prompt=texts, prompt_2=None, max_sequence_length=TEXT)
    return Noised(
        latents=latents,
        noise=torch.randn(latents.shape, generator=torch.Generator().manual_seed(SEED)),
        t=(torch.arange(pictures) + 0.5) / pictures,
        text={"encoder_hidden_states": words.float(), "pooled_projections": pooled.float()},
        ids=pipe._prepare_latent_image_ids(1, grid, grid, torch.device("cpu"), torch.float32),
    )


@torch.no_grad()
def velocity(pipe: Any, data: Noised, arm: Arm = DENSE) -> Float[Tensor, "b n c"]:
    """What the transformer says, under an arm's attention."""
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


def _interval(found: Interval) -> dict[str, float | None]:
    """Middle and 95 % interval, None where there is none."""
    return {name: x if isfinite(x := getattr(found, name)) else None for name in ("mid", "low", "high")}


def _fidelity(made: np.ndarray, dense: np.ndarray) -> dict[str, float | None]:
    if made is dense:
        return {"psnr": None, "ssim": 1.0}
    scores = [fidelity(a[None] / 255, b[None] / 255) for a, b in zip(made, dense, strict=True)]
    psnr = [s.psnr for s in scores if isfinite(s.psnr)]
    return {"psnr": float(np.mean(psnr)) if psnr else None, "ssim": float(np.mean([s.ssim for s in scores]))}


def _attributes(verdicts: Sequence[Any]) -> dict[str, float]:
    from saccade.data.scenes import rates

    return {name: float(rate) for name, rate in rates(verdicts).items() if isfinite(rate)}


def _told(arm: Arm, layout: Layout) -> dict[str, Any]:
    return {
        "arm": arm.label,
        "family": arm.family,
        "reach": arm.reach,
        "scaled": arm.scaled,
        "pairs": arm.share(layout),
    }
