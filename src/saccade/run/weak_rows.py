"""Weak rows: copies of the conditional batch rows that a system weakens, computed in the same forward and steered from.

The model's batch grows by one row for each conditional one, `Rows` calls them weak, and what comes out is

    out + w (cond - weak)    in every row of the sample, the weak rows cut off,

before the pipeline or its scheduler sees it. Guidance whose weights sum to one passes what is added to all branches
through unchanged, so `uncond + s (cond - uncond)` gains w (cond - weak) and no more. Where a pipeline runs its branches
in turn, the conditional one comes first, and the others of that step add what it found.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from saccade.core.clock import Clock
from saccade.core.errors import MissingError, StateError
from saccade.core.rows import Rows
from saccade.run.attached_model import AttachedModel
from saccade.seam.family import batch_of

OTHERS = ("uncond", "weak")  # branches run in turn after the conditional one
WHICH = (
    "nobody says which batch rows are conditional; pass rows=Rows.of('uncond', 'cond') to attach, in the order of the "
    "batch, or rows=Rows.of('cond') without guidance, with samples=... for a batch"
)


@dataclass(eq=False)
class WeakRows:
    """The weak rows of the forward in progress, and what is added to the branches of this step.

    own      rows of the host's own batch, and whose each is
    strong   those that have a weak row, in its order
    weight   w
    added    by sample (and role): w (cond - weak), kept for forwards of other branches
    widened  whether the forward in progress has weak rows
    listed   whether its rows come and go as lists
    lent     arguments with weak rows, and the caller's own in whose place they are
    """

    own: tuple[Hashable, ...] = ()
    strong: tuple[int, ...] = ()
    weight: float = 0.0
    added: dict[Hashable, Tensor] = field(default_factory=dict)
    widened: bool = False
    listed: bool = False
    lent: list[tuple[Any, Any]] = field(default_factory=list)

    def begin(self, host: str, asked: tuple[str, float], rows: Rows | None, clock: Clock) -> Rows | None:
        """Decide on the weak rows of a forward by the system that asked and its w; returns all rows there will be.

        Raises MissingError where nobody says which rows are conditional, StateError where another branch comes first.
        """
        name, self.weight = asked
        self.own, self.widened = (), False
        if not self.weight:
            return rows
        if rows is None:
            raise MissingError(host=host, site=f"batch of '{name}'", item="rows.cond", mend=WHICH)
        self.own = owners(rows)
        if clock.branch in OTHERS:
            self._check_known(name, clock)
            return rows
        self.strong, self.widened = conditional(rows), True
        self.added.clear()
        return rows.weakened(self.strong)

    def widen(
        self, attached: AttachedModel, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The arguments with the weak rows; None where they stay as they are."""
        if not self.own:
            return None
        self.listed = isinstance(attached.inputs(args, kwargs).get(attached.family.main_input), list)
        return self._more(attached, args, kwargs) if self.widened else None

    def finish(self, output: Any) -> Any:
        """What the model's caller gets: the output without weak rows, steered; None where it stays as it is."""
        if not self.own:
            return None
        first, rebuilt = _main(output, len(self.own), self._own_again)
        out: Tensor = batch_of(first) if self.listed else first
        if self.widened:
            self._take(out)
        own = out[: len(self.own)]
        added = torch.stack([self.added[key] for key in self.own])
        steered = (own.to(added.dtype) + added).to(own.dtype)
        return rebuilt(list(steered) if self.listed else steered)

    def forget(self) -> None:
        """Drop what was kept."""
        self.added.clear()
        self.lent.clear()
        self.own, self.widened = (), False

    def _own_again(self, value: Any) -> Any:
        """The caller's own of what the model hands back as it was given, as a cache."""
        return next((own for lent, own in self.lent if lent is value), value)

    def _more(
        self, attached: AttachedModel, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        family, names, rows = attached.family, attached.signature.parameters, len(self.own)

        def more(name: str, value: Any) -> Any:
            if name in family.shared:
                return value
            if name in family.folded and isinstance(value, Tensor):
                return _repeated(value.unflatten(0, (rows, -1)), self.strong, rows, False).flatten(0, 1)
            self.lent.append((_repeated(value, self.strong, rows, self.listed, family.batch_axis.get(name, 0)), value))
            return self.lent[-1][0]

        self.lent.clear()
        return (
            tuple(more(name, value) for name, value in zip(names, args, strict=False)),
            {name: more(name, value) for name, value in kwargs.items()},
        )

    def _take(self, out: Tensor) -> None:
        fine = out.to(torch.promote_types(out.dtype, torch.float32))
        for number, row in enumerate(self.strong):
            self.added[self.own[row]] = self.weight * (fine[row] - fine[len(self.own) + number])

    def _check_known(self, name: str, clock: Clock) -> None:
        if unknown := [key for key in self.own if key not in self.added]:
            raise StateError(
                f"'{name}' steers the {clock.branch} branch of step {clock.step} by the conditional one, which did not "
                f"run before it for {unknown[0]}; run the conditional branch first"
            )


def conditional(rows: Rows) -> tuple[int, ...]:
    """Row numbers of the conditional branch; all where no guidance is among the rows."""
    guided = bool(rows.where("cond") or rows.where("uncond"))
    return rows.where("cond") if guided else tuple(range(rows.n))


def owners(rows: Rows) -> tuple[Hashable, ...]:
    """What rows of one picture have in common over the branches: their sample, and their role where they have one."""
    edited = rows.branches or not set(rows.roles) <= {"cond", "uncond", "weak"}
    return tuple(zip(rows.roles, rows.samples, strict=True)) if edited else rows.samples


def _repeated(value: Any, rows: tuple[int, ...], batch: int, listed: bool, axis: int = 0) -> Any:
    """Tensors of as many rows as the batch, also within tuples, lists and dictionaries; all else as it is.

    listed  rows come as lists too
    axis    of a tensor on which its rows lie; a list of tensors stands for the first axis of one
    """
    if isinstance(value, Tensor):
        batched = value.ndim > axis and value.shape[axis] == batch
        return torch.cat((value, *(value.narrow(axis, row, 1) for row in rows)), dim=axis) if batched else value
    if isinstance(value, dict):
        return {key: _repeated(inner, rows, batch, listed, axis) for key, inner in value.items()}
    if listed and isinstance(value, list) and len(value) == batch:
        return value + [value[row] for row in rows]
    if type(value) in (tuple, list):
        below = [max(axis - isinstance(inner, Tensor), 0) for inner in value]
        return type(value)(_repeated(x, rows, batch, listed, a) for x, a in zip(value, below, strict=True))
    return value


def _main(output: Any, own: int, back: Callable[[Any], Any]) -> tuple[Tensor, Callable[[Any], Any]]:
    """The prediction within a model's output, and how to put another in its place, all else cut to the own rows."""
    if isinstance(output, Tensor):
        return output, lambda made: made
    if isinstance(output, tuple | list):
        first, *others = output
        return first, lambda made: type(output)((made, *(back(_cut(x, len(first), own)) for x in others)))
    (name, first), *others = output.items()  # a ModelOutput of diffusers
    return first, lambda made: replace(output, **{name: made, **{other: back(x) for other, x in others}})


def _cut(value: Any, rows: int, own: int) -> Any:
    return value[:own] if isinstance(value, Tensor) and value.ndim and len(value) == rows else value
