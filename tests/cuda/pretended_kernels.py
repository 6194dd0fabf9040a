"""Torch's attention kernels for CUDA as plain products on the CPU, each with the conditions torch sets for it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
OWN = torch.nn.functional.scaled_dot_product_attention
aten = torch.ops.aten


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """`scaled_dot_product_attention`, which takes flash, efficient or math, in this order, by what they can do."""
    q, k, v = query, key, value
    if q.dtype == torch.float64:
        with torch._C.DisableTorchFunctionSubclass():
            return OWN(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if q.dtype in HALF and attn_mask is None and q.shape[-1] == v.shape[-1] <= 256:
        return aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, is_causal, scale=scale)[0]
    if attn_mask is not None:
        attn_mask = torch.nn.functional.pad(attn_mask, (0, -k.shape[2] % 16))[..., : k.shape[2]]
        attn_mask = attn_mask.expand(*q.shape[:3], k.shape[2])
    return aten._scaled_dot_product_efficient_attention(q, k, v, attn_mask, False, scale=scale)[0]


def flash(
    q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, causal: bool = False, debug: bool = False,
    scale: float | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    assert q.dtype in HALF, "flash takes half precision"
    assert q.shape[-1] == k.shape[-1] == v.shape[-1] <= 256 and q.shape[-1] % 8 == 0, "flash takes one width in eights"
    out, lse = _attend(q, k, v, None, scale)
    return out, lse, None, None, q.shape[2], k.shape[2], _number(), _number(), None


def cudnn(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, want_lse: bool, dropout: float = 0.0, causal: bool = False,
    debug: bool = False, scale: float | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    assert q.dtype in HALF, "cuDNN takes half precision"
    assert max(q.shape[-1], v.shape[-1]) <= 128 and q.shape[-1] % 8 == v.shape[-1] % 8 == 0, "widths in eights to 128"
    out, lse = _attend(q, k, v, mask, scale)
    return out, lse[..., None], None, None, q.shape[2], k.shape[2], _number(), _number(), None


def efficient(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, want_lse: bool, dropout: float = 0.0, causal: bool = False,
    scale: float | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    _check_efficient(q, k, v, mask)
    out, lse = _attend(q, k, v, mask, scale)
    lse = torch.nn.functional.pad(lse, (0, -lse.shape[2] % 32), value=torch.inf)
    return out, lse, _number(), _number()


def efficient_backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, seed: Tensor,
    offset: Tensor, dropout: float, wanted: list[bool], causal: bool = False, scale: float | None = None,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """dS = P (dO V^T - rowsum(dO O)), from lse."""
    _check_efficient(q, k, v, mask)
    assert lse.shape[2] % 32 == 0 and bool((lse[..., q.shape[2] :] == torch.inf).all()), (
        "lse as the forward hands it out"
    )
    assert d_out.shape == out.shape == (*q.shape[:3], v.shape[-1])
    q64, k64, v64, d64 = (x.double() for x in (q, k, v, d_out))
    p = (_scores(q64, k64, mask, scale) - lse[..., : q.shape[2], None].double()).exp()
    ds = p * (d64 @ v64.mT - (d64 * out.double()).sum(-1, keepdim=True)) * scale
    return (ds @ k64).to(q.dtype), (ds.mT @ q64).to(k.dtype), (p.mT @ d64).to(v.dtype), None


def _check_efficient(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    at = 4 if q.dtype == torch.float32 else 8
    assert q.dtype != torch.float64, "the efficient kernel takes no float64"
    assert q.shape[-1] % at == 0 and v.shape[-1] % at == 0, f"widths {q.shape[-1]}, {v.shape[-1]} are not in {at}s"
    assert q.shape[1] == k.shape[1] == v.shape[1], "as many heads of keys as of queries"
    if mask is not None:
        assert mask.shape == (*q.shape[:3], k.shape[2]) and mask.dtype == q.dtype, "a mask for every head, in q's type"
        assert mask.stride(2) % 8 == 0, "rows of a mask begin aligned"


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None) -> tuple[Tensor, Tensor]:
    repeat = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(repeat, dim=1) for x in (k, v))
    scores = _scores(q.double(), k, mask, scale)
    lse = scores.logsumexp(-1)
    weights = torch.nan_to_num((scores - lse[..., None]).exp())
    return (weights @ v).to(q.dtype), lse.float()


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return scores if mask is None else scores + mask.double()


def _number() -> Tensor:
    return torch.zeros((), dtype=torch.int64)


KERNELS: dict[str, Callable[..., Any]] = {
    "_scaled_dot_product_flash_attention": flash,
    "_scaled_dot_product_cudnn_attention": cudnn,
    "_scaled_dot_product_efficient_attention": efficient,
    "_scaled_dot_product_efficient_attention_backward": efficient_backward,
}
