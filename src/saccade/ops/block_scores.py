"""How much attention each block of queries gives to each block of keys, without ever holding an n x m map.

Some queries at a time, as many as `ROOM` has bytes for: their probabilities, in float32, are summed by key block. A
second softmax over some of the key blocks alone shares its exponentials with the first; every part has a shift of its
own, so neither underflows. A few queries of each block, spread evenly, stand for all where the scores must cost little.
`block_mass` measures the same by an lse that is given, such as one of an earlier step, in one pass over the scores.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.core.biases import PerKey
from saccade.core.call import AttentionCall
from saccade.ops.operands import Operands, has_dense, operands, terms
from saccade.ops.remembered import constant
from saccade.ops.split_mask import MaskParts, additive, split_mask, token_map

ROOM = {"cpu": 1 << 22, "cuda": 1 << 28}  # bytes of scores held at once: on a CPU what its cache holds
SIDE = 128  # queries of one head multiplied at once, before another head's are
KEYS = 4096  # keys they are multiplied by at once
SHUT = -1e4  # a bias at or below it closes a key, as hosts write padding
LOW = -1e30  # the least shift of a softmax, so that a row without keys stays zero
FAR = 64.0  # how far scores may lie above an lse that is given before their exp is cut, so that no sum is infinite


@dataclass(frozen=True, eq=False)
class BlockScores:
    """Mean probability of each pair of blocks, short ones filled up with zeros.

    whole   (b h Q K) of the softmax over all keys
    apart   (b h Q K) of the softmax over the keys of the blocks set apart; zero elsewhere
    open    (b|1 K) blocks with a key that is not padding
    """

    whole: Float[Tensor, "b h Q K"]
    apart: Float[Tensor, "b h Q K"]
    open: Bool[Tensor, "#b K"]


@dataclass(frozen=True, eq=False)
class _Keys:
    """Keys by block, those set apart last.

    order: block numbers as laid out; first: how many come before those set apart; shut: -inf for padding and for what
    fills the last block, else 0.
    """

    k: Float[Tensor, "g m w"]
    order: tuple[int, ...]
    first: int
    shut: Float[Tensor, "#b m"]


@torch.no_grad()
def block_scores(call: AttentionCall, block: int, apart: Sequence[bool], queries: int | None = None) -> BlockScores:
    """Scores of self-attention, in blocks of `block` of the queries' own tokens; `apart` marks key blocks.

    queries: how many of each block are scored, spread evenly; None for all of them. Keys appended after the queries'
    own are left out. Padded keys get nothing, and where queries are the same tokens padded queries do not count.
    Cost: 2 b h n^2 (w + 2) FLOPs times the share of the queries. Memory: `ROOM`, at least one row of scores, and what
    is returned.
    Raises ValueError below 1 query.
    """
    sums = _by_block(call, block, apart, queries) / block
    return BlockScores(sums[0], sums[1], open_blocks(unpadded(call), block))


@torch.no_grad()
def block_mass(
    call: AttentionCall, lse: Float[Tensor, "b h n"], block: int, queries: int | None = None
) -> Float[Tensor, "b h Q K"]:
    """Sums of exp(score - lse of the query) over each pair of blocks, by the lse that is given.

    By the call's own lse each row of blocks sums to the number of real queries in it; by that of other operands it need
    not. Padding, short blocks, masks, biases, `queries` and cost are those of `block_scores`.
    Raises ValueError below 1 query.
    """
    apart = [False] * -(-call.q.shape[2] // block)
    return _by_block(call, block, apart, queries, lse)[0] * block


def _by_block(
    call: AttentionCall,
    block: int,
    apart: Sequence[bool],
    queries: int | None,
    lse: Float[Tensor, "b h n"] | None = None,
) -> Float[Tensor, "2 b h Q K"] | Float[Tensor, "1 b h Q K"]:
    """Sums over key blocks, means over the queries of a block: over all keys and, without an lse, those set apart."""
    if queries is not None and queries < 1:
        raise ValueError(f"queries={queries} must be at least 1 of each block; None scores all")
    b, h, n = call.q.shape[:3]
    folded, seen = operands(call), split_mask(call)
    keep = unpadded(call)
    keys = _laid_out(folded, keep, h, block, apart)
    counted = keep.to(keys.shut.dtype).expand(b, n).repeat_interleave(h, 0)
    q = folded.q.flatten(0, 1)
    shut = None if n % block == 0 and _all_open(call, seen) else keys.shut.expand(b, -1).repeat_interleave(h, 0)
    places, weight = _scored(n, block, queries, counted)
    masked = seen.fixed is not None or seen.loose is not None or has_dense(call.bias)
    step = _step(len(q), places.shape[1], keys, block, masked)
    logs = None if lse is None else lse.to(counted.dtype).flatten(0, 1)

    def rows(at: Int[Tensor, "r s"], weight: Float[Tensor, "r s"]) -> Float[Tensor, "p g r K"]:
        flat = at.flatten()
        added = _added(call, seen, folded, flat, keys, block)
        counts = (counted[:, flat] * weight.flatten()).unflatten(1, at.shape)
        given = None if logs is None else logs[:, flat].unflatten(1, at.shape)
        return _rows(q[:, flat], counts, given, keys, shut, added, folded.scale, block, step.heads)

    pieces = [
        sum(map(rows, at.split(step.queries, dim=1), part.split(step.queries, dim=1)))
        for at, part in zip(places.split(step.blocks), weight.split(step.blocks), strict=True)
    ]
    back = constant(_inverse(keys.order), q.device)
    sums = torch.cat([torch.as_tensor(piece) for piece in pieces], dim=2)[..., back].unflatten(1, (b, h))
    return sums / places.shape[1]


def unpadded(call: AttentionCall) -> Bool[Tensor, "#b n"]:
    """Which of the queries' own tokens are not padding, by a mask or by a bias that closes keys."""
    keep, n = split_mask(call).keep, call.q.shape[2]
    keep = torch.ones(1, n, dtype=torch.bool, device=call.q.device) if keep is None else keep[:, :n]
    for bias in terms(call.bias):
        if isinstance(bias, PerKey):
            keep = keep & (bias.values[:, :, :n] > SHUT).any(1)
    return keep


def open_blocks(keep: Bool[Tensor, "#b n"], block: int) -> Bool[Tensor, "#b K"]:
    """Blocks with one of these tokens."""
    return torch.nn.functional.pad(keep, (0, -keep.shape[1] % block)).unflatten(1, (-1, block)).any(-1)


def _scored(n: int, block: int, queries: int | None, like: Tensor) -> tuple[Int[Tensor, "Q s"], Float[Tensor, "Q s"]]:
    """Numbers of the queries scored, and how much each counts: 0 for what fills a short block up."""
    first = torch.arange(0, n, block, device=like.device)[:, None]
    if queries is None or queries >= block:
        places = first + torch.arange(block, device=like.device)
        return places.clamp(max=n - 1), (places < n).to(like)
    length = (n - first).clamp(max=block)
    spread = (2 * torch.arange(queries, device=like.device) + 1) * length // (2 * queries)
    return first + spread, (length.to(like) / block).expand(-1, queries)


@dataclass(frozen=True)
class _Step:
    """What is scored at once: blocks of queries, queries of each, heads (batch rows times heads)."""

    blocks: int
    queries: int
    heads: int


def _step(heads: int, queries: int, keys: _Keys, block: int, masked: bool) -> _Step:
    """As much as there is room for; where a map or bias is added, it is made for all heads at once."""
    together = masked or torch.compiler.is_compiling()
    width = keys.k.shape[1] * heads if together else min(keys.k.shape[1], _chunk(block))
    device = keys.k.device.type
    room = max(ROOM[device if device in ROOM else "cuda"] // (width * keys.shut.element_size()), 1)
    some = min(queries, room)
    blocks = max(min(room, SIDE) // some, 1)
    return _Step(blocks, some, heads if together else max(room // (blocks * some), 1))


def _rows(
    q: Float[Tensor, "g rs w"], counted: Float[Tensor, "g r s"], given: Float[Tensor, "g r s"] | None, keys: _Keys,
    shut: Float[Tensor, "g m"] | None, added: Float[Tensor, "g rs m"] | None, scale: float, block: int, heads: int,
) -> Float[Tensor, "p g r K"]:  # fmt: skip
    """The sums of r query blocks, some heads at a time; see `_sums`."""
    half = q.dtype != counted.dtype  # scaled where no bits are lost
    q = q if half else q * scale
    pieces: list[Tensor] = []
    for at in _slices(0, len(q), heads):

        def scores(part: slice, at: slice = at) -> Float[Tensor, "g r s m"]:
            s = torch.bmm(q[at], keys.k[at, part].mT)
            s = s.to(counted.dtype).mul_(scale) if half else s
            for term in (None if shut is None else shut[at, None, part], None if added is None else added[at, :, part]):
                s = s if term is None else s.add_(term)
            return s.unflatten(1, counted.shape[1:])

        pieces.append(_sums(scores, counted[at], None if given is None else given[at], keys, block))
    return torch.cat(pieces, dim=1)


def _sums(
    scores: Callable[[slice], Tensor], counted: Float[Tensor, "g r s"], given: Float[Tensor, "g r s"] | None,
    keys: _Keys, block: int,
) -> Float[Tensor, "p g r K"]:  # fmt: skip
    """Part by part exp(s - shift) in place, summed by key block; then what is sought, by weights of the queries.

    It is the softmax over all keys and that over those set apart, or exp(s - lse) by the lse that is given.
    """
    step, split, end = _chunk(block), keys.first * block, keys.k.shape[1]
    parts = [*_slices(0, split, step), *_slices(split, end, step)]
    tops: list[Tensor] = []
    inside: list[Tensor] = []
    for part in parts:
        s = scores(part)
        tops.append(s.amax(-1).clamp_(min=LOW))
        inside.append(s.sub_(tops[-1][..., None]).exp_().unflatten(-1, (-1, block)).sum(-1))
    if given is not None:
        return _weighted(tops, inside, given, counted, most=FAR)[None]
    logs = torch.stack([top + mass.sum(-1).log() for top, mass in zip(tops, inside, strict=True)])
    whole = _weighted(tops, inside, _total(logs), counted)
    first = -(-keys.first * block // step)
    apart = whole * 0 if first == len(tops) else _weighted(tops, inside, _total(logs[first:]), counted, first)
    return torch.stack((whole, apart))


def _total(logs: Float[Tensor, "p g r s"]) -> Float[Tensor, "g r s"]:
    return logs.logsumexp(0).clamp(min=2 * LOW)


def _weighted(
    tops: list[Tensor], inside: list[Tensor], lse: Float[Tensor, "g r s"], counted: Tensor, first: int = 0,
    most: float = 0.0,
) -> Float[Tensor, "g r K"]:  # fmt: skip
    """Sums over queries of exp(s - lse) over the parts from number `first` on; zero in the parts before."""
    weights = [counted * (top - lse).clamp(max=most).exp() * (at >= first) for at, top in enumerate(tops)]
    return torch.cat([(w[..., None, :] @ mass)[..., 0, :] for w, mass in zip(weights, inside, strict=True)], dim=-1)


def _laid_out(folded: Operands, keep: Tensor, heads: int, block: int, apart: Sequence[bool]) -> _Keys:
    n, device = keep.shape[1], folded.q.device
    order = tuple(sorted(range(len(apart)), key=lambda j: apart[j]))
    k = folded.k[:, :, :n].repeat_interleave(heads // folded.k.shape[1], dim=1).flatten(0, 1)
    shut = torch.zeros(keep.shape, dtype=_fine(folded.q), device=device).masked_fill_(~keep, -torch.inf)
    grow = len(apart) * block - n
    k = torch.nn.functional.pad(k, (0, 0, 0, grow))
    shut = torch.nn.functional.pad(shut, (0, grow), value=-torch.inf)
    k, shut = (_reordered(x, order, block, dim=1) for x in (k, shut))
    return _Keys(k, order, len(apart) - sum(apart), shut)


def _reordered(x: Tensor, order: tuple[int, ...], block: int, dim: int) -> Tensor:
    """The blocks along `dim` in another order; x itself where they keep theirs."""
    if order == tuple(range(len(order))):
        return x
    return x.unflatten(dim, (-1, block)).index_select(dim, constant(order, x.device)).flatten(dim, dim + 1)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=lambda j: order[j]))


def _all_open(call: AttentionCall, seen: MaskParts) -> bool:
    """Whether no key can be padding, whatever the tensors hold."""
    return seen.keep is None and not any(isinstance(bias, PerKey) for bias in terms(call.bias))


def _added(
    call: AttentionCall, seen: MaskParts, folded: Operands, at: Tensor, keys: _Keys, block: int
) -> Float[Tensor, "g s m"] | None:
    """What masks other than padding and dense biases add to some rows of scores; None where there is nothing."""
    b, h, n = call.q.shape[:3]
    allowed, dense = _allowed(call, seen, at), folded.dense
    if dense is not None:
        dense = dense[:, :, at if dense.shape[2] > 1 else slice(None)].to(keys.shut.dtype)
    whole = additive(allowed, None, dense, keys.shut.dtype)
    if whole is None:
        return None
    rows = whole[..., :n].expand(b, h, -1, n).flatten(0, 1)
    rows = torch.nn.functional.pad(rows, (0, keys.k.shape[1] - n))
    return _reordered(rows, keys.order, block, dim=2)


def _allowed(call: AttentionCall, seen: MaskParts, at: Tensor) -> Bool[Tensor, "#b #h s m"] | None:
    if seen.fixed is not None and not torch.compiler.is_compiling():
        return seen.fixed.bound.token(at)
    whole = token_map(call, seen)
    return None if whole is None else whole[:, :, at]


def _fine(q: Tensor) -> torch.dtype:
    return torch.promote_types(q.dtype, torch.float32)


def _chunk(block: int) -> int:
    """Keys multiplied at once, whole blocks."""
    return max(KEYS // block, 1) * block


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(at, min(at + step, stop)) for at in range(start, stop, step))
