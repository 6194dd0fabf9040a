"""Draw boxes with captions by an adapter, in the first share of the steps (SiamLayout)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from saccade.core.checks import check_numbers
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.rows import Rows
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.siamlayout.adapter import LayoutAdapter
from saccade.papers.siamlayout.boxes import LayoutBatch
from saccade.papers.siamlayout.carried import check_scale
from saccade.papers.siamlayout.stream import LayoutStream

Compat = Literal["official"]


@dataclass(frozen=True, kw_only=True)
class SiamLayout:
    """Let image and layout attend to one another in each block, beside the attention of image and text.

    adapter       a `LayoutAdapter` made for the model, or the file of one
    layout        boxes and captions of each prompt, by `encode_layout`; None leaves the model as it is
    scale         on what the layout adds to the image
    until         share of the steps, from the first, in which it acts: of T steps the first int(until T)
    mask_padding  padded slots are no keys; as released they are
    compat        "official": without a layout, layout tokens of zeros act, as in the released SD3 code
    where         blocks, by their attention, and share of the steps
    Unconditional rows have no slot used. Raises ValueError for options out of range.
    """

    adapter: LayoutAdapter | str | Path
    layout: LayoutBatch | None = None
    scale: float = 1.0
    until: float = 0.3
    mask_padding: bool = False
    compat: Compat | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_scale(self.scale)
        check_numbers(until=self.until)
        if not 0 <= self.until <= 1:
            raise ValueError(f"until={self.until} must be in [0, 1], a share of the steps")
        if self.compat not in (None, "official"):
            raise ValueError(f"compat='{self.compat}' must be 'official' or None")
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen; the branch has heads of its own")

    @property
    def name(self) -> str:
        return "siamlayout"

    @property
    def timed(self) -> bool:
        """Whether it asks for the step."""
        return self.layout is not None and (self.until < 1 or self.where.during != (0.0, 1.0))

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        """Nothing inside the host's own attention."""
        return ()

    def active(self, clock: Clock) -> bool:
        """Whether the layout acts in this step."""
        return clock.step < int(self.until * clock.num_steps) and self.where.active(clock)

    def surround(self, model: Any, sites: tuple[Site, ...]) -> "LayoutForwards":
        """Stand around the blocks of a model. Raises ValueError for a model the adapter was not made for."""
        blocks = {site.name.rpartition(".")[0] for site in sites if self.where.covers(site)}
        stream = LayoutStream(
            model, self.loaded, scale=self.scale, mask_padding=self.mask_padding, blocks=blocks
        )  # fmt: skip
        return LayoutForwards(self, stream)

    @cached_property
    def loaded(self) -> LayoutAdapter:
        """The adapter, read if a file was given."""
        return self.adapter if isinstance(self.adapter, LayoutAdapter) else LayoutAdapter.load(self.adapter)


class LayoutForwards:
    """What an attached system holds in each forward."""

    def __init__(self, system: SiamLayout, stream: LayoutStream) -> None:
        self.system, self.stream = system, stream
        self._known: dict[tuple[int | None, ...], LayoutBatch] = {}
        self._zeros = no_layout(system.loaded) if system.layout is None and system.compat else None

    def begin(self, clock: Clock, rows: Rows | None, batch: int) -> None:
        """Hold the layout of these rows, or none. Raises ValueError for more layouts than prompts, or fewer."""
        layout, self.stream.zeros = self.system.layout, self._zeros is not None
        if not self.system.active(clock):
            self.stream.held = None
        elif layout is None:
            self.stream.held = self._zeros
        elif rows is None and clock.branch == "uncond":
            self.stream.held = self._chosen((None,) * batch)
        else:
            self.stream.held = self._chosen(_row_numbers(rows, batch, layout.rows))

    def undo(self) -> None:
        """Leave the model as it was."""
        self.stream.undo()

    def _chosen(self, rows: tuple[int | None, ...]) -> LayoutBatch:
        """The layouts of batch rows, on the model's device: the same object in each step."""
        if rows not in self._known:
            assert self.system.layout is not None
            self._known[rows] = self.system.layout.chosen(rows).to(self.stream.transformer.device)
        return self._known[rows]


def _row_numbers(rows: Rows | None, batch: int, layouts: int) -> tuple[int | None, ...]:
    """The layout of each batch row; None where it is unconditional. Each prompt may be drawn several times."""
    samples = range(batch) if rows is None else rows.samples
    nulls = () if rows is None else rows.where("uncond")
    count = max(samples) + 1
    if count % layouts:
        raise ValueError(f"the layout has {layouts} rows for {count} pictures; give one row, or one for each prompt")
    times = count // layouts
    return tuple(None if i in nulls else sample // times for i, sample in enumerate(samples))


def no_layout(adapter: LayoutAdapter, slots: int = 10) -> LayoutBatch:
    """Slots of which none is used."""
    own = adapter.position_net.null_text
    words = (1,) if adapter.config.host == "flux" else ()
    return LayoutBatch(
        boxes=own.new_zeros(1, slots, 4), mask=own.new_zeros(1, slots).bool(),
        text=own.new_zeros(1, slots, *words, adapter.config.text_width),
    )  # fmt: skip
