"""High-resolution pictures by local attention and a low-resolution anchor (Scale-DiT): the mask, as a system."""

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_
from typing import Literal, get_args

from saccade.core.checks import check_numbers, check_word
from saccade.core.clock import Clock
from saccade.core.masks import Mask, forbid
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.scale_dit.anchor_layout import HIGH, LOW
from saccade.papers.scale_dit.block_expanded import BlockExpanded
from saccade.papers.scale_dit.near import AnchorWindows, CrossWindows, HighBox, HighWindows, LowBox, Neighbours
from saccade.papers.scale_dit.token_orders import OrderName

Local = Literal["box", "cross", "shifted"]
TextSees = Literal["limited", "all"]
LowSees = Literal["windows", "all"]


@dataclass(frozen=True, kw_only=True)
class ScaleDiT:
    """Who sees whom in [text | image | low], the layout of `anchored`; without a segment "low", windows alone.

    text   text and image; with text="all" the low-resolution tokens too
    image  text, image tokens near by, and the low-resolution tokens of its window and those beside it
    low    low-resolution tokens near by; never the image

    window         in image tokens, at least 1. The paper: 16, which is 256 pixels
    local          "box": within window // 2 along each axis; "cross": own window and the four next to it, shifted by
                   one token; "shifted": own window, shifted by half of it at every second site
    neighbours     of a window: "row", numbers one less and one more, as released; "grid": all eight around
    text           "limited" or "all"
    low_sees_text  the released training code: yes; its sampling code: no
    low            "windows"; "all": every low-resolution token is seen, and sees all others, as in training
    expand         let whole blocks of 128 x 64 tokens pass in this order of tokens, as the released kernel does
    where          sites and share of the steps; cross-attention is never touched
    Raises ValueError for options out of range.
    """

    window: int = 16
    local: Local = "box"
    neighbours: Neighbours = "row"
    text: TextSees = "limited"
    low_sees_text: bool = False
    low: LowSees = "windows"
    expand: OrderName | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(window=self.window)
        if self.window < 1:
            raise ValueError(f"window={self.window} must be at least 1 image token; the paper has 16")
        check_word(get_args(Local), local=self.local)
        check_word(get_args(Neighbours), neighbours=self.neighbours)
        check_word(get_args(TextSees), text=self.text)
        check_word(get_args(LowSees), low=self.low)
        if self.expand is not None:
            check_word(get_args(OrderName), expand=self.expand)
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; pass where= to attach instead")

    @classmethod
    def training(cls, *, window: int = 16, local: Local = "box") -> "ScaleDiT":
        """The mask of the released training code: all low-resolution tokens seen, and text by them."""
        return cls(window=window, local=local, low="all", low_sees_text=True)

    @property
    def name(self) -> str:
        return "scale_dit"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        return (self._masks[site.index % 2],)

    def mask(self, site: int = 0) -> Mask:
        """The mask at the site of this number."""
        return self._masks[site % 2]

    @cached_property
    def _masks(self) -> tuple[Mask, Mask]:
        """At sites of even and of odd number."""
        found = [reduce(and_, (self._local(shifted), *self._others())) for shifted in (False, True)]
        if self.expand is not None:
            found = [BlockExpanded(mask, self.expand, self.window) for mask in found]
        return found[0], found[1]

    def _local(self, shifted: bool) -> Mask:
        match self.local:
            case "box":
                return HighBox(self.window)
            case "cross":
                return CrossWindows(self.window, shift=1)
            case "shifted":
                return HighWindows(self.window, shift=self.window // 2 * shifted)

    def _others(self) -> tuple[Mask, ...]:
        windows = (AnchorWindows(self.window, self.neighbours), LowBox(self.window)) if self.low == "windows" else ()
        closed = [(LOW, HIGH)]
        closed += [("text", LOW)] if self.text == "limited" else []
        closed += [] if self.low_sees_text else [(LOW, "text")]
        return (*windows, *(forbid(q, k) for q, k in closed))
