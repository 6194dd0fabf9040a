"""What is handed on to the blocks of one forward that carries a layout, and what must fit before it does."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from saccade.core.checks import check_numbers
from saccade.papers.siamlayout.adapter import LayoutAdapter
from saccade.papers.siamlayout.attention import Rotary
from saccade.papers.siamlayout.boxes import LayoutBatch
from saccade.papers.siamlayout.config import AdapterConfig

KEY = "saccade_layout"  # among the arguments that a model hands on to its blocks
HOST_ARGUMENTS = "joint_attention_kwargs"


@dataclass(frozen=True, kw_only=True, eq=False)
class Carried:
    """What the blocks of one forward must know: how many layout tokens there are, and which of them are keys."""

    n: int
    keep: Bool[Tensor, "b m"] | None
    place: Rotary | None

    def rotary(self, host: Rotary | None, text: int, *, image: bool = True) -> Rotary | None:
        """Tables of the image's tokens, of the host's own for text and image, and then of the layout's."""
        if host is None or self.place is None:
            return host
        cos, sin = (
            torch.cat((own[text if image else 0 :], place.expand(self.n, -1).to(own)))
            for own, place in zip(host, self.place, strict=True)
        )
        return cos, sin


def taken(given: dict[str, Any]) -> Carried | None:
    """Take what is ours out of the arguments of a block."""
    more = given.get(HOST_ARGUMENTS)
    if more is None or KEY not in more:
        return None
    given[HOST_ARGUMENTS] = {name: value for name, value in more.items() if name != KEY}
    return more[KEY]


def argument_names(module: Any) -> tuple[str, ...]:
    """The arguments of a module's forward as its class has it, in order."""
    return tuple(inspect.signature(type(module).forward).parameters)[1:]


def check_scale(scale: float) -> None:
    """Raise ValueError for a scale that is no number from 0 on."""
    check_numbers(scale=scale)
    if not scale >= 0:
        raise ValueError(f"scale={scale} must be 0 or more; 1 is what the adapter was trained for")


def check_fit(transformer: Any, adapter: LayoutAdapter) -> None:
    """Raise ValueError for a transformer the adapter was not made for."""
    there, own = AdapterConfig.of(transformer), adapter.config
    for name in ("host", "dim", "heads", "double", "single", "text_width", "qk_norm"):
        if getattr(there, name) != getattr(own, name):
            raise ValueError(
                f"{name}={getattr(own, name)!r} of the adapter is {getattr(there, name)!r} in this "
                f"{type(transformer).__name__}; give the model it was made for"
            )


def check_rows(layout: LayoutBatch, latents: Tensor, adapter: LayoutAdapter, model: Any) -> None:
    """Raise ValueError where a batch has other rows than the layout, or the adapter is elsewhere."""
    if layout.rows not in (1, len(latents)):
        raise ValueError(
            f"the layout has {layout.rows} rows and hidden_states {len(latents)}; give one row, or as many"
        )
    own = adapter.position_net.null_text
    if (own.device, own.dtype) != (model.device, model.dtype):
        raise ValueError(
            f"the adapter is on {own.device} in {own.dtype}, the model on {model.device} in {model.dtype}; "
            "call adapter.to(transformer.device, transformer.dtype)"
        )
