"""The forms of attention as operators on heads: `out, state = operator(q, k, v, state)`, causal, in pieces or at once.

approx         `taylor` or `per_order`, see `taylor.py`
nonapprox      a score a position, see `position_scores.py`
borrowed_qk    softmax attention whose q and k may have one row for all rows of v: its map is made once

A state is a named tuple of tensors, None before the first token; decoding token by token equals one call on all.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from saccade.papers.deconstructing_attention.position_scores import RunningAverage, prefix_map, prefix_softmax, scores
from saccade.papers.deconstructing_attention.taylor import per_order, per_order_map, taylor, taylor_map

Operator = Callable[..., tuple[Tensor, Any]]
Reading = Literal["taylor", "per_order"]


class KeysValues(NamedTuple):
    """All so far; keys of one row may serve values of many."""

    k: Float[Tensor, "a h m e"]
    v: Float[Tensor, "b h m e"]


def approx(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    state: Any = None,
    *,
    reading: Reading = "taylor",
    keep: bool = True,
) -> tuple[Float[Tensor, "b h n e"], Any]:
    """Softmax of a second-order series, in single precision at least.

    keep   make a state; without one, a sequence no longer than e^2 is multiplied pair by pair
    """
    fine = torch.promote_types(v.dtype, torch.float32)
    operands = (q.to(fine), k.to(fine), v.to(fine))
    if reading == "per_order":
        out, state = per_order(*operands, state)
        return out.to(v.dtype), state
    outs = []
    parts = list(zip(*(each.split(max(1, q.shape[-1] ** 2), dim=2) for each in operands), strict=True))
    for number, part in enumerate(parts):
        out, state = taylor(*part, state, keep=keep or number + 1 < len(parts))
        outs.append(out)
    return torch.cat(outs, dim=2).to(v.dtype), state


def nonapprox(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    state: RunningAverage | None = None,
    *,
    keep: bool = True,
) -> tuple[Float[Tensor, "b h n e"], RunningAverage]:
    """The running average weighed by each position's own score; q after its silu."""
    return prefix_softmax(scores(q, k), v, state)


def borrowed_qk(
    q: Float[Tensor, "a h n e"],
    k: Float[Tensor, "a h n e"],
    v: Float[Tensor, "b h n e"],
    state: KeysValues | None = None,
    *,
    keep: bool = True,
) -> tuple[Float[Tensor, "b h n e"], KeysValues]:
    """Softmax attention; a is b or 1."""
    if state is not None:
        k, v = torch.cat((state.k, k), dim=2), torch.cat((state.v, v), dim=2)
    if len(q) == len(v):
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=past_of(q, k))
    else:
        weights = softmax_map(q, k)[0]
        rows = torch.bmm(weights, v.permute(1, 2, 0, 3).flatten(2))
        out = rows.unflatten(-1, (len(v), -1)).permute(2, 0, 1, 3)
    return out, KeysValues(k, v)


def softmax_map(q: Float[Tensor, "*b n e"], k: Float[Tensor, "*b m e"]) -> Float[Tensor, "*b n m"]:
    """The map of all pairs; the n queries are the last of the m tokens."""
    return (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~past_of(q, k), -torch.inf).softmax(-1)


def past_of(q: Float[Tensor, "*b n e"], k: Float[Tensor, "*b m e"]) -> Bool[Tensor, "n m"]:
    """True at keys that are not ahead of a query."""
    n, m = q.shape[-2], k.shape[-2]
    return torch.ones(n, m, dtype=torch.bool, device=q.device).tril(m - n)


def nonapprox_map(q: Float[Tensor, "*b n e"], k: Float[Tensor, "*b n e"]) -> Float[Tensor, "*b n n"]:
    """The map of all pairs; q after its silu."""
    return prefix_map(scores(q, k))


MAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "taylor": taylor_map,
    "per_order": per_order_map,
    "nonapprox": nonapprox_map,
    "borrowed_qk": softmax_map,
}


def check_reading(reading: str) -> None:
    """Raise ValueError for a reading there is not."""
    if reading not in get_args(Reading):
        raise ValueError(f"reading='{reading}' must be one of {', '.join(get_args(Reading))}")
