"""A few columns of the attention map, with the normaliser of the whole row and without the rest of the map.

a[i, j] = exp(scale q_i k_j + bias[i, j] - lse_i) for chosen keys j; lse comes from the kernel that made the output.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.core.biases import Bias, LowRank, PerKey
from saccade.core.call import AttentionCall
from saccade.ops.operands import terms

Queries = slice | Int[Tensor, "#b r"]  # a run, or some chosen once or by batch row
HELD = 1 << 24  # scores held at once while a span of keys is summed


def key_columns(
    call: AttentionCall, lse: Float[Tensor, "b h r"], keys: Int[Tensor, "#b c"], queries: Queries
) -> Float[Tensor, "b h r c"]:
    """Attention of queries, whose lse is given, to keys chosen once or by batch row.

    Shares of the whole row in float32 (float64 for float64), 0 where nothing is seen. Cost: 2 b h r c d FLOPs.
    """
    shares = torch.exp(key_scores(call, keys, queries) - lse[..., None])
    return shares.masked_fill(lse[..., None] == -torch.inf, 0.0)


def key_scores(call: AttentionCall, keys: Int[Tensor, "#b c"], queries: Queries) -> Float[Tensor, "b h r c"]:
    """Scores of queries with chosen keys, -inf where unseen."""
    q, k = fine(_of(call.q, queries)), fine(_chosen(call.k, keys))
    scores = q @ k.repeat_interleave(q.shape[1] // k.shape[1], dim=1).mT * call.scale
    for term in terms(call.bias):
        scores = scores + _bias(term, call, keys, queries)
    allowed = allowed_pairs(call, keys, queries)
    return scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)


def span_lse(call: AttentionCall, keys: slice, queries: Queries) -> Float[Tensor, "b h r"]:
    """log of the summed exp scores over one span of keys alone, a run of queries at a time."""
    at = torch.arange(keys.start, keys.stop, device=call.q.device)[None]
    step = max(HELD // (call.q.shape[0] * call.q.shape[1] * max(at.shape[1], 1)), 1)
    if not isinstance(queries, slice):
        runs: list[Queries] = [*queries.split(step, dim=1)]
    else:
        starts = range(queries.start, queries.stop, step)
        runs = [slice(start, min(start + step, queries.stop)) for start in starts]
    return torch.cat([torch.logsumexp(key_scores(call, at, run), dim=-1) for run in runs], dim=2)


def _bias(term: Bias, call: AttentionCall, keys: Int[Tensor, "#b c"], queries: Queries) -> Float[Tensor, "#b #h #r c"]:
    """The bias of these pairs."""
    m = call.k.shape[2]
    if isinstance(term, LowRank):
        return fine(_of(term.phi_q, queries)) @ fine(_chosen(_grown(term.phi_k, m), keys)).mT
    values = term.values[:, :, None] if isinstance(term, PerKey) else _of(term.materialize(call.q.shape[2], m), queries)
    return fine(_chosen(_grown(values.mT, m), keys)).mT


def _chosen(x: Float[Tensor, "_ h m d"], keys: Int[Tensor, "_ c"]) -> Float[Tensor, "_ h c d"]:
    if keys.shape[0] == 1:
        return x[:, :, keys[0]]
    x = x.expand(keys.shape[0], -1, -1, -1)
    return x.gather(2, keys[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))


def _grown(x: Float[Tensor, "b h m d"], m: int) -> Float[Tensor, "b h {m} d"]:
    """Zeros for keys appended past the end of a bias."""
    return torch.nn.functional.pad(x, (0, 0, 0, m - x.shape[2]))


def _of(x: Float[Tensor, "_ h n d"], queries: Queries) -> Float[Tensor, "_ h r d"]:
    return x[:, :, queries] if isinstance(queries, slice) else _chosen(x, queries)


def allowed_pairs(call: AttentionCall, keys: Int[Tensor, "#b c"], queries: Queries) -> Bool[Tensor, "#b #h r c"] | None:
    """Which of these pairs the mask lets pass, by its rule alone; None for all of them."""
    if call.mask is None:
        return None
    device = call.q.device
    batch = torch.arange(call.q.shape[0], device=device)[:, None, None, None]
    heads = torch.arange(call.q.shape[1], device=device)[:, None, None]
    rows = torch.arange(queries.start, queries.stop, device=device)[None] if isinstance(queries, slice) else queries
    names, permits = call.mask.rule(call.layout_q, call.layout_k, device)
    at = (batch, heads, rows[:, None, :, None], keys[:, None, None])
    return ~names(*at) | permits(*at)


def fine(x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
