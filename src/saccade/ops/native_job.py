"""What the compiled kernels are asked: blocks, their order of work and which pairs are seen, as C++ reads them."""

import ctypes
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from saccade.ops.gather_schedule import GatherSchedule
from saccade.ops.native_build import BuildError, parallel

WORD = 32  # queries of one word of bits


class Job(ctypes.Structure):
    """The arguments of the compiled functions, in their order."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "kt", "vt", "keep", "tiles", "rows", "cols", "which")),
        *((name, ctypes.c_void_p) for name in ("starts", "out", "lse")),
        *((name, ctypes.c_int64) for name in ("count", "blocks", "s", "c", "w", "dv", "threads")),
        ("parallel", ctypes.c_void_p),
        ("scale", ctypes.c_float),
    ]


def attend_blocks(
    library: ctypes.CDLL, q: Float[Tensor, "R s w"], k: Float[Tensor, "C c w"], v: Float[Tensor, "C c dv"],
    keep: Bool[Tensor, "C c"] | None, tiles: Tensor, plan: GatherSchedule, scale: float,
) -> tuple[Float[Tensor, "R s dv"], Float[Tensor, "R s"]]:  # fmt: skip
    """(out, lse) by query block; blocks that read nothing get 0 and -inf. The library's element type is q's.

    tiles: bits for float32; whole for bfloat16, whose w and c must be even.
    Raises BuildError where this processor cannot run the library.
    """
    half = q.dtype == torch.bfloat16
    read_by_all = len(plan.rows) == len(q)
    out = (q.new_empty if read_by_all else q.new_zeros)(*q.shape[:2], v.shape[-1])
    lse = torch.full(q.shape[:2], -torch.inf)
    tensors = {
        "q": q, "k": k, "v": v, "keep": keep, "tiles": tiles, "rows": plan.rows, "cols": plan.cols,
        "which": plan.which, "starts": plan.starts, "out": out, "lse": lse,
        "kt": torch.empty_like(k) if half else None, "vt": torch.empty_like(v) if half else None,
    }  # fmt: skip
    job = Job(
        **{name: None if x is None else x.data_ptr() for name, x in tensors.items()}, count=len(plan.rows),
        blocks=len(k), s=q.shape[1], c=k.shape[1], w=q.shape[2], dv=v.shape[2], scale=scale,
        threads=torch.get_num_threads(), parallel=parallel(),
    )  # fmt: skip
    if library.saccade_attend(ctypes.byref(job)):
        raise BuildError("the compiled kernel failed on this processor")
    return out, lse


@dataclass(frozen=True, eq=False)
class Tiles:
    """Token maps of mixed blocks: whole, and by key with a bit for each query, filled up to whole words."""

    whole: Bool[Tensor, "T s c"]
    bits: UInt8[Tensor, "T c bytes"]

    @classmethod
    def of(cls, whole: Bool[Tensor, "T s c"]) -> "Tiles":
        """Both forms of the same tiles."""
        by_key = torch.nn.functional.pad(whole.mT.to(torch.uint8), (0, -whole.shape[1] % WORD))
        values = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8)
        return cls(whole, (by_key.unflatten(-1, (-1, 8)) * values).sum(-1, dtype=torch.uint8))
