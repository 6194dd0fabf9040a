"""Keys of some layers at other positions: how much does what is drawn hang on positions there?

with attach(pipe, MovedKeys(shift=(0, 10, 10), where=at("transformer_blocks.3.attn"))):
    pipe("a red circle")
"""

from dataclasses import dataclass
from functools import cached_property

from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.mechanisms.key_positions import KeyPositions, Shift


@dataclass(frozen=True, kw_only=True)
class MovedKeys:
    """Rotate keys by other positions than queries.

    shift    (t, y, x) added to the position ids of image keys; None leaves all keys unrotated
    of_grid  the shift is in shares of the grid's sides, taken as whole places, at least one
    text     shift the text's keys too, where text has positions
    where    sites and share of the steps; cross-attention is never touched
    """

    shift: Shift | None = None
    of_grid: bool = False
    text: bool = False
    where: Where = EVERYWHERE

    @property
    def name(self) -> str:
        return "moved_keys"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        still = self.shift is not None and not any(self.shift)
        if still or site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        return (self._moved,)

    @cached_property
    def _moved(self) -> KeyPositions:
        return KeyPositions(shift=self.shift, of_grid=self.of_grid, text=self.text)
