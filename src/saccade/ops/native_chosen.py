"""Attention to chosen groups of keys by the compiled CPU kernel: forward of `chosen_keys`, in float32.

The kernel reads the choice as it stands: no lists, no copies of keys, no pass over partial results.
"""

import ctypes

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.ops import native
from saccade.ops.native_build import BuildError, parallel
from saccade.ops.native_rows import move_rows


class ChosenJob(ctypes.Structure):
    """The arguments of the compiled function, in their order."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "keep", "chosen", "starts", "out", "lse")),
        *((name, ctypes.c_int64) for name in ("heads", "rows", "shared", "n", "keys", "groups", "w", "dv", "threads")),
        ("parallel", ctypes.c_void_p),
        ("scale", ctypes.c_float),
    ]


def takes(q: Tensor) -> bool:
    """Whether the kernel is warm and made for operands of this type and device; those of bfloat16 are widened."""
    return native.is_warm() and q.device.type == "cpu" and q.dtype in native.TYPES


def attend_groups(
    q: Float[Tensor, "b h n w"], k: Float[Tensor, "b hk m w"], v: Float[Tensor, "b hk m dv"],
    chosen: Bool[Tensor, "b h g n"], order: Int[Tensor, " r"], sizes: list[int], scale: float,
    keep: Bool[Tensor, "#b m"] | None,
) -> tuple[Float[Tensor, "b h n dv"], Float[Tensor, "b h n"]]:  # fmt: skip
    """(out, lse) as `chosen_keys` describes them. Cost: 2 (w + dv) FLOPs a chosen pair.

    Raises BuildError where this processor cannot run the library.
    """
    (b, h, n, w), dv, library = q.shape, v.shape[-1], native.wide()
    out, lse = torch.zeros(b, h, n, dv), torch.empty(b, h, n)
    tensors = {
        "q": q.float().contiguous(), "chosen": chosen.contiguous(),
        "k": move_rows(library, k, order).float(), "v": move_rows(library, v, order).float(),
        "keep": None if keep is None else keep[:, order].expand(b, -1).contiguous(),
        "starts": torch.tensor((0, *sizes)).cumsum(0), "out": out, "lse": lse,
    }  # fmt: skip
    job = ChosenJob(
        **{name: None if x is None else x.data_ptr() for name, x in tensors.items()}, heads=b * h, rows=h,
        shared=h // k.shape[1], n=n, keys=len(order), groups=len(sizes), w=w, dv=dv, scale=scale,
        threads=torch.get_num_threads(), parallel=parallel(),
    )  # fmt: skip
    if library.saccade_attend_chosen(ctypes.byref(job)):
        raise BuildError("the compiled kernel failed on this processor")
    return out, lse
