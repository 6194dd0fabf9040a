"""CLEAR's distillation: a student that sees discs learns what its own dense self predicts.

    L = L_fm + 0.5 L_pred + 0.5 L_attn
    L_fm    mean (student - (e - x_0))^2          at x_t = (1 - t) x_0 + t e, t uniform
    L_pred  mean (student - teacher)^2
    L_attn  mean over chosen single-stream layers of mean (student's attention output - teacher's)^2, heads
            concatenated, before the block's output projection, text included

The teacher is the same model with the attachment switched off: there are no second weights. Trained are terms beside
to_q, to_k, to_v and to_out of the image's stream at every site, and pooling weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.mechanism import PlanItem, System
from saccade.core.site import Site
from saccade.mechanisms.low_rank import LowRank
from saccade.papers.clear.pooled_keys import PoolingWeights

PATHS = ("to_q", "to_k", "to_v", "to_out.0")  # of the image's stream; single-stream blocks have no to_out
GUIDANCE = 3.5  # of the embedding of guidance-distilled models
HALF = 0.5  # weight of L_pred, and of L_attn
Draw = Callable[[np.random.Generator], dict[str, Tensor]]


@dataclass(eq=False, kw_only=True)
class Student:
    """A system that can be switched off between forwards, and what it adds to projections."""

    system: System
    adapter: LowRank
    on: bool = True

    @property
    def name(self) -> str:
        return "student"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        """What the system wants and the adapter; nothing while it is off."""
        items = self.system.plan(site, clock) if self.on else ()
        return (*items, self.adapter) if items else ()


class DistillationLoss(nn.Module):
    """The three losses of a batch; `student` must be attached to `transformer` meanwhile.

    Its weights are those that are trained. `watched`: the attention modules of L_attn.
    """

    def __init__(
        self, transformer: Any, student: Student, watched: Sequence[nn.Module], pooling: PoolingWeights | None = None
    ) -> None:
        super().__init__()
        self.adapter, self.pooling = student.adapter, pooling
        self._frozen = transformer, student, tuple(watched)  # a tuple: no submodules

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        transformer, student, watched = self._frozen
        inputs = host_inputs(transformer, batch)
        with torch.no_grad():
            wanted, theirs = _predict(transformer, student, watched, inputs, on=False)
        found, ours = _predict(transformer, student, watched, inputs, on=True)
        _check_reached(ours)
        flow = (found - (batch["noise"] - batch["latents"])).square().mean()
        prediction = (found - wanted).square().mean()
        attention = torch.stack([(a - b).square().mean() for a, b in zip(ours, theirs, strict=True)]).mean()
        loss = flow + HALF * prediction + HALF * attention
        return {"loss": loss, "flow": flow, "prediction": prediction, "attention": attention}


class DistillationTask:
    """A `Task`: `draw` gives latents, noise, positions and embedded captions; times are uniform.

    settings   what decides the result beside the model and the data
    """

    shared = ("img_ids", "txt_ids")

    def __init__(self, module: DistillationLoss, draw: Draw, settings: Mapping[str, Any]) -> None:
        self.module, self.draw, self.settings = module, draw, settings

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        drawn = self.draw(rng)
        return drawn | {"t": torch.from_numpy(rng.random(len(drawn["latents"]), dtype=np.float32))}

    def uses_muon(self, name: str) -> bool:
        return name.startswith("adapter.")

    def sheet(self) -> None:
        return None


def single_stream(sites: Sequence[Site], every: int) -> list[Site]:
    """The single-stream sites whose number among all sites is a multiple of `every`; 4 chooses 10 of FLUX.1's 57.

    Raises ValueError where there are none.
    """
    single = [site for site in sites if site.name.startswith("single_")]
    found = [site for site in single if site.index % every == 0]
    if not found:
        raise ValueError(
            f"every={every} chooses none of {len(single)} single-stream layers among {len(sites)}; give every=1"
        )
    return found


def host_inputs(transformer: Any, batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of FLUX's forward for a batch of latents on their way to noise."""
    t = batch["t"][:, None, None]
    guided = getattr(transformer.config, "guidance_embeds", False)
    return {
        "hidden_states": (1 - t) * batch["latents"] + t * batch["noise"],
        "timestep": batch["t"],
        "encoder_hidden_states": batch["words"],
        "pooled_projections": batch["pooled"],
        "img_ids": batch["img_ids"],
        "txt_ids": batch["txt_ids"],
        "guidance": torch.full_like(batch["t"], GUIDANCE) if guided else None,
        "joint_attention_kwargs": {"attention_mask": batch["pads"]} if "pads" in batch else None,
        "return_dict": False,
    }


@contextmanager
def attention_outputs(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What these modules return within the block, in order; nothing of what runs again in backward, later."""
    found: list[Tensor] = []

    def listen(module: nn.Module, args: Any, out: Tensor) -> None:
        found.append(out)

    handles = [module.register_forward_hook(listen) for module in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _predict(
    transformer: Any, student: Student, watched: Sequence[nn.Module], inputs: Mapping[str, Any], *, on: bool
) -> tuple[Tensor, list[Tensor]]:
    student.on = on
    with attention_outputs(watched) as found:
        velocity = transformer(**inputs)[0]
    return velocity.float(), [out.float() for out in found]


def _check_reached(outputs: Sequence[Tensor]) -> None:
    if torch.is_grad_enabled() and not all(out.requires_grad for out in outputs):
        raise StateError(
            "attention outputs of the student carry no gradient, as under reentrant checkpointing; "
            "checkpoint with use_reentrant=False, and leave the adapter trainable"
        )
