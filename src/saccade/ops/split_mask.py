"""Split a call's mask into a part fixed between steps and the host's key padding.

The fixed part is lowered once and carries a memo of what kernels made from it (token maps, block patterns, choices), so
a later call with the same mask pays nothing. Inside a graph the memo is only read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.blocks import Bound
from saccade.core.call import AttentionCall
from saccade.core.errors import RefusedError
from saccade.core.inference import outside_inference
from saccade.core.layout import Layout
from saccade.core.masks import And, KeyPadding, Lowered, Mask, lower

MEMO = "ops"  # the key under which a lowered mask keeps its memo
NEVER = -torch.inf


@dataclass(frozen=True, eq=False)
class Fixed:
    """A mask fixed between steps; `memo` holds what was prepared from it, under keys of plain values."""

    mask: Mask
    bound: Bound
    memo: dict[Any, Any]

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made under `key`, made now if it was not."""
        if key not in self.memo:
            with outside_inference():
                self.memo[key] = make()
        return self.memo[key]

    def keep_addresses(self) -> None:
        """So that CUDA graphs read what was prepared where it lies, and do not copy it at each replay."""
        for x in _tensors(tuple(self.memo.values())):
            if x.is_cuda:
                torch._dynamo.mark_static_address(x)


@dataclass(frozen=True, eq=False)
class MaskParts:
    """fixed: known beforehand; loose: made inside a graph or the forward; keep (b|1, m): keys not padded."""

    fixed: Fixed | None = None
    loose: Mask | None = None
    keep: Bool[Tensor, "#b m"] | None = None


def split_mask(call: AttentionCall) -> MaskParts:
    """Split the call's mask; outside a graph all but padding is lowered, with the last masks kept.

    On CUDA a map that the host makes anew in each forward is left as it is: to lower it would wait for the card.

    Raises RefusedError where the fixed part leaves a query without a key, naming batch row, head and query.
    """
    if call.mask is None:
        return MaskParts()
    leaves = conjuncts(call.mask)
    keep = key_padding(call.mask, call.k.shape[2])
    rest = [leaf for leaf in leaves if not isinstance(leaf, KeyPadding)]
    if not rest:
        return MaskParts(keep=keep)
    if len(rest) == 1 and isinstance(rest[0], Lowered):
        return MaskParts(fixed=_fixed(rest[0]), keep=keep)
    whole = rest[0]
    for leaf in rest[1:]:
        whole = And(whole, leaf)
    fleeting = call.q.is_cuda and all(leaf.fleeting for leaf in rest)
    if fleeting or torch.compiler.is_compiling():
        return MaskParts(loose=whole, keep=keep)
    lowered = _lowered(whole, call.layout_q, call.layout_k, call.q.device)
    return MaskParts(fixed=None if lowered is None else _fixed(lowered), keep=keep)


def token_map(call: AttentionCall, seen: MaskParts) -> Bool[Tensor, "#b #h n m"] | None:
    """Pairs the call may see, padding left aside; None for all of them. n x m memory."""
    if seen.fixed is not None:
        if torch.compiler.is_compiling() and "tokens" not in seen.fixed.memo:
            return _evaluated(seen.fixed.mask, call)
        return seen.fixed.once("tokens", seen.fixed.bound.token)
    return None if seen.loose is None else _evaluated(seen.loose, call)


def additive(
    allowed: Bool[Tensor, "#b #h n m"] | None,
    keep: Bool[Tensor, "#b m"] | None,
    dense: Float[Tensor, "#b #h n m"] | None,
    dtype: torch.dtype,
) -> Float[Tensor, "#b #h #n m"] | None:
    """One tensor to add to the scores: -inf where a pair is not seen, the dense bias elsewhere."""
    if keep is not None:
        padding = keep[:, None, None, :]
        allowed = padding if allowed is None else allowed & padding
    if allowed is None:
        return dense
    shut = torch.full((), NEVER, dtype=dtype, device=allowed.device)
    return torch.where(allowed, torch.zeros_like(shut) if dense is None else dense.to(dtype), shut)


def _tensors(x: Any) -> Iterator[Tensor]:
    """All tensors held by tuples and by what keeps its fields in a dictionary."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, tuple) or hasattr(x, "__dataclass_fields__"):
        for part in x if isinstance(x, tuple) else vars(x).values():
            yield from _tensors(part)


def conjuncts(mask: Mask | None) -> list[Mask]:
    """The masks that must all let a pair pass."""
    if isinstance(mask, And):
        return conjuncts(mask.a) + conjuncts(mask.b)
    return [] if mask is None else [mask]


def key_padding(mask: Mask | None, m: int) -> Bool[Tensor, "#b m"] | None:
    """Which of m keys are no padding; None where no mask says."""
    keep = None
    for padding in (leaf for leaf in conjuncts(mask) if isinstance(leaf, KeyPadding)):
        rows = torch.nn.functional.pad(padding.keep, (0, m - padding.keep.shape[1]), value=True)
        keep = rows if keep is None else keep & rows
    return keep


def _fixed(lowered: Lowered) -> Fixed:
    if MEMO not in lowered.ready:
        _check_rows(lowered.bound)
        lowered.ready[MEMO] = Fixed(lowered.mask, lowered.bound, {})
    return lowered.ready[MEMO]


def _check_rows(bound: Bound) -> None:
    lone = bound.empty_row()
    if lone is not None:
        batch, head, query = lone
        reason = f"query {query} of batch row {batch}, head {head} has no key; let every query see at least itself"
        raise RefusedError("this mask", {"every kernel": [reason]})


@lru_cache(maxsize=32)
def _lowered(mask: Mask, layout_q: Layout, layout_k: Layout, device: torch.device) -> Lowered | None:
    with outside_inference():
        return lower(mask, layout_q, layout_k, device)


def _evaluated(mask: Mask, call: AttentionCall) -> Tensor:
    """The token map by the mask's rule alone, so that it can be traced."""
    sizes = (*call.q.shape[:3], call.k.shape[2])
    names, permits = mask.rule(call.layout_q, call.layout_k, call.q.device)
    at = [
        torch.arange(size, device=call.q.device).reshape([-1 if axis == place else 1 for axis in range(4)])
        for place, size in enumerate(sizes)
    ]
    return (~names(*at) | permits(*at)).expand(sizes)
