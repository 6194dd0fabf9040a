"""What a weakened attention map A' gives, A'V, without forming the map: five families, three scopes.

Every family replaces scores of some queries with some keys, then takes one softmax over all keys the query sees:

    identity      the query's own key alone keeps its score
    uniform       all scores 0, as from a query of zeros: every key alike
    query_mean    the scores of the mean query, the same for every query
    max           the best key alone keeps its score
    temperature   the scores over tau

"all" takes all queries and keys, "image_rows" queries of the image and all keys, "image_block" pairs within the image:
text keys keep their scores, so two partial results are merged by their log-sum-exps. Where one softmax is over replaced
scores alone, these are A' = I, U, softmax(q_mean K^T), onehot(argmax A), softmax(log A / tau).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.biases import Bias, LowRank, PerKey
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.partial import Partial, merge
from saccade.ops import attend
from saccade.ops.columns import HELD, fine, key_scores
from saccade.ops.operands import terms
from saccade.ops.split_mask import key_padding

Kind = Literal["identity", "uniform", "query_mean", "max", "temperature"]
Scope = Literal["image_block", "image_rows", "all"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SCOPES: tuple[Scope, ...] = get_args(Scope)
Out = Float[Tensor, "b h r d"]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Spans of a sequence: queries that are weakened, keys whose scores they lose, and the other keys they see."""

    queries: slice
    keys: slice
    others: tuple[slice, ...] = ()


def pairs_of(scope: Scope, layout_q: Layout, layout_k: Layout) -> Pairs:
    """What a scope takes.

    Raises ValueError for an image scope where there is not one image grid.
    """
    everything = slice(0, layout_k.n)
    if scope == "all":
        return Pairs(queries=slice(0, layout_q.n), keys=everything)
    queries = layout_q.span(layout_q.image.name)
    if scope == "image_rows":
        return Pairs(queries=queries, keys=everything)
    keys = layout_k.span(layout_k.image.name)
    around = (slice(0, keys.start), slice(keys.stop, layout_k.n))
    return Pairs(queries=queries, keys=keys, others=tuple(span for span in around if span.start < span.stop))


def perturbed(call: AttentionCall, kind: Kind, pairs: Pairs, tau: float = 1.0) -> Out:
    """A'V of the weakened queries; mask and bias of the call hold, as far as a score has a query and a key of its own.

    A uniform map and that of the mean query are one row for all queries, as published: they see every key that is no
    padding, whatever other masks there are. Cost: identity r + r o, uniform and query_mean m + r o, max r m + r o
    scores, with r queries, m keys and o other keys; temperature one attention more.
    """
    if kind == "temperature":
        return _tempered(call, pairs, tau)
    block = REPLACED[kind](call, pairs)
    if not pairs.others:
        return block.out
    return merge(block, _seen_in_full(call, pairs)).out


def _own_key(call: AttentionCall, pairs: Pairs) -> Partial:
    """Keys stand where their queries do; what is appended comes after."""
    at = pairs.queries
    scores = (fine(call.q[:, :, at]) * fine(call.k[:, :, at])).sum(-1) * call.scale
    for term in terms(call.bias):
        scores = scores + _diagonal(term, call)[:, :, at]
    return Partial(call.v[:, :, at], scores)


def _zero_query(call: AttentionCall, pairs: Pairs) -> Partial:
    return _one_row(call, pairs, torch.zeros_like(call.q[:, :, :1]))


def _mean_query(call: AttentionCall, pairs: Pairs) -> Partial:
    """Of queries that are no padding; where tokens are queries and keys, their masks are alike."""
    q = call.q[:, :, pairs.queries]
    keep = key_padding(call.mask, call.k.shape[2])
    if keep is None:
        return _one_row(call, pairs, q.mean(2, keepdim=True))
    real = keep[:, None, pairs.queries, None].to(q.dtype)
    return _one_row(call, pairs, (q * real).sum(2, keepdim=True) / real.sum(2, keepdim=True).clamp(min=1))


def _one_row(call: AttentionCall, pairs: Pairs, query: Float[Tensor, "b h 1 d"]) -> Partial:
    """What one query sees of the keys, for all queries."""
    scores = fine(query) @ fine(call.k[:, :, pairs.keys]).mT * call.scale
    for term in terms(call.bias):
        if isinstance(term, PerKey):
            scores = scores + fine(term.values)[:, :, None, pairs.keys]
    keep = key_padding(call.mask, call.k.shape[2])
    if keep is not None:
        scores = scores.masked_fill(~keep[:, None, None, pairs.keys], -torch.inf)
    lse = torch.logsumexp(scores, dim=-1)
    out = _weighed(scores, lse, call.v[:, :, pairs.keys])
    rows = pairs.queries.stop - pairs.queries.start
    return Partial(out.expand(-1, -1, rows, -1), lse.expand(-1, -1, rows))


def _best_key(call: AttentionCall, pairs: Pairs) -> Partial:
    """A run of queries at a time."""
    keys, v = _numbers(call, pairs.keys), call.v[:, :, pairs.keys]

    def best(run: slice) -> Partial:
        top, at = key_scores(call, keys, run).max(-1)
        return Partial(v.gather(2, at[..., None].expand(-1, -1, -1, v.shape[-1])), top)

    return _in_runs(call, pairs.queries, keys.shape[1], best)


def _seen_in_full(call: AttentionCall, pairs: Pairs) -> Partial:
    """Attention to the keys that keep their scores, a run of queries at a time."""
    keys = torch.cat([_numbers(call, span) for span in pairs.others], dim=1)
    v = torch.cat([call.v[:, :, span] for span in pairs.others], dim=2)

    def seen(run: slice) -> Partial:
        scores = key_scores(call, keys, run)
        lse = torch.logsumexp(scores, dim=-1)
        return Partial(_weighed(scores, lse, v), lse)

    return _in_runs(call, pairs.queries, keys.shape[1], seen)


def _tempered(call: AttentionCall, pairs: Pairs, tau: float) -> Out:
    """Keys within the scope shrunk by tau, so that every mask and kernel serves; a bias stays as large as it is."""
    at = pairs.keys
    k = torch.cat((call.k[:, :, : at.start], call.k[:, :, at] / tau, call.k[:, :, at.stop :]), dim=2)
    return attend(call.replace(k=k)).out[:, :, pairs.queries]


def _in_runs(call: AttentionCall, queries: slice, keys: int, part: Callable[[slice], Partial]) -> Partial:
    step = max(HELD // (call.q.shape[0] * call.q.shape[1] * keys), 1)
    found = [part(slice(i, min(i + step, queries.stop))) for i in range(queries.start, queries.stop, step)]
    lses = [one.lse for one in found if one.lse is not None]
    return Partial(torch.cat([one.out for one in found], dim=2), torch.cat(lses, dim=2))


def _weighed(scores: Tensor, lse: Tensor, v: Tensor) -> Tensor:
    """softmax(scores) v, 0 where nothing is seen."""
    shares = torch.exp(scores - lse[..., None]).masked_fill(lse[..., None] == -torch.inf, 0.0)
    return (shares.to(v.dtype) @ v).to(v.dtype)


def _diagonal(term: Bias, call: AttentionCall) -> Float[Tensor, "b h n"]:
    """The bias of each query with its own key."""
    n, m = call.q.shape[2], call.k.shape[2]
    if isinstance(term, LowRank):
        return (fine(term.phi_q) * fine(term.phi_k[:, :, :n])).sum(-1)
    if isinstance(term, PerKey):
        return fine(term.values)[:, :, :n]
    return fine(term.materialize(n, m)[:, :, :, :n].diagonal(dim1=2, dim2=3))


def _numbers(call: AttentionCall, span: slice) -> Int[Tensor, "1 c"]:
    return torch.arange(span.start, span.stop, device=call.q.device)[None]


REPLACED: dict[str, Callable[[AttentionCall, Pairs], Partial]] = {
    "identity": _own_key,
    "uniform": _zero_query,
    "query_mean": _mean_query,
    "max": _best_key,
}
