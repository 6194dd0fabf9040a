"""Block-sparse attention by torch's FlexAttention: compiled, from the same block patterns as `gather`.

CUDA: with lse and backward. CPU: forward only, without lse. Compiling takes seconds to minutes, so a compiled kernel
serves a bucket of shapes (lengths and the number of tiles rounded up), `warm` compiles it when asked, and inside
`compiling_not_allowed()` nothing is compiled: the kernel refuses instead. On the CPU it never compiles unasked.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from saccade.core.blocks import FULL, MIXED
from saccade.core.call import AttentionCall
from saccade.core.partial import Partial
from saccade.ops.gather import chosen_pattern, operand_heads, pattern_key
from saccade.ops.native_build import compiler, no_compiler
from saccade.ops.operands import has_dense, operands, width
from saccade.ops.pattern import Pattern, Size
from saccade.ops.split_mask import Fixed, split_mask

NAME = "flex"
BUCKET = 1024  # tokens
MIN_TOKENS = 1024
# Time per computed pair as a multiple of the best dense kernel's, measured by `bench kernels`
UNIT = {"cpu": {torch.float32: 3.0, torch.bfloat16: 2.0}, "cuda": {}}
SLOWER = 1.25  # on devices and types not measured
WORTH = 0.9  # of the dense time
COMPILER = "clang++" if sys.platform == "darwin" else "g++"  # the one that torch.compile looks for
Bucket = tuple[object, ...]
Lists = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]  # mixed, full: counts and places; tile numbers; tiles

_warm: set[Bucket] = set()
_compiling: ContextVar[bool] = ContextVar("compiling", default=True)


@contextmanager
def compiling_not_allowed() -> Iterator[None]:
    """Nothing is compiled inside, as in a measured region: kernels that are not warm refuse."""
    token = _compiling.set(False)
    try:
        yield
    finally:
        _compiling.reset(token)


def num_warm() -> int:
    """How many buckets of shapes are compiled in this process."""
    return len(_warm)


def refuses(call: AttentionCall, *, want_lse: bool = False) -> list[str]:
    """What FlexAttention lacks on the device, no fixed mask, no C++ compiler, or a kernel that is not warm."""
    fixed = split_mask(call).fixed
    reasons = _lacks(call, want_lse)
    if fixed is None:
        return [*reasons, "no mask fixed before the call, so no blocks are known to be empty"]
    if torch.compiler.is_compiling():
        prepared = pattern_key() in fixed.memo
        return reasons if prepared else [*reasons, "the mask was not prepared; call ops.prepare first"]
    found = chosen_pattern(call, fixed)
    if found.tiles is None:
        return [*reasons, "too many different mixed blocks; the mask has no block structure"]
    cold = bucket(call, found, want_lse) not in _warm
    if cold and (call.q.device.type == "cpu" or not _compiling.get()):
        reasons.append("not warmed for this bucket of shapes; call ops.flex.warm(call) before")
    return reasons


def unprofitable(call: AttentionCall) -> list[str]:
    """Too short, or too many blocks computed."""
    n, m = call.q.shape[2], call.k.shape[2]
    if min(n, m) < MIN_TOKENS:
        return [f"{n} x {m} tokens; dense is faster below {MIN_TOKENS}"]
    area = chosen_pattern(call, _fixed(call)).area
    limit = WORTH / UNIT[call.q.device.type].get(call.q.dtype, SLOWER)
    return [f"{area:.0%} of the blocks are computed; dense is faster above {limit:.0%}"] if area > limit else []


def ready(call: AttentionCall) -> None:
    """Prepare pattern and block lists."""
    _lists(call)


def warm(call: AttentionCall, *, want_lse: bool = False) -> None:
    """Compile the kernel for this call's bucket of shapes, running the call once. Raises ValueError where it cannot."""
    reasons = [r for r in refuses(call, want_lse=want_lse) if not r.startswith("not warmed")]
    if reasons:
        raise ValueError(f"flex cannot be warmed for this call: {'; '.join(reasons)}")
    if not _compiling.get():
        raise ValueError("warm() inside compiling_not_allowed(); warm kernels before the measured region")
    _run(call, want_lse)
    _warm.add(bucket(call, chosen_pattern(call, _fixed(call)), want_lse))


def run(call: AttentionCall, *, want_lse: bool = False) -> Partial:
    """Attention over the kept blocks. Cost: 2 (w + dv) FLOPs a computed pair."""
    partial = _run(call, want_lse)
    if not torch.compiler.is_compiling():
        _warm.add(bucket(call, chosen_pattern(call, _fixed(call)), want_lse))
    return partial


def flops(call: AttentionCall) -> int:
    """2 (w + dv) for each pair of a computed block."""
    found = chosen_pattern(call, _fixed(call))
    return 2 * found.share(*call.q.shape[:2]) * found.size[0] * found.size[1] * (width(call) + call.v.shape[-1])


def bytes(call: AttentionCall) -> int:
    """q and out once, and every key and value block once for each query block that reads it."""
    b, h, n, _ = call.q.shape
    w, dv = width(call), call.v.shape[-1]
    found = chosen_pattern(call, _fixed(call))
    read = found.share(b, h) * found.size[1] * (w + dv)
    return (b * h * n * (w + dv) + read) * call.q.element_size()


def bucket(call: AttentionCall, found: Pattern, want_lse: bool) -> Bucket:
    """What a compiled kernel is made for; calls of one bucket share it."""
    b, h, n, _ = call.q.shape
    lengths = _up(n, BUCKET), _up(call.k.shape[2], BUCKET)
    tiles = 0 if found.tiles is None else _power(len(found.tiles))
    columns = (width(call), call.v.shape[-1])
    return (
        call.q.device.type, call.q.dtype, b, h, operand_heads(call), *lengths, *columns, *found.shape[:2], tiles,
        want_lse, _trains(call),
    )  # fmt: skip


def _lacks(call: AttentionCall, want_lse: bool) -> list[str]:
    on_cpu = call.q.device.type == "cpu"
    checks = {
        "FlexAttention gives no lse on the CPU": on_cpu and want_lse,
        "FlexAttention has no backward on the CPU": on_cpu and _trains(call),
        f"{call.q.dtype} is not a type it takes": call.q.dtype == torch.float64,
        "a dense bias is not block-sparse; give it as factors": has_dense(call.bias),
        "padding given at the call; its blocks are compiled for fixed masks": split_mask(call).keep is not None,
        no_compiler(COMPILER): on_cpu and compiler(COMPILER) is None,
    }
    return [reason for reason, holds in checks.items() if holds]


def _trains(call: AttentionCall) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in (call.q, call.k, call.v))


def _fixed(call: AttentionCall) -> Fixed:
    fixed = split_mask(call).fixed
    if fixed is None:
        raise ValueError("flex works on the blocks of a fixed mask; this call has none")
    return fixed


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _lists(call: AttentionCall) -> tuple[Pattern, Lists]:
    """The pattern, and its block lists, tile numbers and tiles filled up to the bucket."""
    fixed = _fixed(call)
    found = chosen_pattern(call, fixed)
    n, m = (_up(x.shape[2], BUCKET) for x in (call.q, call.k))
    return found, fixed.once(("flex", n, m), lambda: _made(found, n // found.size[0], m // found.size[1]))


def _made(found: Pattern, blocks_q: int, blocks_k: int) -> Lists:
    assert found.tiles is not None
    grow = (0, blocks_k - found.map.shape[3], 0, blocks_q - found.map.shape[2])
    map_, tile_of = (torch.nn.functional.pad(x, grow) for x in (found.map, found.tile_of))
    tiles = torch.nn.functional.pad(found.tiles, (0, 0, 0, 0, 0, _power(len(found.tiles)) - len(found.tiles)))
    return *_listed(map_ == MIXED), *_listed(map_ == FULL), tile_of, tiles


def _listed(chosen: Tensor) -> tuple[Int[Tensor, "b h Q"], Int[Tensor, "b h Q K"]]:
    """How many blocks each row has, and their numbers, first ones first."""
    count = chosen.sum(-1).to(torch.int32)
    return count, torch.argsort(~chosen, dim=-1, stable=True).to(torch.int32)


def _run(call: AttentionCall, want_lse: bool) -> Partial:
    folded = operands(call)
    found, lists = _lists(call)
    b, h, n, _ = call.q.shape
    q = _laid(folded.q, found.order_q, _up(n, BUCKET))
    k, v = (_laid(x, found.order_k, _up(call.k.shape[2], BUCKET)) for x in (folded.k, folded.v))
    inside = torch.compiler.is_compiling()
    kernel = _flex if inside else _compiled(_compiling.get())
    out, lse = kernel(q, k, v, lists, folded.scale, found.size, want_lse)
    out, lse = (None if x is None else _restored(x, found, n) for x in (out, lse))
    assert out is not None
    return Partial(out, lse)


def _laid(x: Float[Tensor, "b h n d"], order: Tensor | None, length: int) -> Float[Tensor, "b h {length} d"]:
    x = x if order is None else x.index_select(2, order)
    return torch.nn.functional.pad(x, (0, 0, 0, length - x.shape[2])).contiguous()


def _restored(x: Tensor, found: Pattern, n: int) -> Tensor:
    return x[:, :, :n] if found.back is None else x.index_select(2, found.back)


def _flex(
    q: Tensor, k: Tensor, v: Tensor, lists: Lists, scale: float, size: Size, want_lse: bool
) -> tuple[Tensor, Tensor | None]:
    """The call FlexAttention compiles; the token map of mixed blocks is read from the tiles."""
    mixed, mixed_at, full, full_at, tile_of, tiles = lists

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        tile = tile_of[b * (tile_of.shape[0] > 1), h * (tile_of.shape[1] > 1), i // size[0], j // size[1]]
        return tiles[tile, i % size[0], j % size[1]]

    blocks = BlockMask.from_kv_blocks(
        mixed, mixed_at, full, full_at, BLOCK_SIZE=size, mask_mod=seen, seq_lengths=(q.shape[2], k.shape[2])
    )
    grouped = q.shape[1] != k.shape[1]
    if not want_lse:
        return flex_attention(q, k, v, block_mask=blocks, scale=scale, enable_gqa=grouped), None
    aux = AuxRequest(lse=True)
    out, extra = flex_attention(q, k, v, block_mask=blocks, scale=scale, enable_gqa=grouped, return_aux=aux)
    return out, extra.lse


@cache
def _compiled(allowed: bool) -> Callable[..., tuple[Tensor, Tensor | None]]:
    compiled = torch.compile(_flex, fullgraph=True, dynamic=False)

    def call(*args: Any) -> tuple[Tensor, Tensor | None]:
        with torch._dynamo.config.patch(recompile_limit=256, accumulated_recompile_limit=1024):
            with torch.compiler.set_stance("default" if allowed else "fail_on_recompile"):
                return compiled(*args)

    return call
