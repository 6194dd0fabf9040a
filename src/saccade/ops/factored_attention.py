"""Attention with a bias given by factors: a function of q, k, v and the factors, for use outside any host.

    softmax([scale q, phi_q] [k, phi_k]^T) v

The scale is one argument, applied to q once; there is no second place where it could enter.
"""

import math
import warnings

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.biases import Bias, DenseBias, LowRank
from saccade.core.call import plain_call
from saccade.core.masks import Mask, Table
from saccade.core.places import Causal
from saccade.ops.dispatch import attend
from saccade.ops.remembered import remembered
from saccade.ops.rounding import rounding_error
from saccade.ops.svd_factors import Factors

TOLERATED = 0.05  # rounding of the bias, in units of the scores, that passes without a warning
MAX_LOGIT_SCALE = math.log(100)


def attention_with_factors(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b h m d"],
    v: Float[Tensor, "b h m dv"],
    factors: Factors | LowRank,
    *,
    causal: bool = False,
    mask: Bool[Tensor, "*#b #n m"] | Float[Tensor, "*#b #n m"] | Mask | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b h n dv"]:
    """softmax(scale q k^T + phi_q phi_k^T, over pairs that causal and mask allow) v; gradients reach q, k, v and phi.

    scale: multiplies q k^T, any number, 0 included; None stands for d^-0.5.
    mask: boolean (True: visible), additive, or a `Mask`; it may not require a gradient.
    Raises ValueError where shapes do not fit or a mask wants a gradient. Warns where half precision would round the
    bias by more than 0.05. Cost: 2 n m (d + r + dv) h FLOPs; extra memory O((n + m) r).
    """
    bias = factors if isinstance(factors, LowRank) else factors.bias
    _check(q, k, bias)
    _warn_of_rounding(bias, q.dtype)
    visible, added = _masks(mask, causal, q.shape[2], k.shape[2])
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    whole = bias if added is None else bias + added
    return attend(plain_call(q, k, v, scale=scale, mask=visible, bias=whole)).out


def multiplied_operands(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], factors: LowRank
) -> tuple[Float[Tensor, "b h n w"], Float[Tensor, "b h m w"]]:
    """q', k' with q' k'^T = (q k^T) times phi_q phi_k^T, pair by pair: each column of phi scales a copy of q and k."""
    q_wide, k_wide = (
        (x[..., None] * phi[..., None, :]).flatten(-2) for x, phi in ((q, factors.phi_q), (k, factors.phi_k))
    )
    return q_wide, k_wide


def cosine_operands(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], logit_scale: Float[Tensor, "#h 1 1"]
) -> tuple[Float[Tensor, "b h n d"], Float[Tensor, "b h m d"]]:
    """Cosine attention (SwinV2) as operands for scale 1: q, k of length one, q times exp(min(logit_scale, ln 100))."""
    temperature = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    return torch.nn.functional.normalize(q, dim=-1) * temperature, torch.nn.functional.normalize(k, dim=-1)


def _check(q: Tensor, k: Tensor, bias: LowRank) -> None:
    for name, phi, x in (("phi_q", bias.phi_q, q), ("phi_k", bias.phi_k, k)):
        if phi.shape[2] != x.shape[2]:
            raise ValueError(f"{name} has {phi.shape[2]} rows for {x.shape[2]} tokens; it needs one per token")
        if any(have not in (1, want) for have, want in zip(phi.shape[:2], q.shape[:2], strict=True)):
            raise ValueError(
                f"{name} {tuple(phi.shape)} does not broadcast to {tuple(q.shape[:2])} (b h); use 1 or these sizes"
            )


def _warn_of_rounding(bias: LowRank, dtype: torch.dtype) -> None:
    if torch.compiler.is_compiling() or dtype.itemsize > 2:
        return
    error = rounding_error(bias, dtype)
    if not error <= TOLERATED:
        warnings.warn(
            f"rounded to {dtype}, the bias is off by up to {error:.3g}; make its columns exact with "
            "saccade.ops.rounding.split(factors), centre the positions, or run in float32",
            stacklevel=3,
        )


def _masks(mask: Tensor | Mask | None, causal: bool, n: int, m: int) -> tuple[Mask | None, Bias | None]:
    order = Causal() if causal else None
    if mask is None:
        return order, None
    if isinstance(mask, Mask):
        return (mask if order is None else mask & order), None
    if mask.requires_grad:
        raise ValueError(
            "mask requires grad, but no gradient flows to a mask; detach it, or give what learns as factors"
        )
    mask = mask[(None,) * (4 - mask.ndim)]
    if any(have not in (1, want) for have, want in zip(mask.shape[2:], (n, m), strict=True)):
        raise ValueError(f"mask {tuple(mask.shape)} does not broadcast to {n} x {m} pairs (n m)")
    if mask.dtype != torch.bool:
        return order, DenseBias(mask.expand(-1, -1, n, m))
    table = remembered(mask, ("table", n, m), lambda: _table(mask.clone(), n, m))
    return (table if order is None else table & order), None


def _table(allow: Tensor, n: int, m: int) -> Table:
    """Every token its own class, or all tokens one class along a side that broadcasts."""
    label_q = torch.arange(n, device=allow.device) % allow.shape[2]
    label_k = torch.arange(m, device=allow.device) % allow.shape[3]
    return Table(label_q, label_k, allow)
