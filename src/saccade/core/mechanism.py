"""Systems decide, between steps; mechanisms act, inside the call.

A system's `plan` is asked once per site and step, outside any graph, and returns what holds there: masks, bias rules
and mechanisms. Equal plans share one preparation and one graph, so a system returns equal objects for the same phase.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from saccade.core.biases import Bias, BiasRule
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.groups import KeyGroups
from saccade.core.layout import Layout, Segment
from saccade.core.masks import Mask
from saccade.core.partial import Parts
from saccade.core.projections import Adapter
from saccade.core.rows import Rows
from saccade.core.site import Site
from saccade.core.state import Memory

Verb = Literal["operands", "keys", "pairs", "blend", "observe"]


@dataclass(frozen=True, kw_only=True)
class Appended:
    """Keys a mechanism will append: a segment, and the kinds (or names) of queries that may see it."""

    segment: Segment
    seen_by: tuple[str, ...] = ("image",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """What a selector chose from the final q and k: each field is added to what is there already."""

    mask: Mask | None = None
    bias: Bias | None = None
    groups: KeyGroups | None = None


class Mechanism:
    """Five optional verbs; subclasses are frozen dataclasses, know no step, and never branch on data.

    needs: host items asked of the site ("host.rotary", "rows.source"), and "lse"; checked when attached.
    puts, gets: keys of memory written, and read where an earlier step must have put them; `explain` checks the order.
    acts_on: which blend pass `blend` belongs to.
    reads_first: its `operands` only reads, and reads what the host gave, before any other mechanism changes it.
    takes_rows: its `operands` takes keys of other batch rows, and with them what the host's mask says of those.
    more_pairs: pairs its verbs compute beside the call's own, as a share of all, for the report.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    puts: ClassVar[frozenset[str]] = frozenset()
    gets: ClassVar[frozenset[str]] = frozenset()
    acts_on: ClassVar[Literal["attention", "output"]] = "attention"
    reads_first: ClassVar[bool] = False
    takes_rows: ClassVar[bool] = False
    more_pairs: ClassVar[float] = 0.0

    def appends(self, layout: Layout) -> tuple[Appended, ...]:
        """The segments `keys` will append for these tokens; known beforehand so that masks can be prepared."""
        return ()

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """Refuse tokens this cannot work on, by ValueError; asked when a plan is prepared, outside any graph."""

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        """Change q, k, v or scale; same shapes."""
        return call

    def keys(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        """Append the segments named by `appends`."""
        return call

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        """Choose mask, bias or groups from the final operands."""
        return Pairs()

    def density(self, mem: Memory) -> Float[Tensor, ""] | float | None:
        """Share of the pairs that will be left in the coming call, for the report; None where nobody can tell.

        A mechanism whose `blend` attends to more says so too.
        """
        return None if uses(self, "pairs") else 1.0

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        """Rework the output."""
        return parts

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        """Read; write only to `mem`."""


@dataclass(frozen=True)
class KernelChoice:
    """The kernel, by name, that must run a site. It changes cost and rounding, never what is computed."""

    kernel: str


PlanItem = Mask | BiasRule | Mechanism | KernelChoice | Adapter


@runtime_checkable
class System(Protocol):
    """A paper's door: frozen options and a plan. `name` is its key in errors, reports and state."""

    @property
    def name(self) -> str: ...

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        """What holds at this site and step; empty where the system does nothing."""
        ...


@runtime_checkable
class WeakBranch(Protocol):
    """A system that steers away from a weaker copy of the model: w (cond - weak) is added to what the model predicts.

    While the weight is not 0 each conditional row has a weak row beside it in the same forward, which the system's
    mechanisms find by `call.rows.where("weak")`.
    """

    def weak_weight(self, clock: Clock) -> float:
        """w at this step; 0 where no weak rows are wanted."""
        ...


class Surrounding(Protocol):
    """What a system has put around a model's blocks, until it is undone."""

    def begin(self, clock: Clock, rows: Rows | None, batch: int) -> None:
        """A forward of `batch` rows begins; rows are None where nobody can tell what they are."""
        ...

    def undo(self) -> None:
        """Leave the model as it was."""
        ...


@runtime_checkable
class BlockSystem(Protocol):
    """A system that also acts around whole blocks, such as one that carries more tokens from block to block."""

    def surround(self, model: Any, sites: tuple[Site, ...]) -> Surrounding:
        """Stand around the blocks of a model whose attached sites these are."""
        ...


def check_system(given: object) -> None:
    """Raise TypeError for what is given as a system and is none, with what to give instead."""
    if isinstance(given, type):
        raise TypeError(f"{given.__name__} is a class; give a system made from it, {given.__name__}(...)")
    if isinstance(given, str):
        raise TypeError(f"'{given}' is a name; give the system itself, one of saccade.papers, as Clear(radius=16)")
    if not isinstance(given, System):
        raise TypeError(
            f"{type(given).__name__} is no system: it has no name and plan(site, clock). `saccade list` shows which "
            "entries attach; parts of architectures are built into a model instead"
        )


def uses(mechanism: Mechanism, verb: Verb | Literal["appends"]) -> bool:
    """Whether a mechanism defines the verb itself."""
    return getattr(type(mechanism), verb) is not getattr(Mechanism, verb)


def blind_to(layout: Layout, seen_by: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the segments that are not among `seen_by`, by kind or name."""
    return tuple(s.name for s in layout.segments if s.kind not in seen_by and s.name not in seen_by)
