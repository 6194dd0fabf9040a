"""What another reference picture changes in an entity's region: a random FLUX with three references, one forward."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.experiments import Row
from saccade.mechanisms.canvas import Box
from saccade.papers.lamic.groups import Entity
from saccade.papers.lamic.system import Lamic

REFERENCES = 3
WORDS, SHARED, PADDING = 4, 4, 12  # text tokens of each entity, of the interaction, and of nobody
SIDE, SHOWN = 12, 6  # tokens along a side of the picture and of a reference
TIMES = (1000.0, 500.0)  # steps of the two stages
UNMASKED, SECOND, FIRST, CLOSED = "no masks", "stage 2", "stage 1", "stage 1 without hubs"


@dataclass(frozen=True, kw_only=True, eq=False)
class Forward:
    """A model of random weights, four blocks deep, and its inputs."""

    seed: int
    model: nn.Module = field(init=False)
    inputs: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

        torch.manual_seed(self.seed)
        model = FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16,
            num_attention_heads=4, joint_attention_dim=64, pooled_projection_dim=64, axes_dims_rope=(4, 6, 6),
        )  # fmt: skip
        text = REFERENCES * WORDS + SHARED + PADDING
        ids = torch.cat([_ids(0, SIDE), *(_ids(1, SHOWN) for _ in range(REFERENCES))])
        object.__setattr__(self, "model", model.double().eval())
        object.__setattr__(self, "inputs", {
            "hidden_states": torch.randn(1, len(ids), 16).double(), "img_ids": ids,
            "encoder_hidden_states": torch.randn(1, text, 64).double(), "txt_ids": torch.zeros(text, 3),
            "pooled_projections": torch.randn(1, 64).double(), "return_dict": False,
        })  # fmt: skip

    def rows(self) -> Iterator[Row]:
        """A row for each arm: the largest change in the first entity's region when the second reference is another."""
        for arm, (systems, time, text) in arms().items():
            before, after = (self._region(x, systems, time, text) for x in (None, self.seed + 1))
            yield {"arm": arm, "change": float((before - after).abs().max())}

    @torch.no_grad()
    def _region(self, other: int | None, systems: tuple[System, ...], time: float, text: int) -> Float[Tensor, "n c"]:
        """Of the first entity, the second reference drawn anew from the seed `other`, with so many text tokens."""
        latents = self.inputs["hidden_states"].clone()
        if other is not None:
            start, stop = SIDE**2 + SHOWN**2, SIDE**2 + 2 * SHOWN**2
            latents[:, start:stop] = torch.randn(1, SHOWN**2, 16, generator=torch.Generator().manual_seed(other))
        given = {**self.inputs, "hidden_states": latents, "timestep": torch.full((1,), time / 1000).double()}
        given |= {"encoder_hidden_states": given["encoder_hidden_states"][:, :text], "txt_ids": given["txt_ids"][:text]}
        with attach(self.model, *systems, schedule=TIMES):
            out = self.model(**given)[0][0, : SIDE**2]
        return out[torch.arange(SIDE**2) % SIDE < SIDE // REFERENCES]


def arms() -> dict[str, tuple[tuple[System, ...], float, int]]:
    """Systems, timestep and text tokens of each arm: hubs are the interaction and the padding."""
    words = REFERENCES * WORDS
    whole, hubs = words + SHARED + PADDING, tuple(range(words, words + SHARED))
    full, bare = (Lamic(entities=entities(), interaction=shared, first_stage=0.5) for shared in (hubs, ()))
    return {
        UNMASKED: ((), TIMES[0], whole),
        SECOND: ((full,), TIMES[1], whole),
        FIRST: ((full,), TIMES[0], whole),
        CLOSED: ((bare,), TIMES[0], words),
    }


def entities() -> tuple[Entity, ...]:
    """Side by side, each with a third of the picture."""
    return tuple(
        Entity(
            words=tuple(range(WORDS * i, WORDS * (i + 1))),
            region=Box(x0=i / REFERENCES, y0=0, x1=(i + 1) / REFERENCES, y1=1),
            reference=f"reference{i + 1}",
        )
        for i in range(REFERENCES)
    )


def _ids(number: int, side: int) -> Float[Tensor, "n 3"]:
    return torch.cartesian_prod(torch.tensor([number]), torch.arange(side), torch.arange(side)).float()
