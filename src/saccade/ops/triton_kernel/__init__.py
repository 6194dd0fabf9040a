"""Block-sparse attention on CUDA by kernels of this library in Triton: forward with lse, and backward.

It works from the same patterns as `gather`. Open blocks come before mixed ones, whose token map is one bit a pair;
token orders, padding given at the call and grouped heads are read where they stand, so nothing is permuted or repeated,
unless a pattern has gaps: then operands are laid out before.
Widths are two powers of two, so the columns of a factored bias cost only themselves. float32, bfloat16 and float16.
Triton compiles a kernel at its first call, for a second or so. Without the package `triton` and on other devices it
refuses, except under Triton's interpreter (TRITON_INTERPRET=1), where it runs on the CPU, very slowly, for tests.
"""

import os
from functools import cache
from importlib.util import find_spec

import torch

from saccade.core.call import AttentionCall
from saccade.core.partial import Partial
from saccade.ops.block_cost import BlockCost
from saccade.ops.gather import chosen_pattern, found_pattern, slower_than_dense
from saccade.ops.operands import has_dense, operands, width
from saccade.ops.split_mask import Fixed, split_mask
from saccade.ops.triton_kernel.lists import KernelLists, Lists, kernel_lists, transposed
from saccade.ops.triton_kernel.tiles import MAX_WIDTH

__all__ = ["NAME", "bytes", "flops", "ready", "refuses", "run", "unprofitable"]

NAME = "triton"
MIN_TOKENS = 1024  # queries and keys; below, launches take longer than dense attention
# Estimated from the instructions of builds, never on a card; `bench gpu` measures what blocks take beside dense ones
HALF = (BlockCost((128, 128), 1.4, 1.8),)
COSTS = {torch.float32: (BlockCost((128, 128), 3.0, 3.8),), torch.bfloat16: HALF, torch.float16: HALF}
CAPABILITY = (8, 0)


def refuses(call: AttentionCall, *, want_lse: bool = False) -> list[str]:
    """No Triton, another device, types or widths it lacks, a bias without factors, or no blocks to work from."""
    seen = split_mask(call)
    reasons = [*_lacks(call), *_unable(call)]
    if seen.fixed is None:
        return [*reasons, "no mask fixed before the call, so no blocks are known to be empty"]
    if torch.compiler.is_compiling():
        if _key(call, "forward") not in seen.fixed.memo:
            reasons.append("the mask was not prepared outside the graph; call ops.prepare first")
    elif not reasons and chosen_pattern(call, seen.fixed, COSTS[call.q.dtype]).tiles is None:
        reasons.append("too many different mixed blocks; the mask has no block structure")
    return reasons


def unprofitable(call: AttentionCall) -> list[str]:
    """Too short, or blocks that cost too much."""
    return slower_than_dense(call, COSTS[call.q.dtype], MIN_TOKENS)


def ready(call: AttentionCall) -> None:
    """Prepare the lists of the forward pass, and the transposed ones where gradients are on."""
    fixed = split_mask(call).fixed
    if fixed is not None:
        _lists(call, fixed, torch.is_grad_enabled())


def run(call: AttentionCall, *, want_lse: bool = False) -> Partial:
    """Attention over the kept blocks, exact at token level. Cost: 2 (w + dv) FLOPs a computed pair.

    Raises ValueError where the call has no fixed mask.
    """
    from saccade.ops.triton_kernel.operator import attend_blocks

    seen = split_mask(call)
    if seen.fixed is None:
        raise ValueError("triton works on the blocks of a fixed mask; this call has none")
    folded = operands(call)
    q, k, v = folded.q, folded.k, folded.v
    trains = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    lists, back = _lists(call, seen.fixed, trains)
    keep = None if seen.keep is None else seen.keep.expand(len(q), -1)
    found = chosen_pattern(call, seen.fixed, COSTS[call.q.dtype])
    if found.gaps:
        assert found.order_q is not None and found.order_k is not None
        q, k, v = q.index_select(2, found.order_q), *(x.index_select(2, found.order_k) for x in (k, v))
        keep = None if keep is None else keep.index_select(1, found.order_k)
    out, lse = attend_blocks(q, k, v, keep, lists, back, folded.scale)
    if found.gaps:
        out, lse = (x[:, :, : found.n] if found.back is None else x.index_select(2, found.back) for x in (out, lse))
    return Partial(out, lse if want_lse else None)


def flops(call: AttentionCall) -> int:
    """2 (w + dv) for each pair of a computed block."""
    found = found_pattern(call, COSTS[call.q.dtype])
    return 2 * found.share(*call.q.shape[:2]) * found.size[0] * found.size[1] * (width(call) + call.v.shape[-1])


def bytes(call: AttentionCall) -> int:
    """q and out once, and every key and value block once for each query block that reads it."""
    b, h, n, _ = call.q.shape
    found = found_pattern(call, COSTS[call.q.dtype])
    rows = b * h * n + found.share(b, h) * found.size[1]
    return rows * (width(call) + call.v.shape[-1]) * call.q.element_size()


def _lacks(call: AttentionCall) -> list[str]:
    """What the machine lacks."""
    if not _installed():
        return ["the package triton is not installed; pip install triton"]
    if os.environ.get("TRITON_INTERPRET") == "1":
        return []
    if call.q.device.type != "cuda":
        return [f"it runs on CUDA devices, not on {call.q.device.type}"]
    if torch.version.hip is not None:
        return ["its tiles are made for NVIDIA's cards"]
    found = torch.cuda.get_device_capability(call.q.device)
    return [f"compute capability {found[0]}.{found[1]}; it needs 8.0"] if found < CAPABILITY else []


def _unable(call: AttentionCall) -> list[str]:
    """What the kernel cannot do with the call."""
    q, k, v = call.q, call.k, call.v
    widest = max(width(call), v.shape[-1])
    checks = {
        f"{q.dtype} is not a type it takes": q.dtype not in COSTS,
        f"k is {k.dtype} and v {v.dtype}, q is {q.dtype}": not q.dtype == k.dtype == v.dtype,
        "a dense bias is not block-sparse; give it as factors": has_dense(call.bias),
        f"{widest} columns; it takes {MAX_WIDTH} at most": widest > MAX_WIDTH,
        f"{q.shape[1]} query heads are no multiple of {k.shape[1]} key heads": q.shape[1] % k.shape[1] != 0,
    }
    return [reason for reason, holds in checks.items() if holds]


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


def _lists(call: AttentionCall, fixed: Fixed, trains: bool) -> tuple[KernelLists, Lists | None]:
    """Lists, and the transposed ones where a gradient will be asked for."""
    found = lambda: chosen_pattern(call, fixed, COSTS[call.q.dtype])  # noqa: E731
    lists = fixed.once(_key(call, "forward"), lambda: kernel_lists(found()))
    return lists, fixed.once(_key(call, "back"), lambda: transposed(found())) if trains else None


def _key(call: AttentionCall, which: str) -> tuple[object, ...]:
    return "triton", which, COSTS[call.q.dtype]
