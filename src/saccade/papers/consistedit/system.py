"""Edit by words while shape or surroundings stay: operands of a source picture shared with a target's (ConsistEdit)."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.checks import check_numbers
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import Site, Where, at
from saccade.core.state import Tape
from saccade.mechanisms.operand_tape import Align, taped
from saccade.mechanisms.shared_operands import OPERANDS, SharedOperands, Weight

Map = Float[Tensor, "*s h w"] | Bool[Tensor, "*s h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """A region with a strength of its own.

    mask      where to edit, in [0, 1]: (h w), video (t h w), or for each sample (s t h w)
    strength  share of the steps in which it keeps its structure
    Raises ValueError for options out of range.
    """

    mask: Map
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_strength(self.strength)
        low, high = float(self.mask.min()), float(self.mask.max())
        if self.mask.ndim not in (2, 3, 4) or not (0 <= low <= high <= 1):
            raise ValueError(
                f"mask {tuple(self.mask.shape)} in [{low:g}, {high:g}] must be (h w), (t h w) or (s t h w) in [0, 1]"
            )

    @cached_property
    def whole(self) -> Float[Tensor, "s t h w"]:
        """The mask with all its dimensions."""
        return self.mask.float()[(None,) * (4 - self.mask.ndim)]


@dataclass(frozen=True, kw_only=True)
class ConsistEdit:
    """Target rows share q, k and v of source rows: structure for a share of the steps, what is kept for all of them.

    strength   share of the steps, from the noisy end, in which the edited region keeps the source's structure: 1 to
               change colour or material, about 0.3 to change the object
    mask       where to edit, on the grid of image tokens: (h w), video (t h w), by sample (s t h w); None: everywhere
    regions    several masks with a strength each, instead of mask and strength
    structure  operands taken from the source within the edited region in those first steps, "" for none
    kept       operands taken from the source outside of it at every step, "" for none
    tokens     "vision", or "all" to take the text's operands along with the structure
    tape       operands of source rows recorded in another pass (`OperandRecorder`): they replace those of the source
               rows, or stand for source rows that are not in the batch
    taped      which operands are read from the tape
    align      "sigma" reads the tape at the step's own noise level, "official" one level cleaner
    where      sites, share of depth and of the steps; by default the model's last stack of blocks, as FLUX's
               single-stream ones; cross-attention is never touched
    Attach with rows=Rows.of("source", "target", samples=n) for a batch of n source and then n target prompts.
    Raises ValueError for options out of range.
    """

    strength: float = 1.0
    mask: Map | None = None
    regions: tuple[Region, ...] = ()
    structure: str = "qk"
    kept: str = "qkv"
    tokens: Literal["vision", "all"] = "vision"
    tape: Tape | None = None
    taped: str = "qkv"
    align: Align = "sigma"
    where: Where = at(stage="last")

    def __post_init__(self) -> None:
        check_strength(self.strength)
        for name in ("structure", "kept", "taped"):
            if set(getattr(self, name)) - set(OPERANDS):
                raise ValueError(f"{name}='{getattr(self, name)}' must be letters of 'qkv'")
        if self.mask is not None and self.regions:
            raise ValueError("mask and regions both say where to edit; give one of them, the strength in each region")
        if self.tokens not in ("vision", "all"):
            raise ValueError(f"tokens='{self.tokens}' must be 'vision' or 'all'")
        if self.align not in ("sigma", "official"):
            raise ValueError(f"align='{self.align}' must be 'sigma' or 'official'")
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} belongs to attach(where=...), which leaves heads alone")
        if len({region.whole.shape for region in self._regions}) > 1:
            raise ValueError("the masks of regions differ in shape; make all on the same grid of image tokens")

    @property
    def name(self) -> str:
        return "consistedit"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        shared = self._phase(tuple(clock.step < int(s * clock.num_steps) for s in self._strengths))
        if self.tape is None:
            return (shared,) if shared.weights else ()
        found = taped(self.tape, site, clock, self.align)
        return (replace(shared, taped={name: found[name] for name in self.taped if name in found}),)

    @cached_property
    def _regions(self) -> tuple[Region, ...]:
        return self.regions if self.mask is None else (Region(mask=self.mask, strength=self.strength),)

    @property
    def _strengths(self) -> tuple[float, ...]:
        return tuple(region.strength for region in self._regions) or (self.strength,)

    @cached_property
    def _phases(self) -> dict[tuple[bool, ...], SharedOperands]:
        return {}

    def _phase(self, early: tuple[bool, ...]) -> SharedOperands:
        """What holds while some regions still keep their structure: the same object each time."""
        if early not in self._phases:
            weights = {name: self._weight(name, early) for name in OPERANDS}
            text = tuple(self.structure) if self.tokens == "all" and any(early) else ()
            self._phases[early] = SharedOperands(weights={n: w for n, w in weights.items() if _some(w)}, text=text)
        return self._phases[early]

    def _weight(self, name: str, early: tuple[bool, ...]) -> Weight:
        """How much of the source's operand each place takes: what is kept, and what still keeps its structure."""
        if not self._regions:
            return float(early[0] and name in self.structure)
        masks = torch.stack([region.whole for region in self._regions])
        held = [place for place, e in zip(masks, early, strict=True) if e and name in self.structure]
        kept = 1 - masks.sum(0).clamp(max=1) if name in self.kept else torch.zeros_like(masks[0])
        return sum(held, start=kept).clamp(max=1)


def check_strength(strength: float) -> None:
    """ValueError unless it is a share of the steps."""
    check_numbers(strength=strength)
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength} must be in [0, 1], a share of the steps")


def _some(weight: Weight) -> bool:
    return bool(weight.any()) if isinstance(weight, Tensor) else weight > 0
