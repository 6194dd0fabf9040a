"""What one forward is known by, read at its door and asked for by its sites."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.rows import Rows
from saccade.core.site import Site
from saccade.run.attached_model import AttachedModel
from saccade.seam.family import Family, Inputs, Layouts
from saccade.seam.rotary import Rotary


@dataclass(eq=False)
class ForwardContext:
    """What was read at the door of one forward: arguments, a tensor of the batch, clock and rows."""

    inputs: Inputs
    sample: Tensor
    clock: Clock
    rows: Rows | None
    tables: dict[tuple[Layout, torch.device], Rotary] = field(default_factory=dict)
    layouts: dict[Any, Layouts] = field(default_factory=dict)

    def layouts_of(self, attached: AttachedModel, site: Site) -> Layouts:
        """The tokens of a site, asked once a forward of all that have the same."""
        family = attached.family
        key = site.name if family.by_site else site.kind, family.cache_span(self.inputs, site)
        if key not in self.layouts:
            self.layouts[key] = family.layout(attached.model, self.inputs, site)
        return self.layouts[key]

    def noisiest(self, family: Family) -> Tensor | None:
        """The token (b) of each row with the latest time, where the host is given a time for each token (b n)."""
        times = self.inputs.get(family.time_name)
        if not isinstance(times, Tensor) or times.ndim != 2 or times.shape[1] == 1:
            return None
        return times.argmax(1)

    def sample_of(self, fold: int) -> Tensor:
        """A tensor like `sample` with as many rows as attention has."""
        return self.sample if fold == 1 else self.sample[:1].expand(self.sample.shape[0] * fold, *self.sample.shape[1:])

    def table(self, attached: AttachedModel, layout: Layout, device: torch.device) -> Rotary | None:
        """The host's rotary table for these tokens, read once a forward and device."""
        if attached.family.rotary is not None and (layout, device) not in self.tables:
            table = attached.family.rotary(attached.model, self.inputs, layout)
            self.tables[layout, device] = replace(table, ids=table.ids.to(device))
        return self.tables.get((layout, device))
