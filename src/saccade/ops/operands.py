"""What a kernel multiplies: q, k, v of a call with its scale and its factored biases folded in.

    scale q k^T + phi_q phi_k^T + values  =  [scale q, phi_q, 1, 0] [k, phi_k, values, 0]^T

Zero columns fill the width up to what fused kernels take (`padded_columns`). A dense bias cannot be folded.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.biases import Bias, BiasSum, LowRank, PerKey
from saccade.core.call import AttentionCall

ALIGN = {"cpu": 2, "cuda": 8}  # columns are a multiple of this


@dataclass(frozen=True, eq=False, kw_only=True)
class Operands:
    """softmax(scale q k^T + dense) v is the call without its mask; dense is None where nothing is left over."""

    q: Float[Tensor, "b h n w"]
    k: Float[Tensor, "b hk m w"]
    v: Float[Tensor, "b hk m dv"]
    scale: float
    dense: Float[Tensor, "#b #h n m"] | None = None


def operands(call: AttentionCall) -> Operands:
    """Fold what can be folded; without biases and with a plain number as scale, q, k, v are the call's own.

    Gradients reach phi and values through the widened operands. Cost: (n + m) (d + r) h copied elements.
    Raises ValueError where the bias lies on another device.
    """
    _check_devices(call)
    factors = [f for f in (_factors(t, call.q.shape[2]) for t in terms(call.bias)) if f is not None]
    dense = _dense(call)
    if not factors:
        return _plain(call, dense)
    columns_q, columns_k = zip(*factors, strict=True)
    q = _beside(call.q * call.scale, columns_q)
    rows, shared = call.k, call.v
    if any(phi.shape[1] not in (1, call.k.shape[1]) for phi in columns_k):  # keys that differ by query head
        rows, shared = (x.repeat_interleave(call.q.shape[1] // x.shape[1], dim=1) for x in (rows, shared))
    return Operands(q=q, k=_beside(rows, columns_k), v=shared, scale=1.0, dense=dense)


def width(call: AttentionCall) -> int:
    """Columns of the folded q and k."""
    d, rank = call.q.shape[-1], sum(_rank(t) for t in terms(call.bias))
    return d if rank == 0 else padded_columns(d + rank, call.q.device)


def terms(bias: Bias | None) -> tuple[Bias, ...]:
    """The summands of a bias."""
    if bias is None:
        return ()
    return bias.terms if isinstance(bias, BiasSum) else (bias,)


def has_dense(bias: Bias | None) -> bool:
    """Whether a term cannot be folded into q and k."""
    return any(not isinstance(t, LowRank | PerKey) for t in terms(bias))


def trains(call: AttentionCall) -> bool:
    """Whether a gradient will be asked of this call."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in (call.q, call.k, call.v))


def too_short(call: AttentionCall, least: int) -> list[str]:
    """Why a kernel made for at least so many queries and keys does not pay; nothing where there are as many."""
    n, m = call.q.shape[2], call.k.shape[2]
    return [f"{n} x {m} tokens; dense is faster below {least}"] if min(n, m) < least else []


def padded_columns(columns: int, device: torch.device) -> int:
    """Columns up to a multiple of what the device's fused kernels need."""
    return columns + -columns % ALIGN.get(device.type, 8)


def padded(x: Float[Tensor, "*b c"], columns: int) -> Float[Tensor, "*b {columns}"]:
    """Zero columns at the end, up to `columns` in all."""
    return x if x.shape[-1] == columns else torch.nn.functional.pad(x, (0, columns - x.shape[-1]))


def _check_devices(call: AttentionCall) -> None:
    for term in terms(call.bias):
        for name in ("phi_q", "phi_k", "values"):
            x = getattr(term, name, None)
            if x is not None and x.device != call.q.device:
                raise ValueError(
                    f"{name} of the bias is on {x.device}, q on {call.q.device}; move the bias to the call's device"
                )


def _plain(call: AttentionCall, dense: Tensor | None) -> Operands:
    if isinstance(call.scale, Tensor):
        return Operands(q=(call.q * call.scale).to(call.q.dtype), k=call.k, v=call.v, scale=1.0, dense=dense)
    return Operands(q=call.q, k=call.k, v=call.v, scale=call.scale, dense=dense)


def _factors(term: Bias, n: int) -> tuple[Tensor, Tensor] | None:
    if isinstance(term, LowRank):
        return term.phi_q, term.phi_k
    if isinstance(term, PerKey):
        values = term.values[..., None]
        return values.new_ones(1, 1, n, 1), values
    return None


def _rank(term: Bias) -> int:
    return term.rank if isinstance(term, LowRank) else int(isinstance(term, PerKey))


def _beside(x: Tensor, columns: tuple[Tensor, ...]) -> Tensor:
    """x and the columns side by side, in x's type; rows past a factor's end (appended keys) get zeros."""
    b, h, n, _ = x.shape
    fitted = [_rows(c.to(x.dtype), n).expand(b, h, n, c.shape[-1]) for c in columns]
    used = x.shape[-1] + sum(c.shape[-1] for c in columns)
    zeros = x.new_zeros(1).expand(b, h, n, padded_columns(used, x.device) - used)
    return torch.cat((x, *fitted, zeros), dim=-1)


def _rows(phi: Tensor, n: int) -> Tensor:
    short = n - phi.shape[2]
    if short < 0:
        raise ValueError(f"a bias over {phi.shape[2]} tokens does not fit a call of {n}; build it for this layout")
    return torch.nn.functional.pad(phi, (0, 0, 0, short)) if short else phi


def _dense(call: AttentionCall) -> Tensor | None:
    rest = [t for t in terms(call.bias) if not isinstance(t, LowRank | PerKey)]
    if not rest:
        return None
    n, m = call.q.shape[2], call.k.shape[2]
    whole = sum((t.materialize(n, m) for t in rest[1:]), start=rest[0].materialize(n, m))
    return whole.to(call.q.dtype)
