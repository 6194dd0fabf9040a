"""Block-sparse attention on the CPU by a small compiled kernel: inference, with lse.

It works from the same pattern and schedule as `gather` without copying keys per query block: each thread takes query
blocks from a shared counter, the softmax is online. float32 and bfloat16, which is widened to float32, and left to
torch's own products where the processor multiplies it faster. Compiling takes a few seconds and happens only in `warm`;
until then the kernel refuses. It also refuses, and `gather` takes its calls, without a C++ compiler ($CXX, or g++,
clang++ or c++ on the path) and where the environment says `SACCADE_NATIVE=off`.
"""

import ctypes
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.partial import Partial
from saccade.ops import gather
from saccade.ops.gather_schedule import GatherSchedule
from saccade.ops.native_build import BuildError, instruction_set, library, multiplies_bfloat16, obstacle
from saccade.ops.native_cost import block_costs
from saccade.ops.native_job import Tiles, attend_blocks
from saccade.ops.native_rows import move_rows
from saccade.ops.operands import has_dense, operands, padded, width
from saccade.ops.pattern import Pattern
from saccade.ops.split_mask import split_mask

NAME = "native"
MIN_TOKENS = 512
TYPES = (torch.float32, torch.bfloat16)

COLD = "not warmed; call saccade.ops.warm() before"

_state: dict[str, str | bool] = {"warm": False, "reason": COLD}


def warm() -> None:
    """Compile the kernel, or load it compiled, and try it on a small case.

    Raises BuildError where that fails or it is switched off, and ValueError for an unknown SACCADE_NATIVE.
    """
    try:
        if reason := obstacle():
            raise BuildError(reason)
        _state.update(instructions=instruction_set())
        _try(wide(), torch.float32)
    except BuildError as error:
        _state.update(warm=False, reason=str(error))
        raise
    _state.update(warm=True, products=_state["instructions"] == "avx512" and multiplies_bfloat16() and _multiplies())


def wide() -> ctypes.CDLL:
    """The library for float32. Raises BuildError."""
    return library("native", str(_state["instructions"]))


def half() -> ctypes.CDLL:
    """The library for bfloat16 by torch's own products. Raises BuildError."""
    return library("native_half", str(_state["instructions"]))


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
    return reasons or gather.refuses(call, want_lse=want_lse, costs=block_costs(call.q.dtype))


def unprofitable(call: AttentionCall) -> list[str]:
    """Too short, or too many blocks computed."""
    return gather.slower_than_dense(call, block_costs(call.q.dtype), MIN_TOKENS)


def ready(call: AttentionCall) -> None:
    """Prepare pattern, schedule and tiles, and those of `gather`, which stands in inside graphs."""
    costs = block_costs(call.q.dtype)
    gather.ready(call, costs)
    _tiles(call, gather.found_pattern(call, costs))
    gather.ready(call)


def run(call: AttentionCall, *, want_lse: bool = False) -> Partial:
    """Attention over the kept blocks, exact at token level. Cost: 2 (w + dv) FLOPs a computed pair."""
    folded = operands(call)
    found, plan, blocks, keep = gather.laid_out(call, folded, block_costs(call.q.dtype), partial(move_rows, wide()))
    out, lse = attend_to(*blocks, keep, _tiles(call, found), plan, folded.scale)
    return gather.restored(call, found, out, lse if want_lse else None, partial(move_rows, wide()))


def attend_to(
    q: Float[Tensor, "R s w"], k: Float[Tensor, "C c w"], v: Float[Tensor, "C c dv"], keep: Bool[Tensor, "C c"] | None,
    tiles: Tiles, plan: GatherSchedule, scale: float,
) -> tuple[Float[Tensor, "R s dv"], Float[Tensor, "R s"]]:  # fmt: skip
    """(out, lse) by query block, in float32 or by torch's own products of bfloat16, which pair neighbours.

    Raises BuildError where this processor cannot run them.
    """
    if q.dtype == torch.bfloat16 and _state.get("products") and k.shape[1] % 2 == 0:
        q, k = (padded(x, x.shape[-1] + x.shape[-1] % 2) for x in (q, k))
        return attend_blocks(half(), q, k, v, keep, tiles.whole, plan, scale)
    out, lse = attend_blocks(wide(), q.float(), k.float(), v.float(), keep, tiles.bits, plan, scale)
    return out.to(q.dtype), lse


def flops(call: AttentionCall) -> int:
    """2 (w + dv) for each pair of a computed block."""
    return gather.flops(call, block_costs(call.q.dtype))


def bytes(call: AttentionCall) -> int:
    """q and out once, k and v for each block that is computed; in bfloat16 also once to widen or to pack them."""
    b, h, n, _ = call.q.shape
    w, dv = width(call), call.v.shape[-1]
    found = gather.found_pattern(call, block_costs(call.q.dtype))
    read = found.share(b, h) * found.size[1]
    half = call.q.dtype == torch.bfloat16
    packed = 2 * half * call.k.shape[0] * gather.operand_heads(call) * call.k.shape[2]
    return (b * h * n * (w + dv) + (packed + read) * (w + dv)) * call.q.element_size()


def _tiles(call: AttentionCall, found: Pattern) -> Tiles:
    fixed, whole = split_mask(call).fixed, found.tiles
    assert fixed is not None and whole is not None
    return fixed.once(("native tiles", found.size, found.order), lambda: Tiles.of(whole))


def _multiplies() -> bool:
    """Whether torch's own products of bfloat16 run here."""
    try:
        _try(half(), torch.bfloat16)
    except BuildError:
        return False
    return True


def _try(library: ctypes.CDLL, dtype: torch.dtype) -> None:
    """One block against torch."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 32, 32, generator=g).to(dtype) for _ in range(3))
    at, tiles = torch.zeros(1, dtype=torch.int64), torch.ones(1, 32, 32, dtype=torch.bool)
    plan = GatherSchedule(rows=at, cols=at, which=at, batches=torch.ones(1, 3, dtype=torch.int64))
    out, _ = attend_blocks(library, q, k, v, None, tiles, plan, 0.2)
    true = torch.softmax(0.2 * q.double() @ k.double().mT, -1) @ v.double()
    if not (out.double() - true).abs().max() < (1e-5 if dtype == torch.float32 else 3e-2):
        raise BuildError(f"the compiled kernel is wrong in {dtype} on this processor")
