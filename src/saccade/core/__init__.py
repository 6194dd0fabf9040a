"""Values and laws: layouts, masks, biases, calls, verbs, state."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.core.biases import Bias as Bias
    from saccade.core.biases import DenseBias as DenseBias
    from saccade.core.biases import PerKey as PerKey
    from saccade.core.call import AttentionCall as AttentionCall
    from saccade.core.catalogue import Entry as Entry
    from saccade.core.catalogue import Offers as Offers
    from saccade.core.catalogue import Paper as Paper
    from saccade.core.catalogue import Preset as Preset
    from saccade.core.clock import Clock as Clock
    from saccade.core.errors import ConflictError as ConflictError
    from saccade.core.errors import MissingError as MissingError
    from saccade.core.errors import RefusedError as RefusedError
    from saccade.core.errors import SaccadeError as SaccadeError
    from saccade.core.errors import SelectorError as SelectorError
    from saccade.core.errors import SilentSiteError as SilentSiteError
    from saccade.core.errors import StateError as StateError
    from saccade.core.groups import KeyGroups as KeyGroups
    from saccade.core.layout import Layout as Layout
    from saccade.core.layout import Segment as Segment
    from saccade.core.masks import KeyPadding as KeyPadding
    from saccade.core.masks import Mask as Mask
    from saccade.core.masks import OnHeads as OnHeads
    from saccade.core.masks import Table as Table
    from saccade.core.mechanism import KernelChoice as KernelChoice
    from saccade.core.mechanism import Mechanism as Mechanism
    from saccade.core.mechanism import Pairs as Pairs
    from saccade.core.mechanism import System as System
    from saccade.core.places import Causal as Causal
    from saccade.core.places import Disc as Disc
    from saccade.core.rows import Rows as Rows
    from saccade.core.site import EVERYWHERE as EVERYWHERE
    from saccade.core.site import Site as Site
    from saccade.core.site import Where as Where
    from saccade.core.site import at as at
    from saccade.core.stack import Plan as Plan
    from saccade.core.state import Memory as Memory
    from saccade.core.state import MemoryBank as MemoryBank
    from saccade.core.state import Tape as Tape

__all__ = [
    "AttentionCall",
    "Bias",
    "Causal",
    "Clock",
    "ConflictError",
    "DenseBias",
    "Disc",
    "EVERYWHERE",
    "Entry",
    "KernelChoice",
    "KeyGroups",
    "KeyPadding",
    "Layout",
    "Mask",
    "Mechanism",
    "Memory",
    "MemoryBank",
    "MissingError",
    "Offers",
    "OnHeads",
    "Pairs",
    "Paper",
    "PerKey",
    "Plan",
    "Preset",
    "RefusedError",
    "Rows",
    "SaccadeError",
    "Segment",
    "SelectorError",
    "SilentSiteError",
    "Site",
    "StateError",
    "System",
    "Table",
    "Tape",
    "Where",
    "at",
]

__getattr__, __dir__ = lazily(__name__)
