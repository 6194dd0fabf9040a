"""The forms of attention as operators on heads: `out, state = operator(q, k, v, state)`, causal, in pieces or at once.

approx         `taylor` or `per_order`, see `taylor.py`
nonapprox      a score a position, see `position_scores.py`
borrowed_qk    softmax attention whose q and k may have one row for all rows of v: its map is made once

A state is a named tuple of tensors, None before the first token; decoding token by token equals one call on all.
`there` is false at padding, which no token sees. `MAPS` are the maps of all pairs, and what they are without a past:
of `nonapprox` one vector of weights for all tokens.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.papers.deconstructing_attention.position_scores import (
    NOWHERE,
    RunningAverage,
    prefix_map,
    prefix_softmax,
    scores,
)
from saccade.papers.deconstructing_attention.taylor import (
    FeatureSums,
    OrderSums,
    per_order,
    per_order_map,
    taylor,
    taylor_map,
)

Reading = Literal["taylor", "per_order"]


class KeysValues(NamedTuple):
    """All so far; the keys of one row may serve the values of all."""

    k: Float[Tensor, "a h m e"]
    v: Float[Tensor, "b h m e"]


class Operator(NamedTuple):
    """A form: the function, the kind of its state, and its map."""

    run: Callable[..., tuple[Tensor, Any]]
    state: type[Any]
    map: Callable[..., Tensor]


def approx(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    state: Any = None,
    *,
    reading: Reading = "taylor",
    there: Bool[Tensor, "b n"] | None = None,
    remember: bool = True,
) -> tuple[Float[Tensor, "b h n e"], FeatureSums | OrderSums | None]:
    """Softmax of a second-order series, in single precision at least; up to e^2 tokens are multiplied pair by pair.

    remember   make a state
    Raises ValueError for padding where the reading is per_order, whose sums would come near zero there.
    """
    fine = torch.promote_types(v.dtype, torch.float32)
    operands = (q.to(fine), k.to(fine), v.to(fine))
    if reading == "taylor":
        out, state = _in_pieces(operands, state, there, remember)
    elif there is None:
        out, state = per_order(*operands, state)
    else:
        raise ValueError("reading='per_order' takes no padding; give texts of one length, or reading='taylor'")
    return out.to(v.dtype), state


def _in_pieces(
    operands: tuple[Tensor, ...], state: Any, there: Tensor | None, remember: bool
) -> tuple[Float[Tensor, "b h n e"], FeatureSums | None]:
    piece, tokens = max(1, operands[0].shape[-1] ** 2), operands[0].shape[2]
    outs = []
    for start in range(0, tokens, piece):
        q, k, v = (each[:, :, start : start + piece] for each in operands)
        seen = None if there is None else there[:, start : start + piece]
        out, state = taylor(q, k, v, state, there=seen, remember=remember or start + piece < tokens)
        outs.append(out)
    return torch.cat(outs, dim=2), state


def nonapprox(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    state: RunningAverage | None = None,
    *,
    there: Bool[Tensor, "b n"] | None = None,
    remember: bool = True,
) -> tuple[Float[Tensor, "b h n e"], RunningAverage]:
    """The running average weighed by each position's own score; q after its silu."""
    s = scores(q, k)
    if there is not None:
        s, v = s.masked_fill(~there[:, None], NOWHERE), v.masked_fill(~there[:, None, :, None], 0)
    return prefix_softmax(s, v, state)


def borrowed_qk(
    q: Float[Tensor, "a h n e"],
    k: Float[Tensor, "a h n e"],
    v: Float[Tensor, "b h n e"],
    state: KeysValues | None = None,
    *,
    remember: bool = True,
) -> tuple[Float[Tensor, "b h n e"], KeysValues]:
    """Softmax attention; where a is 1, by one map for all rows."""
    if state is not None:
        k, v = torch.cat((state.k, k), dim=2), torch.cat((state.v, v), dim=2)
    weights = softmax_map(q, k)
    if len(q) == len(v):
        return weights @ v, KeysValues(k, v)
    rows = weights[0] @ v.permute(1, 2, 0, 3).flatten(2)  # (h n m) (h m be)
    return rows.unflatten(-1, (len(v), -1)).permute(2, 0, 1, 3), KeysValues(k, v)


def softmax_map(
    q: Float[Tensor, "*b n e"], k: Float[Tensor, "*b m e"], *, causal: bool = True
) -> Float[Tensor, "*b n m"]:
    """The map of all pairs; the n queries are the last of the m tokens."""
    logits = q @ k.mT * q.shape[-1] ** -0.5
    n, m = logits.shape[-2:]
    ahead = torch.ones(n, m, dtype=torch.bool, device=q.device).triu(m - n + 1)
    return (logits.masked_fill(ahead, -torch.inf) if causal else logits).softmax(-1)


def nonapprox_map(
    q: Float[Tensor, "*b n e"], k: Float[Tensor, "*b n e"], *, causal: bool = True
) -> Float[Tensor, "*b n n"]:
    """The map of all pairs; q after its silu."""
    return prefix_map(scores(q, k), causal=causal)


OPERATORS: dict[str, Operator] = {
    "taylor": Operator(approx, FeatureSums, taylor_map),
    "per_order": Operator(partial(approx, reading="per_order"), OrderSums, per_order_map),
    "nonapprox": Operator(nonapprox, RunningAverage, nonapprox_map),
    "borrowed_qk": Operator(borrowed_qk, KeysValues, softmax_map),
}


def check_reading(reading: str) -> None:
    """Raise ValueError for a reading there is not."""
    if reading not in get_args(Reading):
        raise ValueError(f"reading='{reading}' must be one of {', '.join(get_args(Reading))}")
