"""The loop of `gather` over batches of blocks, forward and backward, as one operator for autograd and for graphs.

Three forms of one batch, all the same softmax:
fused     the gathered keys go to the CPU's attention kernel: half precision, where separate products are slower
summed    powers of the scores as they are, accumulated over pieces that fit the cache: where no score can overflow
shifted   the row's maximum taken off first: everywhere else
The last two keep scores in powers of two, since torch's exp2 is several times as fast as its exp on some CPUs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.ops.gather_schedule import GatherSchedule

BUDGET = {"cpu": 4096, "cuda": 1 << 16}  # gathered keys a batch: what a CPU's cache holds, little memory on CUDA
PIECE = 2048  # gathered keys of one row taken at once by `summed`
LOG2E = math.log2(math.e)
SAFE = 40.0  # a bound on the scores below which exp can neither overflow nor lose a query
LOW = -1e30  # the score of a pair not seen, where a maximum is taken
HALF = (torch.float16, torch.bfloat16)
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """Query blocks `rows`, the key blocks `cols` each reads, their tiles `which`; the first `open` are open."""

    rows: Int[Tensor, " g"]
    cols: Int[Tensor, "g c"]
    which: Int[Tensor, "g c"]
    open: int


@dataclass(frozen=True, eq=False)
class Space:
    """Room for one batch, used again by the next: gathered queries, keys, values, and scores."""

    q: Tensor
    k: Tensor
    v: Tensor
    s: Tensor


@dataclass(frozen=True, eq=False)
class Blocks:
    """Operands by block, tiles in the form the batch wants, keys not padded, the scale, and room to work in."""

    q: Float[Tensor, "R s w"]
    k: Float[Tensor, "C c w"]
    v: Float[Tensor, "C c dv"]
    keep: Bool[Tensor, "C c"] | None
    tiles: Tensor
    scale: float
    space: Space | None = None


def work(
    q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, plan: GatherSchedule, tiles: Tensor, scale: float
) -> tuple[Float[Tensor, "R s dv"], Float[Tensor, "R s"]]:
    """(out, lse) by query block; blocks that read nothing get 0 and -inf."""
    args = (q, k, v, keep, tiles, plan.rows, plan.cols, plan.which, plan.sizes, scale)
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))):
        return _attend(*args)
    return _forward(*args)


def tiles_for(tiles: Bool[Tensor, "T s c"], q: Tensor) -> Tensor:
    """Tiles as the form for q's type and device takes them: something to add (fused) or to multiply by."""
    if _is_fused(q):
        shut = torch.full((), -torch.inf, dtype=q.dtype, device=q.device)
        return torch.where(tiles, torch.zeros_like(shut), shut)
    return tiles.to(torch.promote_types(q.dtype, torch.float32))


def _is_fused(q: Tensor) -> bool:
    return q.device.type == "cpu" and q.dtype in HALF


def _is_safe(q: Tensor, k: Tensor, scale: float) -> bool:
    """Whether no score can exceed SAFE in size (Cauchy-Schwarz); looks at data, so only where that costs no wait."""
    if q.device.type != "cpu" or q.dtype in HALF:
        return False
    return float(q.norm(dim=-1).max() * k.norm(dim=-1).max()) * abs(scale) < SAFE


def _forward(
    q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, tiles: Tensor,
    rows: Tensor, cols: Tensor, which: Tensor, sizes: str, scale: float,
) -> Pair:  # fmt: skip
    blocks = Blocks(q, k, v, keep, tiles, scale, _space(q, k, v, sizes))
    form = _fused if _is_fused(q) else _summed if _is_safe(q, k, scale) else _shifted
    out = (q.new_empty if len(rows) == len(q) else q.new_zeros)(*q.shape[:2], v.shape[-1])
    lse = torch.full(q.shape[:2], -torch.inf, dtype=torch.promote_types(q.dtype, torch.float32), device=q.device)
    for batch in _each(rows, cols, which, sizes):
        rows_out, rows_lse = form(blocks, batch)
        out.index_copy_(0, batch.rows, rows_out)
        lse.index_copy_(0, batch.rows, rows_lse)
    return out, lse


def _space(q: Tensor, k: Tensor, v: Tensor, sizes: str) -> Space:
    """Room for the largest batch, so that the loop allocates next to nothing."""
    if not sizes:
        return Space(q, k, v, q)
    rows, keys = (max(x) for x in zip(*((g, g * c) for g, c, _ in _batches(sizes)), strict=True))
    scores = 0 if _is_fused(q) else keys * q.shape[1] * k.shape[1]
    return Space(
        q.new_empty(rows, q[0].numel()), k.new_empty(keys, k[0].numel()), v.new_empty(keys, v[0].numel()),
        q.new_empty(scores),
    )  # fmt: skip


@lru_cache(maxsize=256)
def _batches(sizes: str) -> tuple[tuple[int, int, int], ...]:
    """Rows, key blocks a row and leading full ones of each batch."""
    numbers = iter(map(int, sizes.split()))
    return tuple(zip(numbers, numbers, numbers, strict=True))


def _each(rows: Tensor, cols: Tensor, which: Tensor, sizes: str) -> Iterator[Batch]:
    row = pair = 0
    for g, c, open_ in _batches(sizes):
        span = slice(pair, pair + g * c)
        yield Batch(rows[row : row + g], cols[span].view(g, c), which[span].view(g, c), open_)
        row, pair = row + g, pair + g * c


def _fused(blocks: Blocks, batch: Batch) -> Pair:
    q, k, v = _gathered(blocks, batch, batch.cols)
    wide = max(q.shape[-1], v.shape[-1])
    q, k, full = (x if x.shape[-1] == wide else torch.nn.functional.pad(x, (0, wide - x.shape[-1])) for x in (q, k, v))
    mask = _added(blocks, batch)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q[:, None], k[:, None], full[:, None], 0.0, False, attn_mask=mask, scale=blocks.scale
    )
    lse = lse[:, 0]
    if mask is not None:
        lse = lse.masked_fill(mask[:, 0].amax(-1) == -torch.inf, -torch.inf)
    return out[:, 0, :, : v.shape[-1]], lse


def _added(blocks: Blocks, batch: Batch) -> Float[Tensor, "g 1 s n"] | None:
    """What the kernel adds to the scores: 0 or -inf; None where all is open."""
    kept = _kept(blocks, batch.cols)
    if batch.open == batch.cols.shape[1] and kept is None:
        return None
    mask = _beside(blocks.tiles, batch.which)
    return (mask if kept is None else mask.masked_fill(~kept, -torch.inf))[:, None]


def _summed(blocks: Blocks, batch: Batch) -> Pair:
    q = _taken(blocks.q, batch.rows[:, None], blocks.space and blocks.space.q).mul_(blocks.scale * LOG2E)
    size = blocks.k.shape[1]
    step = max(PIECE // size, 1) if len(batch.rows) == 1 else batch.cols.shape[1]
    out, total = None, None
    for at in range(0, batch.cols.shape[1], step):
        cols = batch.cols[:, at : at + step].reshape(len(q), -1)
        k, v = _keys(blocks, cols)
        p = _weights(_product(q, k.mT, blocks.space).exp2_(), blocks, batch, at, cols)
        part = p.sum(-1)
        total = part if total is None else total + part
        out = torch.bmm(p, v) if out is None else out.baddbmm_(p, v)
    assert out is not None and total is not None
    return out.div_(total.clamp(min=torch.finfo(total.dtype).tiny)[..., None]), total.log()


def _weights(p: Tensor, blocks: Blocks, batch: Batch, at: int, cols: Tensor) -> Tensor:
    """p with the pairs not seen set to 0, in place; only blocks that are not open are touched."""
    size, first = blocks.k.shape[1], max(batch.open - at, 0)
    if first < cols.shape[1]:
        ids = batch.which[:, at + first : at + cols.shape[1]]
        tail = p[:, :, first * size :].unflatten(-1, (-1, size))
        tail.mul_(blocks.tiles.index_select(0, ids.reshape(-1)).unflatten(0, ids.shape).transpose(1, 2))
    kept = _kept(blocks, cols)
    return p if kept is None else p.mul_(kept)


def _shifted(blocks: Blocks, batch: Batch) -> Pair:
    q, k, v = _gathered(blocks, batch, batch.cols)
    s = _scores(q, k, blocks, batch)
    top = s.amax(-1, keepdim=True).clamp_(min=LOW / 2)
    p = s.sub_(top).exp2_()
    total = p.sum(-1, keepdim=True)
    out = torch.bmm(p.to(v.dtype), v) / total.clamp(min=torch.finfo(total.dtype).tiny).to(v.dtype)
    return out, ((top + total.log2()) / LOG2E)[..., 0]


def _scores(q: Tensor, k: Tensor, blocks: Blocks, batch: Batch) -> Float[Tensor, "g s n"]:
    """Scores in powers of two, in float32 or better; LOW where a pair is not seen."""
    scale = blocks.scale * LOG2E
    if q.dtype in HALF:  # scaled where no bits are lost
        s = _product(q, k.mT, blocks.space).float().mul_(scale)
    else:
        s = _product(q * scale, k.mT, blocks.space)
    if batch.open < batch.cols.shape[1]:
        s.masked_fill_(_beside(blocks.tiles, batch.which) == 0, LOW)
    kept = _kept(blocks, batch.cols)
    return s if kept is None else s.masked_fill_(~kept, LOW)


def _gathered(blocks: Blocks, batch: Batch, cols: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _taken(blocks.q, batch.rows[:, None], blocks.space and blocks.space.q), *_keys(blocks, cols)


def _keys(blocks: Blocks, cols: Tensor) -> Pair:
    space = blocks.space
    return _taken(blocks.k, cols, space and space.k), _taken(blocks.v, cols, space and space.v)


def _taken(x: Float[Tensor, "C c d"], cols: Int[Tensor, "g n"], room: Tensor | None) -> Float[Tensor, "g nc d"]:
    """Each row's blocks one after the other; whole blocks are copied, as rows of one wide matrix."""
    into = None if room is None else room[: cols.numel()]
    flat = torch.index_select(x.view(len(x), -1), 0, cols.reshape(-1), out=into)
    return flat.view(len(cols), cols.shape[1] * x.shape[1], x.shape[2])


def _product(a: Float[Tensor, "g s d"], b: Float[Tensor, "g d n"], space: Space | None) -> Float[Tensor, "g s n"]:
    g, s, n = len(a), a.shape[1], b.shape[2]
    return torch.bmm(a, b, out=None if space is None else space.s[: g * s * n].view(g, s, n))


def _kept(blocks: Blocks, cols: Tensor) -> Bool[Tensor, "g 1 n"] | None:
    if blocks.keep is None:
        return None
    return blocks.keep.index_select(0, cols.reshape(-1)).view(len(cols), 1, -1)


def _beside(tiles: Tensor, which: Int[Tensor, "g n"]) -> Tensor:
    """(T s c) -> (g s n c): each row's tiles side by side."""
    return tiles.index_select(0, which.reshape(-1)).unflatten(0, which.shape).transpose(1, 2).flatten(2)


def _backward(
    d_out: Tensor, d_lse: Tensor, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, tiles: Tensor,
    rows: Tensor, cols: Tensor, which: Tensor, sizes: str, scale: float, out: Tensor, lse: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dS = P (dO V^T + dlse - rowsum(dO O)); keys met by several query blocks are summed in float32."""
    fine = torch.promote_types(q.dtype, torch.float32)
    blocks = Blocks(q, k, v, keep, tiles if tiles.dtype == fine else tiles == 0, scale)
    delta = (d_out.to(fine) * out.to(fine)).sum(-1) - d_lse
    lse = lse.masked_fill(lse == -torch.inf, 0.0) * LOG2E
    dq, dk, dv = q.new_zeros(q.shape), k.new_zeros(k.shape, dtype=fine), v.new_zeros(v.shape, dtype=fine)
    for batch in _each(rows, cols, which, sizes):
        qs, ks, vs = _gathered(blocks, batch, batch.cols)
        p = (_scores(qs, ks, blocks, batch) - lse[batch.rows, :, None]).exp2_()
        do = d_out.index_select(0, batch.rows)
        ds = torch.bmm(do, vs.mT).to(fine).sub_(delta[batch.rows, :, None]).mul_(p).mul_(scale).to(q.dtype)
        dq.index_copy_(0, batch.rows, torch.bmm(ds, ks))
        _add(dk, batch.cols, torch.bmm(ds.mT, qs))
        _add(dv, batch.cols, torch.bmm(p.to(q.dtype).mT, do))
    return dq, dk.to(k.dtype), dv.to(v.dtype)


def _add(total: Float[Tensor, "C c d"], cols: Tensor, part: Tensor) -> None:
    total.view(len(total), -1).index_add_(0, cols.reshape(-1), part.to(total.dtype).reshape(cols.numel(), -1))


INPUTS = (
    "Tensor q, Tensor k, Tensor v, Tensor? keep, Tensor tiles, "
    "Tensor rows, Tensor cols, Tensor which, str sizes, float scale"
)


@torch.library.custom_op("saccade::gather", mutates_args=(), schema=f"({INPUTS}) -> (Tensor, Tensor)")
def _attend(
    q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, tiles: Tensor,
    rows: Tensor, cols: Tensor, which: Tensor, sizes: str, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _forward(q, k, v, keep, tiles, rows, cols, which, sizes, scale)


@_attend.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, tiles: Tensor,
    rows: Tensor, cols: Tensor, which: Tensor, sizes: str, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    fine = torch.promote_types(q.dtype, torch.float32)
    return q.new_empty(*q.shape[:2], v.shape[-1]), q.new_empty(q.shape[:2], dtype=fine)


@torch.library.custom_op(
    "saccade::gather_backward",
    mutates_args=(),
    schema=f"(Tensor d_out, Tensor d_lse, {INPUTS}, Tensor out, Tensor lse) -> (Tensor, Tensor, Tensor)",
)
def _differentiate(
    d_out: Tensor, d_lse: Tensor, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, tiles: Tensor,
    rows: Tensor, cols: Tensor, which: Tensor, sizes: str, scale: float, out: Tensor, lse: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return _backward(d_out, d_lse, q, k, v, keep, tiles, rows, cols, which, sizes, scale, out, lse)


@_differentiate.register_fake
def _(
    d_out: Tensor, d_lse: Tensor, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, tiles: Tensor,
    rows: Tensor, cols: Tensor, which: Tensor, sizes: str, scale: float, out: Tensor, lse: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.sizes, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)


def _pass_back(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, out, lse = ctx.saved_tensors
    dq, dk, dv = _differentiate(d_out.contiguous(), d_lse, *tensors, ctx.sizes, ctx.scale, out, lse)
    return dq, dk, dv, *(None,) * 7


_attend.register_autograd(_pass_back, setup_context=_remember)
