"""The truth: every step written out in float64, one batch row and head at a time. Never optimised."""

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.partial import Partial
from saccade.ops.split_mask import split_mask, token_map

NAME = "reference"


def refuses(call: AttentionCall, *, want_lse: bool = False) -> list[str]:
    """Nothing is refused; dispatch leaves it alone unless it is asked for by name."""
    return []


def unprofitable(call: AttentionCall) -> list[str]:
    """An oracle is never the fast way."""
    return ["an oracle in float64; ask for it by name"]


def ready(call: AttentionCall) -> None:
    """Prepare the token map."""
    token_map(call, split_mask(call))


def run(call: AttentionCall, *, want_lse: bool = False) -> Partial:
    """softmax(scale q k^T + bias) v over the allowed pairs; out in q's type, lse float32 (float64 for float64).

    A query left without a key, which only padding can do, gives out 0 and lse -inf. Cost: float64 n x m per head.
    """
    scores = _scores(call)
    lse = torch.logsumexp(scores, dim=-1)
    weights = torch.where(lse[..., None] == -torch.inf, 0.0, torch.exp(scores - _finite(lse)[..., None]))
    out = weights @ _per_query_head(call.v, call.q.shape[1])
    kept = lse if call.q.dtype == torch.float64 else lse.float()
    return Partial(out.to(call.q.dtype), kept if want_lse else None)


def flops(call: AttentionCall) -> int:
    """2 b h n m (d + dv)."""
    b, h, n, d = call.q.shape
    return 2 * b * h * n * call.k.shape[2] * (d + call.v.shape[-1])


def bytes(call: AttentionCall) -> int:
    """Operands and output once, scores and weights twice each, in float64."""
    b, h, n, _ = call.q.shape
    m, dv = call.v.shape[2:]
    return 8 * (call.q.numel() + call.k.numel() + call.v.numel() + b * h * n * dv + 4 * b * h * n * m)


def _scores(call: AttentionCall) -> Float[Tensor, "b h n m"]:
    q, k = call.q.double(), _per_query_head(call.k, call.q.shape[1])
    scores = q @ k.transpose(-1, -2) * call.scale
    if call.bias is not None:
        scores = scores + call.bias.materialize(scores.shape[2], scores.shape[3]).double()
    seen = split_mask(call)
    allowed = token_map(call, seen)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    if seen.keep is not None:
        scores = scores.masked_fill(~seen.keep[:, None, None, :], -torch.inf)
    return scores


def _per_query_head(x: Float[Tensor, "b hk m d"], heads: int) -> Float[Tensor, "b h m d"]:
    return x.double().repeat_interleave(heads // x.shape[1], dim=1)


def _finite(lse: Tensor) -> Tensor:
    return lse.masked_fill(lse == -torch.inf, 0.0)
