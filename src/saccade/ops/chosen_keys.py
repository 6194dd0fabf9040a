"""Attention of each query to the groups of keys chosen for it, head by head: the map of pairs is never held.

Group by group, the queries that chose it are gathered, head after head, in blocks of `BLOCK`; each block attends to the
group's keys, and what a query gets from each of its groups is merged by lse in single precision. Backward goes the same
way with the merged lse, which gives the gradient of the one softmax over all keys chosen. One operator to autograd and
to graphs. On a CPU, once `native` is warm, forward is its work (`native_chosen`), without copies and merging.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.core.call import plain_call
from saccade.core.masks import KeyPadding
from saccade.core.partial import Partial, merge
from saccade.ops import native_chosen
from saccade.ops.dispatch import attend

BLOCK = 128  # queries that share one copy of a group's keys
ROOM = 1 << 24  # numbers in the keys copied at once


def attend_chosen(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b hk m d"],
    v: Float[Tensor, "b hk m dv"],
    chosen: Bool[Tensor, "b h g n"],
    order: Int[Tensor, " r"],
    sizes: tuple[int, ...],
    scale: float,
    keep: Bool[Tensor, "#b m"] | None = None,
) -> Partial:
    """softmax(scale q k^T) v over the keys of the chosen groups; out and lse in float32 at least.

    chosen   which groups each query attends to
    order    the keys, group after group; those in none are seen by nobody
    sizes    how many keys each group has, in turn
    keep     keys that are not padded
    A query without a key gets 0 and lse -inf. Cost: 2 (d + dv) FLOPs a chosen pair, and a copy of a group's keys for
    every `BLOCK` queries. Raises ValueError where sizes, order and chosen do not fit.
    """
    if len(sizes) != chosen.shape[2] or sum(sizes) != len(order):
        raise ValueError(
            f"sizes={sizes} must be one for each of the {chosen.shape[2]} groups chosen from, and sum to the "
            f"{len(order)} keys in order"
        )
    return Partial(*_chosen_keys(q, k, v, chosen, order, list(sizes), scale, keep))


@dataclass(frozen=True, eq=False)
class Work:
    """Blocks of queries that attend to the same group.

    keys    of the group
    rows    of the queries, numbered over batch rows and heads; a block is filled up with its last
    into    where their results go: each row once, and what fills up to a row of its own after all others
    heads   of the keys, numbered over batch rows
    """

    keys: Int[Tensor, " l"]
    rows: Int[Tensor, " q"]
    into: Int[Tensor, " q"]
    heads: Int[Tensor, " B"]


def _work(chosen: Tensor, order: Tensor, sizes: list[int], width: int, ratio: int) -> Iterator[Work]:
    """All the work, group by group, in pieces whose keys fit the room; `ratio` query heads share a key head."""
    b, h, groups, n = chosen.shape
    found = chosen.permute(2, 0, 1, 3).flatten().nonzero()[:, 0]
    counts = (found // n).bincount(minlength=groups * b * h).view(groups, b * h)
    ends = counts.sum(1).cumsum(0).tolist()
    for group, keys in enumerate(order.split(sizes)):
        listed = found[ends[group - 1] if group else 0 : ends[group]] % (b * h * n)
        places, real, heads = _in_blocks(counts[group])
        rows = listed.index_select(0, places.flatten()).view(places.shape)
        into = torch.where(real, rows, b * h * n)
        piece = max(ROOM // (len(keys) * width), 1)
        for at, to, head in zip(rows.split(piece), into.split(piece), heads.split(piece), strict=True):
            if len(at):
                yield Work(keys, at.flatten(), to.flatten(), head // ratio)


def _in_blocks(counts: Int[Tensor, " r"]) -> tuple[Tensor, Tensor, Tensor]:
    """Places (B s) in a list with `counts` entries a head, each block of one head; which are real; the heads."""
    blocks = (counts + BLOCK - 1) // BLOCK
    head = torch.arange(len(counts), device=counts.device).repeat_interleave(blocks)
    nth = torch.arange(len(head), device=counts.device) - (blocks.cumsum(0) - blocks)[head]
    within = nth[:, None] * BLOCK + torch.arange(BLOCK, device=counts.device)
    real = within < counts[head][:, None]
    return (counts.cumsum(0) - counts)[head][:, None] + within.minimum(counts[head][:, None] - 1), real, head


def _fine(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _rows(x: Tensor) -> Tensor:
    """(b h n d) -> (b h n, d)."""
    return x.reshape(-1, x.shape[-1])


def _queries(x: Tensor, work: Work) -> Float[Tensor, "B s d"]:
    """The rows of each block."""
    return x.index_select(0, work.rows).unflatten(0, (-1, BLOCK))


def _keys(x: Tensor, work: Work) -> Float[Tensor, "B l d"]:
    """The group's keys or values, for each block those of its head."""
    return x.index_select(2, work.keys).flatten(0, 1).index_select(0, work.heads)


def _real(work: Work) -> Bool[Tensor, "B s 1"]:
    """What does not merely fill up."""
    return (work.rows == work.into).view(-1, BLOCK, 1)


def _open(keep: Tensor | None, work: Work, heads: int) -> Bool[Tensor, "B l"] | None:
    if keep is None:
        return None
    return keep[:, work.keys][work.heads // heads * (len(keep) > 1)]


@torch.library.custom_op(
    "saccade::chosen_keys",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor chosen, Tensor order, int[] sizes, float scale, Tensor? keep) -> "
    "(Tensor, Tensor)",
)
def _chosen_keys(
    q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, order: Tensor, sizes: list[int], scale: float, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    if native_chosen.takes(q):
        return native_chosen.attend_groups(q, k, v, chosen, order, sizes, scale, keep)
    out = torch.zeros(q.shape[:3].numel() + 1, v.shape[-1], dtype=_fine(q), device=q.device)
    lse = torch.full((len(out),), -torch.inf, dtype=_fine(q), device=q.device)
    queries = _rows(q)
    for work in _work(chosen, order, sizes, q.shape[-1] + v.shape[-1], q.shape[1] // k.shape[1]):
        blocks = _queries(queries, work), _keys(k, work), _keys(v, work)
        more = _attended(*blocks, scale, _open(keep, work, k.shape[1]))
        own = Partial(*(x.index_select(0, work.rows)[None, None] for x in (out, lse)))
        both = merge(own, more)
        assert both.lse is not None
        out.index_copy_(0, work.into, both.out[0, 0])
        lse.index_copy_(0, work.into, both.lse[0, 0])
    return out[:-1].view(*q.shape[:3], -1), lse[:-1].view(q.shape[:3])


def _attended(q: Tensor, k: Tensor, v: Tensor, scale: float, open_: Tensor | None) -> Partial:
    """Dense attention of each block, as one row of queries (1 1 q d)."""
    mask = None if open_ is None else KeyPadding(open_)
    found = attend(plain_call(q[:, None], k[:, None], v[:, None], scale=scale, mask=mask), want_lse=True)
    assert found.lse is not None
    return Partial(*(x.flatten(0, 2)[None, None].to(_fine(q)) for x in (found.out, found.lse)))


@_chosen_keys.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, order: Tensor, sizes: list[int], scale: float, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    return q.new_empty(*q.shape[:3], v.shape[-1], dtype=_fine(q)), q.new_empty(q.shape[:3], dtype=_fine(q))


@torch.library.custom_op(
    "saccade::chosen_keys_backward",
    mutates_args=(),
    schema="(Tensor d_out, Tensor d_lse, Tensor q, Tensor k, Tensor v, Tensor chosen, Tensor order, int[] sizes, "
    "float scale, Tensor? keep, Tensor out, Tensor lse) -> (Tensor, Tensor, Tensor)",
)
def _backward(
    d_out: Tensor, d_lse: Tensor, q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, order: Tensor, sizes: list[int],
    scale: float, keep: Tensor | None, out: Tensor, lse: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dS = P (dO V^T + d_lse - rowsum(dO O)), P by the merged lse."""
    dq, dk, dv = (torch.zeros_like(x, dtype=_fine(x), memory_format=torch.contiguous_format) for x in (q, k, v))
    shift = (d_lse - (d_out * out).sum(-1)).reshape(-1, 1)
    queries, outs, masses = _rows(q), _rows(d_out), lse.reshape(-1, 1)
    for work in _work(chosen, order, sizes, q.shape[-1] + v.shape[-1], q.shape[1] // k.shape[1]):
        keys, values = _keys(k, work).to(dk.dtype), _keys(v, work).to(dv.dtype)
        own, up = _queries(queries, work).to(dq.dtype), _queries(outs, work)
        shares = (own @ keys.mT * scale - _queries(masses, work)).exp() * _real(work)
        if (open_ := _open(keep, work, k.shape[1])) is not None:
            shares = torch.where(open_[:, None], shares, 0.0)  # a query without a key has lse -inf
        scores = shares * (up @ values.mT + _queries(shift, work)) * scale
        _rows(dq).index_add_(0, work.rows, (scores @ keys).flatten(0, 1))
        for whole, part in ((dk, scores.mT @ own), (dv, shares.mT @ up)):
            by_head = part.new_zeros(whole.shape[:2].numel(), *part.shape[1:]).index_add_(0, work.heads, part)
            whole.index_add_(2, work.keys, by_head.view(*whole.shape[:2], *part.shape[1:]))
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)


@_backward.register_fake
def _(
    d_out: Tensor, d_lse: Tensor, q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, order: Tensor, sizes: list[int],
    scale: float, keep: Tensor | None, out: Tensor, lse: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, chosen, order, ctx.sizes, ctx.scale, keep = inputs
    ctx.save_for_backward(q, k, v, chosen, order, keep, *output)


def _pass_back(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, chosen, order, keep, out, lse = ctx.saved_tensors
    found = _backward(d_out, d_lse, q, k, v, chosen, order, ctx.sizes, ctx.scale, keep, out, lse)
    return *found, *[None] * 5


_chosen_keys.register_autograd(_pass_back, setup_context=_remember)
