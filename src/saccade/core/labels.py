"""Labels of tokens, (n) for all batch rows or (b n), verdicts between them, and which tokens a name means."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saccade.core.coarse import Coarse, Judge, Verdict, both
from saccade.core.layout import Layout

Predicate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def label_rule(
    label_q: Int[Tensor, "b n"], label_k: Int[Tensor, "c m"], allow: Bool[Tensor, "*bh Q K"]
) -> tuple[Predicate, Predicate]:
    """(names, permits): pairs of labelled tokens (-1: none), by the verdict between their labels."""
    allow = allow[(None,) * (4 - allow.ndim)]

    def names(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (pick(label_q, b, q) >= 0) & (pick(label_k, b, k) >= 0)

    def permits(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        row, column = pick(label_q, b, q).clamp(min=0), pick(label_k, b, k).clamp(min=0)
        return allow[b * (allow.shape[0] > 1), h * (allow.shape[1] > 1), row, column]

    return names, permits


def label_coarse(
    label_q: Int[Tensor, "b n"], label_k: Int[Tensor, "c m"], allow: Bool[Tensor, "*bh Q K"]
) -> tuple[Coarse, Coarse]:
    """The same of whole blocks: known where either side has a single label."""
    _, permits = label_rule(label_q, label_k, allow)
    shape = allow[(None,) * (4 - allow.ndim)].shape
    dims = max(shape[0], len(label_q), len(label_k)), shape[1]

    def judge(q: Tensor, k: Tensor) -> Judge:
        one_q, one_k, first_q, first_k = one_class(label_q[:, q]), one_class(label_k[:, k]), q[:, 0], k[:, 0]

        def verdict(i: Tensor, j: Tensor) -> Verdict:
            ones = (1,) * i.ndim
            batch, heads = (torch.arange(n, device=label_q.device) for n in dims)
            at = (batch.reshape(-1, 1, *ones), heads.reshape(-1, *ones), first_q[i], first_k[j])
            one = (one_q[:, i] & one_k[:, j])[:, None]
            return Verdict(permits(*at) | ~one, permits(*at) & one)

        return Judge(verdict)

    return both(label_q >= 0, label_k >= 0), judge


def one_class(label: Int[Tensor, "*b B s"]) -> Bool[Tensor, "*b B"]:
    """Blocks whose tokens have one label."""
    return label.amin(-1) == label.amax(-1)


def num_rows(label: Tensor) -> int:
    """Batch rows that labels (n) or (b n) distinguish."""
    return label.shape[0] if label.ndim > 1 else 1


def labels(label: Tensor, n: int, device: torch.device | str | None, fill: int | bool = -1) -> Tensor:
    """(b? n0) -> (b|1, n), tokens past the end filled with the open value.

    Raises ValueError for labels of more tokens.
    """
    label = label.to(device) if label.ndim > 1 else label.to(device)[None]
    extra = n - label.shape[1]
    if extra < 0:
        raise ValueError(f"a mask over {label.shape[1]} tokens does not fit a layout of {n}; build it for this layout")
    return torch.nn.functional.pad(label, (0, extra), value=fill) if extra else label


def pick(label: Tensor, b: Tensor, i: Tensor) -> Tensor:
    """The labels (b|1 n) of tokens i in batch rows b."""
    return label[b * (label.shape[0] > 1), i]


def member(layout: Layout, which: str, device: torch.device | str | None = None) -> Bool[Tensor, " n"]:
    """Tokens of the segment kind or name `which`; an unknown name selects nothing (open world)."""
    parts = [torch.full((s.n,), which in (s.kind, s.name), device=device) for s in layout.segments]
    return torch.cat(parts)
