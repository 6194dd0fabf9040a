"""Several scenes in one video, each by its own caption (Mask²DiT): the symmetric mask, as a system."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from saccade.core.checks import check_word
from saccade.core.clock import Clock
from saccade.core.masks import Mask
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.mask2dit.scene_mask import Along, CaptionMask, SceneMask, Scenes

Seen = Literal["dual", "block_diagonal", "none"]


@dataclass(frozen=True, kw_only=True)
class Mask2DiT:
    """Each caption and its clip see one another, clips see all clips, and nothing else is seen.

    Tokens are n captions in a row, then, or before them, n clips of one length.

    scenes       n; None for as many as the text holds captions of `text_tokens`
    text_tokens  of each caption, pads included; None for an n-th of the text, whatever its length
    along        "frames" for videos; "rows" or "columns" for the panels of a picture
    mask         "dual"; "none", the released version 5: everything is seen; "block_diagonal": clips see no other clip
    where        sites and share of the steps
    Cross-attention, where the host has it, is masked so that clip i reads caption i; self-attention beside it is left
    dense but by "block_diagonal". Masks are made for the tokens that come: ValueError then where they are no n scenes.
    Raises ValueError for options out of range.
    """

    scenes: int | None = None
    text_tokens: int | None = 226
    along: Along = "frames"
    mask: Seen = "dual"
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        for name, value in (("scenes", self.scenes), ("text_tokens", self.text_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1, or None")
        if self.scenes is None and self.text_tokens is None:
            raise ValueError("scenes=None and text_tokens=None leave the number of scenes open; give one of them")
        check_word(get_args(Along), along=self.along)
        check_word(get_args(Seen), mask=self.mask)
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; pass where= to attach instead")

    @property
    def name(self) -> str:
        return "mask2dit"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if self.mask == "none" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        if site.kind == "self" and self.mask == "dual":
            return ()
        return (self._masks[site.kind == "cross"],)

    @cached_property
    def _masks(self) -> tuple[Mask, Mask]:
        """At joint sites and at those of cross-attention."""
        scenes = Scenes(count=self.scenes, text_tokens=self.text_tokens, along=self.along)
        kind = "dual" if self.mask == "dual" else "block_diagonal"
        return SceneMask(scenes=scenes, kind=kind), CaptionMask(scenes=scenes)
