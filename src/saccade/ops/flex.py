"""Block-sparse attention by torch's FlexAttention: compiled, from the same block patterns as `gather`.

CUDA: with lse and backward. CPU: forward only, without lse. Compiling takes seconds to minutes, so a compiled kernel
serves a bucket of shapes (lengths and the number of tiles rounded up), `warm` compiles it when asked, and until then it
refuses. Inside `compiling_not_allowed()` not even a changed guard compiles anything: it is an error.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import FunctionType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, flex_attention

from saccade.core.call import AttentionCall
from saccade.core.partial import Partial
from saccade.ops.flex_blocks import BlockLists, block_lists, block_mask, options, power_of_two, with_padding
from saccade.ops.gather import chosen_pattern, operand_heads, pattern_key
from saccade.ops.native_build import compiler, no_compiler
from saccade.ops.operands import has_dense, operands, too_short, trains, width
from saccade.ops.pattern import Pattern, Size
from saccade.ops.split_mask import Fixed, split_mask

NAME = "flex"
BUCKET = 1024  # tokens
MIN_TOKENS = 1024
# Time per pair of a full block as a multiple of the best dense kernel's: measured by `bench kernels` on the CPU,
# estimated on CUDA from the instructions of the compiled loops
UNIT = {
    "cpu": {torch.float32: 3.0, torch.bfloat16: 2.0},
    "cuda": {torch.float16: 1.45, torch.bfloat16: 1.45},
}
SLOWER = 1.25  # on devices and types not measured
MIXED_COST = {"cuda": 2.15}  # a pair of a mixed block, in pairs of a full one; the same elsewhere
WORTH = 0.9  # of the dense time
COMPILER = "clang++" if sys.platform == "darwin" else "g++"  # the one that torch.compile looks for
Bucket = tuple[object, ...]

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
    if bucket(call, found, want_lse) not in _warm:
        reasons.append("not warmed for this bucket of shapes; call ops.flex.warm(call) before")
    return reasons


def unprofitable(call: AttentionCall) -> list[str]:
    """Too short, or blocks that cost too much."""
    if short := too_short(call, MIN_TOKENS):
        return short
    share = cost(chosen_pattern(call, _fixed(call)), call.q.device.type)
    limit = WORTH / UNIT.get(call.q.device.type, {}).get(call.q.dtype, SLOWER)
    return [f"its blocks cost {share:.0%} of all; dense is faster above {limit:.0%}"] if share > limit else []


def cost(found: Pattern, device: str) -> float:
    """The computed blocks' cost, as a share of what all blocks would cost if they were full."""
    return found.area * (1 + (MIXED_COST.get(device, 1.0) - 1) * found.mixed / max(found.kept, 1))


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
    b, h = call.q.shape[:2]
    lengths = _lengths(found)
    tiles = 0 if found.tiles is None else power_of_two(len(found.tiles))
    columns = (width(call), call.v.shape[-1])
    keep = split_mask(call).keep
    padding = None if keep is None else len(keep)
    return (
        call.q.device.type, call.q.dtype, b, h, operand_heads(call), *lengths, *columns, *found.shape[:2], tiles,
        padding, want_lse, trains(call),
    )  # fmt: skip


def _lacks(call: AttentionCall, want_lse: bool) -> list[str]:
    on_cpu = call.q.device.type == "cpu"
    checks = {
        "FlexAttention gives no lse on the CPU": on_cpu and want_lse,
        "FlexAttention has no backward on the CPU": on_cpu and trains(call),
        f"{call.q.dtype} is not a type it takes": call.q.dtype == torch.float64,
        "a dense bias is not block-sparse; give it as factors": has_dense(call.bias),
        no_compiler(COMPILER): on_cpu and compiler(COMPILER) is None,
    }
    return [reason for reason, holds in checks.items() if holds]


def _fixed(call: AttentionCall) -> Fixed:
    fixed = split_mask(call).fixed
    if fixed is None:
        raise ValueError("flex works on the blocks of a fixed mask; this call has none")
    return fixed


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


def _lengths(found: Pattern) -> Size:
    """Queries and keys, filled up to the bucket."""
    return _up(found.lengths[0], BUCKET), _up(found.lengths[1], BUCKET)


def _lists(call: AttentionCall) -> tuple[Pattern, BlockLists]:
    """The pattern, and its block lists filled up to the bucket."""
    fixed = _fixed(call)
    found = chosen_pattern(call, fixed)
    n, m = _lengths(found)
    key = ("flex", n, m, trains(call))
    return found, fixed.once(key, lambda: block_lists(found, n // found.size[0], m // found.size[1], trains(call)))


def _run(call: AttentionCall, want_lse: bool) -> Partial:
    folded = operands(call)
    found, lists = _lists(call)
    n, (length_q, length_k) = call.q.shape[2], _lengths(found)
    q = _laid(folded.q, found.order_q, length_q)
    k, v = (_laid(x, found.order_k, length_k) for x in (folded.k, folded.v))
    if (keep := split_mask(call).keep) is not None:
        lists = with_padding(lists, keep, found)
    kernel = _flex if torch.compiler.is_compiling() else _compiled(bucket(call, found, want_lse))
    out, lse = kernel(q, k, v, lists, folded.scale, found.size, want_lse)
    out, lse = (None if x is None else _restored(x, found, n) for x in (out, lse))
    assert out is not None
    return Partial(out, lse)


def _laid(x: Float[Tensor, "b h n d"], order: Tensor | None, length: int) -> Float[Tensor, "b h {length} d"]:
    x = x if order is None else x.index_select(2, order)
    x = x if x.shape[2] == length else torch.nn.functional.pad(x, (0, 0, 0, length - x.shape[2]))
    return x.contiguous()


def _restored(x: Tensor, found: Pattern, n: int) -> Tensor:
    return x[:, :, :n] if found.back is None else x.index_select(2, found.back)


def _flex(
    q: Tensor, k: Tensor, v: Tensor, lists: BlockLists, scale: float, size: Size, want_lse: bool
) -> tuple[Tensor, Tensor | None]:
    """The call FlexAttention compiles."""
    fixed: Any = {
        "block_mask": block_mask(lists, size), "scale": scale, "enable_gqa": q.shape[1] != k.shape[1],
        "kernel_options": options(q, v, size),
    }  # fmt: skip
    if not want_lse:
        return flex_attention(q, k, v, **fixed), None
    out, extra = flex_attention(q, k, v, **fixed, return_aux=AuxRequest(lse=True))
    return out, extra.lse


@cache
def _compiled(_: Bucket) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """A bucket's own: its code object is a copy, so that no bucket counts against the recompilations of another."""
    own = FunctionType(_flex.__code__.replace(), _flex.__globals__, _flex.__name__)
    compiled = torch.compile(own, fullgraph=True, dynamic=False)

    def call(*args: Any) -> tuple[Tensor, Tensor | None]:
        if _compiling.get():
            return compiled(*args)
        with torch.compiler.set_stance("fail_on_recompile"):
            return compiled(*args)

    return call
