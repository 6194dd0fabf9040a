"""Block-sparse attention on the CPU by a small compiled kernel over torch's own matrix products: inference, with lse.

It works from the same pattern and schedule as `gather` without copying keys per query block: every key block is packed
once, each thread takes query blocks from a shared counter, the softmax is online. float32 and bfloat16. Compiling takes
a few seconds and happens only in `warm`; until then the kernel refuses. It also refuses, and `gather` takes its calls,
without a C++ compiler ($CXX, or g++, clang++ or c++ on the path), without AVX-512, which torch's matrix products need
(`ATEN_CPU_CAPABILITY=avx2` makes torch pretend), and where the environment says `SACCADE_NATIVE=off`.
"""

import ctypes

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.partial import Partial
from saccade.ops import gather
from saccade.ops.block_cost import BlockCost
from saccade.ops.gather_schedule import GatherSchedule
from saccade.ops.native_build import BuildError, library, obstacle
from saccade.ops.operands import has_dense, operands, padded, width

NAME = "native"
MIN_TOKENS = 512
# Measured block by block (one core with AMX, 4,096 tokens, D 64), with room for processors not measured
COSTS = {
    torch.float32: (BlockCost((128, 128), 1.25, 1.27), BlockCost((64, 64), 1.3, 1.35), BlockCost((32, 32), 1.6, 1.65)),
    torch.bfloat16: (BlockCost((128, 128), 1.5, 1.55), BlockCost((64, 64), 1.55, 1.6), BlockCost((32, 32), 1.65, 1.75)),
}
TYPES = (torch.float32, torch.bfloat16)

COLD = "not warmed; call saccade.ops.warm() before"

_state: dict[str, str | bool] = {"warm": False, "reason": COLD}


def warm() -> None:
    """Compile the kernel, or load it compiled, and try it on a small case.

    Raises BuildError where that fails, the machine cannot run it or it is switched off, and ValueError where
    SACCADE_NATIVE is neither on nor off.
    """
    try:
        if reason := obstacle():
            raise BuildError(reason)
        for dtype in TYPES:
            _try(dtype)
    except BuildError as error:
        _state.update(warm=False, reason=str(error))
        raise
    _state.update(warm=True)


def is_warm() -> bool:
    """Whether the kernel is compiled and tried in this process."""
    return bool(_state["warm"])


def refuses(call: AttentionCall, *, want_lse: bool = False) -> list[str]:
    """Not warm, another device or type, a gradient asked for, inside a graph, or no blocks to work from."""
    checks = {
        str(_state["reason"]): not _state["warm"],
        f"{call.q.dtype} on {call.q.device.type}; it takes float32 and bfloat16 on the CPU": (
            call.q.device.type != "cpu" or call.q.dtype not in TYPES
        ),
        "it has no backward": torch.is_grad_enabled() and any(x.requires_grad for x in (call.q, call.k, call.v)),
        "it cannot stand inside a graph": torch.compiler.is_compiling(),
        "a dense bias is not block-sparse; give it as factors": has_dense(call.bias),
    }
    reasons = [reason for reason, holds in checks.items() if holds]
    return reasons or gather.refuses(call, want_lse=want_lse, costs=COSTS[call.q.dtype])


def unprofitable(call: AttentionCall) -> list[str]:
    """Too short, or too many blocks computed."""
    return gather.slower_than_dense(call, COSTS[call.q.dtype], MIN_TOKENS)


def ready(call: AttentionCall) -> None:
    """Prepare pattern and schedule, and those of `gather`, which stands in inside graphs."""
    gather.ready(call, COSTS[call.q.dtype])
    gather.ready(call)


def run(call: AttentionCall, *, want_lse: bool = False) -> Partial:
    """Attention over the kept blocks, exact at token level. Cost: 2 (w + dv) FLOPs a computed pair."""
    folded = operands(call)
    columns = folded.q.shape[-1] + folded.q.shape[-1] % 2  # half precision pairs columns
    found, plan, blocks, keep = gather.laid_out(call, folded, COSTS[call.q.dtype])
    q, k, v = (padded(blocks[0], columns), padded(blocks[1], columns), blocks[2])
    assert found.tiles is not None
    out, lse = attend_blocks(q, k, v, keep, found.tiles, plan, folded.scale)
    return gather.restored(call, found, out, lse if want_lse else None)


def flops(call: AttentionCall) -> int:
    """2 (w + dv) for each pair of a computed block."""
    return gather.flops(call, COSTS[call.q.dtype])


def bytes(call: AttentionCall) -> int:
    """q and out once, k and v read and written once to pack them, and read again for each block that is computed."""
    b, h, n, _ = call.q.shape
    w, dv = width(call), call.v.shape[-1]
    found = gather.found_pattern(call, COSTS[call.q.dtype])
    read = found.share(b, h) * found.size[1]
    packed = 2 * call.k.shape[0] * gather.operand_heads(call) * call.k.shape[2]
    return (b * h * n * (w + dv) + (packed + read) * (w + dv)) * call.q.element_size()


class Job(ctypes.Structure):
    """The arguments of the compiled functions, in their order."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "kt", "vt", "keep", "tiles", "rows", "cols", "which")),
        *((name, ctypes.c_void_p) for name in ("starts", "out", "lse")),
        *((name, ctypes.c_int64) for name in ("count", "blocks", "s", "c", "w", "dv", "half", "threads")),
        ("scale", ctypes.c_float),
    ]


def attend_blocks(
    q: Float[Tensor, "R s w"], k: Float[Tensor, "C c w"], v: Float[Tensor, "C c dv"], keep: Bool[Tensor, "C c"] | None,
    tiles: Bool[Tensor, "T s c"], plan: GatherSchedule, scale: float,
) -> tuple[Float[Tensor, "R s dv"], Float[Tensor, "R s"]]:  # fmt: skip
    """(out, lse) by query block; blocks that read nothing get 0 and -inf.

    Raises BuildError where this processor cannot run the products.
    """
    half = q.dtype == torch.bfloat16
    kt, vt = torch.empty_like(k), torch.empty_like(v) if half else v
    read_by_all = len(plan.rows) == len(q)
    out = (q.new_empty if read_by_all else q.new_zeros)(*q.shape[:2], v.shape[-1])
    lse = torch.full(q.shape[:2], -torch.inf)
    tensors = {
        "q": q, "k": k, "v": v, "kt": kt, "vt": vt, "keep": keep, "tiles": tiles, "rows": plan.rows, "cols": plan.cols,
        "which": plan.which, "starts": plan.starts, "out": out, "lse": lse,
    }  # fmt: skip
    job = Job(
        **{name: None if x is None else x.data_ptr() for name, x in tensors.items()}, count=len(plan.rows),
        blocks=len(k), s=q.shape[1], c=k.shape[1], w=q.shape[2], dv=v.shape[2], half=half, scale=scale,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    if library().saccade_attend(ctypes.byref(job)):
        raise BuildError("the matrix products of this torch do not run on this processor")
    return out, lse


def _try(dtype: torch.dtype) -> None:
    """One block against torch."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 32, 32, generator=g).to(dtype) for _ in range(3))
    at, zero = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    plan = GatherSchedule(rows=at, cols=at, which=zero, batches=torch.ones(1, 3, dtype=torch.int64))
    tiles = torch.ones(1, 32, 32, dtype=torch.bool)
    out, _ = attend_blocks(q, k, v, None, tiles, plan, 0.2)
    true = torch.softmax(0.2 * q.double() @ k.double().mT, -1) @ v.double()
    if not (out.double() - true).abs().max() < (1e-5 if dtype == torch.float32 else 3e-2):
        raise BuildError(f"the compiled kernel is wrong in {dtype} on this processor")
