"""How much attention each block of queries gives to each block of keys, without ever holding an n x m map.

One query block after the other: its probabilities, at most block x m per head, in float32, are summed by key block. A
second softmax over some of the key blocks alone shares its exponentials with the first; every part has a shift of its
own, so neither underflows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.biases import PerKey
from saccade.core.call import AttentionCall
from saccade.ops.operands import Operands, operands, terms
from saccade.ops.remembered import constant
from saccade.ops.split_mask import MaskParts, additive, split_mask, token_map

SCORES = {"cpu": 1 << 20, "cuda": 1 << 26}  # scores held at once: on a CPU what its cache holds
SHUT = -1e4  # a bias at or below it closes a key, as hosts write padding
LOW = -1e30  # the least shift of a softmax, so that a row without keys stays zero


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
def block_scores(call: AttentionCall, block: int, apart: Sequence[bool]) -> BlockScores:
    """Scores of self-attention, in blocks of `block` of the queries' own tokens; `apart` marks key blocks.

    Keys appended after the queries' own are left out. Padded keys get nothing, and where queries are the same tokens
    padded queries do not count. Cost: 2 b h n^2 (w + 2) FLOPs; b h block n scores at once, fewer on a CPU.
    """
    b, h, n = call.q.shape[:3]
    folded, seen = operands(call), split_mask(call)
    keep = _keep(call, seen, n)
    keys = _laid_out(folded, keep, h, block, apart)
    counted = keep.to(keys.shut.dtype).expand(b, n).repeat_interleave(h, 0)
    q, shut = folded.q.flatten(0, 1), keys.shut.expand(b, -1).repeat_interleave(h, 0)
    rows = [
        _row(q[:, at], counted[:, at], keys, shut, _added(call, seen, folded, at, keys, block), folded.scale, block)
        for at in _slices(n, block)
    ]
    back = constant(_inverse(keys.order), q.device)
    sums = torch.stack(rows, dim=2)[..., back].unflatten(1, (b, h)) / block**2  # (2 b h Q K)
    return BlockScores(sums[0], sums[1], _open(keep, block))


def _row(
    q: Float[Tensor, "g s w"], counted: Float[Tensor, "g s"], keys: _Keys, shut: Float[Tensor, "g m"],
    added: Float[Tensor, "g s m"] | None, scale: float, block: int,
) -> Float[Tensor, "2 g K"]:  # fmt: skip
    """One query block's sums, over all keys and over those set apart, as many heads at a time as may be."""
    room = (
        len(q)
        if torch.compiler.is_compiling()
        else max(SCORES.get(q.device.type, SCORES["cuda"]) // (q.shape[1] * keys.k.shape[1]), 1)
    )
    pieces = []
    for at in _slices(len(q), room):
        s = torch.bmm(q[at], keys.k[at].mT).to(counted.dtype).mul_(scale).add_(shut[at, None])
        pieces.append(_sums(s if added is None else s.add_(added[at]), counted[at], keys.first, block))
    return torch.cat(pieces, dim=1)


def _sums(s: Float[Tensor, "g s m"], counted: Float[Tensor, "g s"], first: int, block: int) -> Float[Tensor, "2 g K"]:
    """exp(s - shift) of each part in place, then both softmaxes as weights of its rows."""
    split = first * block
    parts = [part for part in (s[..., :split], s[..., split:]) if part.shape[2]]
    tops = [part.amax(-1, keepdim=True).clamp_(min=LOW) for part in parts]
    masses = [part.sub_(top).exp_().sum(-1) for part, top in zip(parts, tops, strict=True)]
    logs = [top[..., 0] + mass.log() for top, mass in zip(tops, masses, strict=True)]
    total = torch.stack(logs).logsumexp(0).clamp(min=2 * LOW)
    own = torch.stack([counted * (top[..., 0] - total).clamp(max=0).exp() for top in tops])
    alone = torch.zeros_like(own)
    if split < s.shape[2]:
        alone[-1] = torch.where(masses[-1] > 0, counted / masses[-1], 0)
    weights = torch.stack((own, alone), dim=2)  # (parts g 2 s)
    sums = [torch.bmm(w, part).unflatten(2, (-1, block)).sum(-1) for w, part in zip(weights, parts, strict=True)]
    return torch.cat(sums, dim=2).transpose(0, 1)


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


def _keep(call: AttentionCall, seen: MaskParts, n: int) -> Bool[Tensor, "#b n"]:
    """Tokens that are not padding, by a mask or by a bias that closes keys."""
    keep = torch.ones(1, n, dtype=torch.bool, device=call.q.device) if seen.keep is None else seen.keep[:, :n]
    for bias in terms(call.bias):
        if isinstance(bias, PerKey):
            keep = keep & (bias.values[:, :, :n] > SHUT).any(1)
    return keep


def _added(
    call: AttentionCall, seen: MaskParts, folded: Operands, at: slice, keys: _Keys, block: int
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


def _allowed(call: AttentionCall, seen: MaskParts, at: slice) -> Bool[Tensor, "#b #h s m"] | None:
    if seen.fixed is not None and not torch.compiler.is_compiling():
        return seen.fixed.bound.token(torch.arange(call.q.shape[2], device=call.q.device)[at])
    whole = token_map(call, seen)
    return None if whole is None else whole[:, :, at]


def _open(keep: Bool[Tensor, "#b n"], block: int) -> Bool[Tensor, "#b K"]:
    return torch.nn.functional.pad(keep, (0, -keep.shape[1] % block)).unflatten(1, (-1, block)).any(-1)


def _fine(q: Tensor) -> torch.dtype:
    return torch.promote_types(q.dtype, torch.float32)


def _slices(n: int, step: int) -> Iterator[slice]:
    return (slice(at, min(at + step, n)) for at in range(0, n, step))
