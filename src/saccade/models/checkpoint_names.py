"""Weights under the names of the official checkpoints, both ways, with a report of what did not match.

Names are pairs of templates (ours, theirs) of how a name begins; `{}` stands for an index. Where theirs holds `{e}`,
ours is one tensor whose first axis runs over theirs. The first pair that fits decides; a name that fits none is the
same in both.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Names = Sequence[tuple[str, str]]
State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What loading did: `mismatched` maps our name to (their shape, our shape); such entries were left as they were."""

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every weight was found and nothing was left over."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        shapes = [f"{name} {theirs} for {ours}" for name, (theirs, ours) in self.mismatched.items()]
        parts = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", shapes))
        told = [
            f"{len(names)} {what}: {', '.join(names[:4])}{', ...' * (len(names) > 4)}" for what, names in parts if names
        ]
        return f"{len(self.loaded)} weights loaded" + "".join(f"; {line}" for line in told)


def load(model: nn.Module, state: State, names: Names) -> Report:
    """Copy what fits from an official state dict into `model`."""
    own = model.state_dict()
    translated, used = _to_ours(state, own, names)
    shapes = {name: (tuple(value.shape), tuple(own[name].shape)) for name, value in translated.items()}
    mismatched = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    fitting = {name: value for name, value in translated.items() if name not in mismatched}
    model.load_state_dict(fitting, strict=False)
    return Report(
        loaded=tuple(fitting),
        missing=tuple(name for name in own if name not in translated),
        unexpected=tuple(name for name in state if name not in used),
        mismatched=mismatched,
    )


def export(model: nn.Module, names: Names) -> State:
    """The weights of `model` under official names."""
    found: State = {}
    for name, value in model.state_dict().items():
        theirs = their_name(name, names)
        if "{e}" in theirs:
            found |= {theirs.replace("{e}", str(i)): part.clone() for i, part in enumerate(value)}
        else:
            found[theirs] = value
    return found


def their_name(name: str, names: Names) -> str:
    """The official name of one of ours; `{e}` stays where ours holds several of theirs."""
    for ours, theirs in names:
        pattern = re.escape(ours).replace(re.escape("{}"), r"(\d+)")
        if found := re.match(pattern, name):
            filled = theirs
            for index in found.groups():
                filled = filled.replace("{}", index, 1)
            return filled + name[found.end() :]
    return name


def _to_ours(state: State, own: State, names: Names) -> tuple[State, set[str]]:
    """Their weights by our names, and which of theirs that took."""
    translated: State = {}
    used: set[str] = set()
    for name, value in own.items():
        theirs = their_name(name, names)
        wanted = [theirs.replace("{e}", str(i)) for i in range(len(value))] if "{e}" in theirs else [theirs]
        if all(each in state for each in wanted):
            used.update(wanted)
            parts: list[Any] = [state[each] for each in wanted]
            translated[name] = torch.stack(parts) if "{e}" in theirs else parts[0]
    return translated, used
