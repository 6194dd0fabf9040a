"""Which weights of any model Muon trains, which AdamW, and why: a rule, patterns that overrule it, and a table.

Muon takes hidden matrices: linear layers, stacks of them, convolutions but the first. AdamW takes embeddings, the
output head, norms, biases, whatever steers (routers, modulation, see `nn.steering`), and the first convolution.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from saccade.nn.routing import Router
from saccade.train.muon import Muon, as_matrices

EMBEDDINGS = ("*embed*", "*wte.*", "*wpe.*", "*pos_table*")
HEADS = ("head.*", "*.head.*", "*lm_head.*", "*classifier.*", "*decoder.weight", "*unembed*")
ROUTERS = ("*router*", "*mlp.gate.weight", "*moe.gate.weight")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
FUSED = {"*qkv.weight": 3, "*in_proj_weight": 3}  # projections of queries, keys and values in one matrix


class Assigned(NamedTuple):
    """One weight, and why it went where it did."""

    name: str
    weight: Tensor
    why: str
    split_rows: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ParameterSplit:
    """The weights of each optimiser; `str` of it is a table.

    Raises ValueError for a weight that both have. Warns where Muon has an embedding or a head, by its name.
    """

    muon: tuple[Assigned, ...]
    adamw: tuple[Assigned, ...] = field(default=())

    def __post_init__(self) -> None:
        theirs = {id(each.weight): each.name for each in self.adamw}
        for each in self.muon:
            if id(each.weight) in theirs:
                raise ValueError(f"{each.name} is in both groups, as {theirs[id(each.weight)]} too; leave it in one")
            if _matches(each.name, (*EMBEDDINGS, *HEADS)):
                warnings.warn(
                    f"Muon has {each.name}, by its name an embedding or a head; name it in adamw=", stacklevel=3
                )

    def muon_groups(self) -> list[dict[str, Any]]:
        """Named parameter groups for `Muon`, one for each way of splitting rows."""
        groups: dict[tuple[int, ...] | None, list[tuple[str, Tensor]]] = {}
        for each in self.muon:
            groups.setdefault(each.split_rows, []).append((each.name, each.weight))
        return [{"params": named, "split_rows": rows} for rows, named in groups.items()]

    def optimisers(
        self, lr: float = 1e-3, *, weight_decay: float = 0.1, betas: tuple[float, float] = (0.9, 0.95), **muon: Any
    ) -> list[Optimizer]:
        """AdamW and Muon, whichever have weights, at one rate and one decay; `muon`: options of its own.

        Updates are scaled to AdamW's root mean square unless `adjust_lr` says otherwise; raises ValueError as `Muon`.
        """
        options = {"lr": lr, "weight_decay": weight_decay, "adjust_lr": "match_rms_adamw"} | muon
        named = [(each.name, each.weight) for each in self.adamw]
        adam = [torch.optim.AdamW(named, lr, betas, weight_decay=weight_decay)] if named else []
        return [*adam, *([Muon(self.muon_groups(), **options)] if self.muon else [])]

    def rows(self) -> list[tuple[str, str, str, int, str]]:
        """Optimiser, name, shape, count of numbers and reason of every weight."""
        return [
            (kind, each.name, " x ".join(map(str, each.weight.shape)), each.weight.numel(), each.why)
            for kind, found in (("Muon", self.muon), ("AdamW", self.adamw))
            for each in found
        ]

    def __str__(self) -> str:
        rows = [("optimiser", "weight", "shape", "numbers", "why"), *((*r[:3], f"{r[3]:,}", r[4]) for r in self.rows())]
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join(lines)


def split_params(
    model: nn.Module,
    *,
    muon: Sequence[str] = (),
    adamw: Sequence[str] = (),
    routers: bool = False,
    fused: Mapping[str, int] | None = None,
) -> ParameterSplit:
    """Share the trained weights of `model` out by the rule.

    muon, adamw   patterns of names (`*.attn.*`) that overrule it
    routers       Muon takes matrices of routers, too
    fused         patterns of names -> how many equal parts of rows are matrices of their own; None: FUSED
    A convolution along one axis is AdamW's: its weight looks like a stack of matrices.
    Raises ValueError for a pattern that matches no weight, and for a weight that patterns of both match.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    _check_patterns(weights, muon, adamw)
    reasons = dict(_reasons(model, routers))
    parts = FUSED if fused is None else fused
    found: dict[bool, list[Assigned]] = {True: [], False: []}
    for name, weight in weights.items():
        reason = reasons.get(id(weight)) or _named_reason(name, routers)
        to_muon, why = _choice(name, weight, reason, muon, adamw)
        found[to_muon].append(Assigned(name, weight, why, _parts(name, weight, parts) if to_muon else None))
    return ParameterSplit(muon=tuple(found[True]), adamw=tuple(found[False]))


def _choice(name: str, weight: Tensor, reason: str, muon: Sequence[str], adamw: Sequence[str]) -> tuple[bool, str]:
    """Whether Muon takes it, and why."""
    if _matches(name, adamw):
        return False, "named"
    if _matches(name, muon):
        return True, "named"
    if weight.ndim < 2:
        return False, "not a matrix"
    return (False, reason) if reason else (True, {2: "matrix", 3: "stack of matrices"}.get(weight.ndim, "filters"))


def _reasons(model: nn.Module, routers: bool) -> Iterator[tuple[int, str]]:
    """Why weights, by identity since they may be tied, are AdamW's whatever their shape."""
    first = next((each for each in model.modules() if isinstance(each, CONVOLUTIONS)), None)
    inside: set[int] = set()
    for module in model.modules():
        why = "first convolution" if module is first else _reason(module, routers)
        if why and id(module) not in inside:
            inside |= {id(each) for each in module.modules()}
            yield from ((id(weight), why) for weight in module.parameters())


def _reason(module: nn.Module, routers: bool) -> str:
    if isinstance(module, nn.Embedding):
        return "embedding"
    if isinstance(module, nn.Conv1d):
        return "convolution along one axis"
    if isinstance(module, Router):
        return "" if routers else "router"
    return "steers" if getattr(module, "steering", False) else ""


def _named_reason(name: str, routers: bool) -> str:
    """What a weight's name says of it, where no type does."""
    kinds = {"head": HEADS, "embedding": EMBEDDINGS, "router": () if routers else ROUTERS}
    return next((f"{kind}, by its name" for kind, patterns in kinds.items() if _matches(name, patterns)), "")


def _parts(name: str, weight: Tensor, parts: Mapping[str, int]) -> tuple[int, ...] | None:
    count = next((each for pattern, each in parts.items() if fnmatchcase(name, pattern)), 1)
    rows = as_matrices(weight).shape[-2] if weight.ndim > 1 else 0
    return (rows // count,) * count if count > 1 and rows % count == 0 else None


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_patterns(names: Mapping[str, Tensor], muon: Sequence[str], adamw: Sequence[str]) -> None:
    for option, patterns in (("muon", muon), ("adamw", adamw)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"{option}='{pattern}' matches no trained weight; names are as in named_parameters()")
    for name in names:
        if _matches(name, muon) and _matches(name, adamw):
            raise ValueError(f"{name} is named by muon= and by adamw=; leave it in one")
