"""Tokens brought into another order by the compiled library: one pass, wherever heads and tokens lie."""

import ctypes

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from saccade.ops.native_build import BuildError, parallel


class RowsJob(ctypes.Structure):
    """The arguments of the compiled function, in their order."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("from_", "to", "order")),
        *((name, ctypes.c_int64) for name in ("b", "h", "m", "bytes", "over_b", "over_h", "over_n", "threads")),
        ("parallel", ctypes.c_void_p),
    ]


def move_rows(
    library: ctypes.CDLL, x: Shaped[Tensor, "b h n d"], order: Int[Tensor, " m"]
) -> Shaped[Tensor, "b h m d"]:
    """x.index_select(2, order), without gradients. Raises BuildError where this processor cannot run the library."""
    x, order = (x if x.stride(3) == 1 else x.contiguous()), order.long().contiguous()
    (b, h, _, d), size = x.shape, x.element_size()
    to = x.new_empty(b, h, len(order), d)
    job = RowsJob(
        from_=x.data_ptr(), to=to.data_ptr(), order=order.data_ptr(), b=b, h=h, m=len(order), bytes=d * size,
        over_b=x.stride(0) * size, over_h=x.stride(1) * size, over_n=x.stride(2) * size,
        threads=torch.get_num_threads(), parallel=parallel(),
    )  # fmt: skip
    if library.saccade_move_rows(ctypes.byref(job)):
        raise BuildError("the compiled library failed on this processor")
    return to
