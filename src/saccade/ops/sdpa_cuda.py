"""Dense attention on CUDA: by torch's own choice; where lse is asked, by the first of its kernels that can hand it out.

cudnn      half precision, one mask-free softmax, widths up to 128, compute capability 9 and 10
flash      half precision, no mask, q, k and v of one width up to 256, compute capability 8 on
efficient  float32 and half precision (bfloat16 from 8 on), any widths, masks, gradients through lse
math       all else; it writes out the n x m map

All take widths in eights, so zero columns fill them.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.ops.operands import padded, padded_columns

Kernel = Literal["cudnn", "flash", "efficient", "math"]
HALF = (torch.float16, torch.bfloat16)
LSE_ROWS = 32  # the efficient kernel's lse has a multiple of so many queries
MASK_COLUMNS = 16  # and reads rows of a mask that begin at a multiple of so many elements
aten = torch.ops.aten


def kernel_with_lse(
    dtype: torch.dtype, w: int, dv: int, keys: int, *, masked: bool, trains: bool, capability: int
) -> Kernel:
    """Which kernel hands out lse; w, dv: widths in eights; capability: the major number of the card's."""
    half, free = dtype in HALF, not (masked or trains)
    if half and free and capability in (9, 10) and max(w, dv) <= 128 and keys > 1 and _enabled("cudnn"):
        return "cudnn"
    if half and free and capability >= 8 and w == dv <= 256 and _enabled("flash"):
        return "flash"
    lacking = dtype == torch.float64 or (dtype == torch.bfloat16 and capability < 8)
    return "math" if lacking or not _enabled("mem_efficient") else "efficient"


def takes_groups(dtype: torch.dtype, w: int, dv: int, *, masked: bool, capability: int) -> bool:
    """Whether k and v may have fewer heads than q in every version of torch: where flash or cudnn take the call."""
    return dtype in HALF and not masked and w == dv <= 256 and capability >= 8


def attend(
    q: Float[Tensor, "b h n w"], k: Float[Tensor, "b hk m w"], v: Float[Tensor, "b hk m dv"],
    mask: Float[Tensor, "#b #h n m"] | None, scale: float,
) -> Float[Tensor, "b h n dv"]:  # fmt: skip
    """By the kernel torch chooses."""
    columns = v.shape[-1]
    q, k, v = in_eights(q), in_eights(k), in_eights(v)
    grouped = takes_groups(q.dtype, q.shape[-1], v.shape[-1], masked=mask is not None, capability=capability(q))
    k, v = (k, v) if grouped else (per_query_head(k, q), per_query_head(v, q))
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out[..., :columns]


def attend_with_lse(
    q: Float[Tensor, "b h n w"], k: Float[Tensor, "b hk m w"], v: Float[Tensor, "b hk m dv"],
    mask: Float[Tensor, "#b #h n m"] | None, scale: float, kernel: Kernel,
) -> tuple[Float[Tensor, "b h n dv"], Float[Tensor, "b h n"]]:  # fmt: skip
    """By the kernel named, which is not math; gradients reach nothing."""
    columns, n = v.shape[-1], q.shape[2]
    q, k, v = in_eights(q), in_eights(k), in_eights(v)
    if kernel == "cudnn":
        out, lse = aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, scale=scale)[:2]
    elif kernel == "flash":
        out, lse = aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[:2]
    else:
        k, v = per_query_head(k, q), per_query_head(v, q)
        added = None if mask is None else _expanded(mask, q, k)
        out, lse = aten._scaled_dot_product_efficient_attention(q, k, v, added, True, scale=scale)[:2]
    return out[..., :columns], lse.flatten(2)[..., :n]


def backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v by the efficient kernel, with heads of k and v as of q, and d_out, v and out in eights.

    Those of q and k have the columns that fill them up.
    """
    q, k = in_eights(q), in_eights(k)
    lse = torch.nn.functional.pad(lse, (0, -lse.shape[2] % LSE_ROWS), value=torch.inf)
    added = None if mask is None else _expanded(mask, q, k)
    seed = torch.zeros((), dtype=torch.int64, device=q.device)
    return aten._scaled_dot_product_efficient_attention_backward(
        d_out, q, k, v, added, out, lse, seed, seed, 0.0, [True, True, True, False], scale=scale
    )[:3]


def aligned(mask: Tensor) -> Tensor:
    """A mask (b h n m) in memory whose rows begin where the kernels want them, so that no call copies it."""
    short = -mask.shape[3] % MASK_COLUMNS
    return torch.nn.functional.pad(mask, (0, short))[..., : mask.shape[3]] if short and mask.is_cuda else mask


def capability(q: Tensor) -> int:
    """The major number of the card's compute capability."""
    return torch.cuda.get_device_properties(q.device).major


def in_eights(x: Float[Tensor, "b h n d"]) -> Float[Tensor, "b h n w"]:
    """Zero columns up to a multiple of eight, columns side by side in memory."""
    x = padded(x, padded_columns(x.shape[-1], x.device))
    return x if x.stride(-1) == 1 else x.contiguous()


def per_query_head(x: Float[Tensor, "b hk m d"], q: Float[Tensor, "b h n w"]) -> Float[Tensor, "b h m d"]:
    """Keys or values repeated for every query head."""
    repeat = q.shape[1] // x.shape[1]
    return x if repeat == 1 else x.repeat_interleave(repeat, dim=1)


def _enabled(kernel: str) -> bool:
    """Whether the user left a kernel on; inside a graph, which cannot ask, all are."""
    return torch.compiler.is_compiling() or getattr(torch.backends.cuda, f"{kernel}_sdp_enabled")()


def _expanded(mask: Tensor, q: Tensor, k: Tensor) -> Float[Tensor, "b h n m"]:
    """For every batch row and head; copied only where rows are not aligned."""
    apart = mask if mask.stride(2) % MASK_COLUMNS == 0 else aligned(mask)
    return apart.expand(*q.shape[:3], k.shape[2])
