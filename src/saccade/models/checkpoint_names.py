"""Weights under the names of the official checkpoints, both ways; what does not match is reported by both names.

Names are pairs of templates (ours, theirs) of how a name begins; `{}` stands for an index. Where theirs holds `{e}`,
ours is one tensor whose first axis runs over theirs. The first pair that fits decides; what fits none has no official
name. A checkpoint may follow any of several namings; the first is the one that is written.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saccade.core.errors import SaccadeError
from saccade.models.unwrapping import State, unwrapped

Names = Sequence[tuple[str, str]]
SAME: Names = (("", ""),)  # every name is the same in both
SHOWN = 8  # names of each kind that a report spells out


@dataclass(frozen=True, kw_only=True)
class Report:
    """What loading did: `mismatched` maps our name to (their shape, our shape); such entries were left as they were.

    `official`: the names that were looked for in the file, of each weight that is missing or of another shape; none
    where the official code has no such weight.
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    official: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every weight was found and nothing was left over."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        shapes = [f"{self._both(name)} {theirs} for {ours}" for name, (theirs, ours) in self.mismatched.items()]
        missing = [self._both(name) for name in self.missing]
        parts = (("missing", missing), ("unexpected", self.unexpected), ("of another shape", shapes))
        lines = [f"{len(names)} {what}: {_listed(names)}" for what, names in parts if names]
        return f"{len(self.loaded)} weights loaded" + "".join(f"; {line}" for line in lines)

    def _both(self, name: str) -> str:
        """Our name, with the official ones where they differ."""
        theirs = self.official.get(name, (name,))
        if theirs == (name,):
            return name
        return f"{name} (in the file {_listed(theirs)})" if theirs else f"{name} (no official name)"


class LoadError(SaccadeError, ValueError):
    """A checkpoint does not hold the weights of the model, or holds others; `report` has all names."""

    def __init__(self, model: nn.Module, report: Report) -> None:
        found = str(report).partition("; ")[2]
        super().__init__(
            f"the checkpoint does not fit this {type(model).__name__}: {found}. Nothing was loaded; give the "
            "configuration it was made with, or strict=False to load what fits and get the report"
        )
        self.report = report


class Source(NamedTuple):
    """Where one of our weights is found: its official names, several where ours is a stack of theirs."""

    names: tuple[str, ...]
    stacked: bool = False


def load(
    model: nn.Module,
    state: Mapping[str, object],
    namings: Sequence[Names],
    *,
    strict: bool = True,
    adapt: Callable[[State], State] = lambda state: state,
) -> Report:
    """Copy an official state dict into `model`; each weight may follow any of `namings`. `adapt` reshapes theirs.

    Raises LoadError, before anything is copied, if `strict` and a weight is missing, left over or of another shape;
    ValueError for a state that is no dict of tensors.
    """
    own = model.state_dict()
    sources = [{name: their_names(name, value, names) for name, value in own.items()} for names in namings]
    known = {each for found in sources for source in found.values() for each in source.names}
    weights = adapt(unwrapped(state, known))
    chosen = {name: _best([found[name] for found in sources], weights) for name in own}
    report = _compared(own, weights, chosen)
    if strict and not report.complete:
        raise LoadError(model, report)
    fitting = {name: _value(chosen[name], weights) for name in report.loaded}
    model.load_state_dict(fitting, strict=False)
    return report


def export(model: nn.Module, names: Names) -> State:
    """The weights of `model` under official names.

    Raises ValueError where some have none: the file would be neither the official code's nor ours.
    """
    own = model.state_dict()
    sources = {name: their_names(name, value, names) for name, value in own.items()}
    if nameless := [name for name, source in sources.items() if not source.names]:
        raise ValueError(
            f"{len(nameless)} of {len(own)} weights of this {type(model).__name__} have no official name: "
            f"{_listed(nameless)}. The official code has no such configuration; use state_dict or save_pretrained"
        )
    found: State = {}
    for name, (theirs, stacked) in sources.items():
        values = [part.clone() for part in own[name]] if stacked else [own[name]]
        found |= dict(zip(theirs, values, strict=True))
    return found


def their_names(name: str, value: Tensor, names: Names) -> Source:
    """The official names of one of our weights; none where no template fits."""
    for ours, theirs in names:
        pattern = re.escape(ours).replace(re.escape("{}"), r"(\d+)")
        if found := re.match(pattern, name):
            filled = theirs
            for index in found.groups():
                filled = filled.replace("{}", index, 1)
            filled += name[found.end() :]
            if "{e}" in filled:
                return Source(tuple(filled.replace("{e}", str(i)) for i in range(len(value))), stacked=True)
            return Source((filled,))
    return Source(())


def _best(sources: Iterable[Source], weights: State) -> Source:
    """The one of which the file holds most; of equals the first."""
    return max(sources, key=lambda source: sum(name in weights for name in source.names))


def _compared(own: State, weights: State, chosen: dict[str, Source]) -> Report:
    """What of our weights is in the file, and what else is."""
    official = {
        name: tuple(each for each in source.names if each not in weights)
        for name, source in chosen.items()
        if not source.names or not weights.keys() >= {*source.names}
    }
    missing = tuple(official)
    shapes = {
        name: (_shape(chosen[name], weights, own[name]), tuple(own[name].shape)) for name in own.keys() - official
    }
    mismatched = {name: shapes[name] for name in own if name in shapes and shapes[name][0] != shapes[name][1]}
    used = {each for source in chosen.values() for each in source.names}
    return Report(
        loaded=tuple(name for name in own if name in shapes and name not in mismatched),
        missing=missing,
        unexpected=tuple(name for name in weights if name not in used),
        mismatched=mismatched,
        official=official | {name: chosen[name].names for name in mismatched},
    )


def _shape(source: Source, weights: State, own: Tensor) -> tuple[int, ...]:
    """Of what would be copied; of a stack whose parts differ, by the first that is not as ours."""
    wanted = own.shape[source.stacked :]
    parts = (tuple(weights[name].shape) for name in source.names)
    shape = next((part for part in parts if part != wanted), tuple(wanted))
    return (len(source.names), *shape) if source.stacked else shape


def _value(source: Source, weights: State) -> Tensor:
    parts = [weights[name] for name in source.names]
    return torch.stack(parts) if source.stacked else parts[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
