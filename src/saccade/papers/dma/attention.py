"""Attention with one bias for each key, over the keys that a query keeps.

    out_i = sum over kept j of softmax_j(scale q_i k_j + b_j) v_j,    0 where nothing is kept

Three ways to the same numbers, with the same gradients; the choice of keys passes none:
gathered   a block of queries reads the keys alive in it, w + `BLOCK` at most: n (w + BLOCK) pairs
tiles      `ops.gather` over the tiles of the map that are not empty
dense      one softmax with all other pairs closed: an n x m map, and every case there is
"""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.biases import DenseBias, PerKey
from saccade.core.call import plain_call
from saccade.core.checks import check_word
from saccade.core.errors import RefusedError
from saccade.ops.dispatch import attend
from saccade.papers.dma.gathered import attend_gathered
from saccade.papers.dma.lifetimes import BLOCK, lifetimes
from saccade.papers.dma.selection import Select, as_map, check_choice, choose_keys
from saccade.papers.dma.tiles import attend_tiles

Kernel = Literal["gathered", "tiles", "dense"]
SHORT = 1024  # keys below which one masked softmax takes less


def dynamic_mask_attention(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b g m d"],
    v: Float[Tensor, "b g m dv"],
    bias: Tensor,
    *,
    window: int = 2048,
    mask: Tensor | None = None,
    causal: bool = True,
    select: Select = "topk",
    block_size: int = 1,
    scale: float | None = None,
    kernel: Kernel | None = None,
) -> Float[Tensor, "b h n dv"]:
    """Attention over the keys kept; each key head's choice serves the h / g query heads of its group.

    bias         (b g m), of `key_bias`; or (b|1 g|1 n|1 m), where queries differ
    window       w, keys a query keeps; where there are no more, all are kept and nothing is chosen
    mask         what may be seen besides causal order, as `selection.as_map` takes it
    causal       a query sees keys at or before its own place, counted from the end where keys outnumber queries
    select, block_size   as of `selection.choose_keys`; "relu" chooses at any length
    scale        of the products; None: d ** -0.5
    kernel       None: gathered where it can and pays, else dense
    Raises ValueError for operands, mask or options that do not fit, RefusedError where a kernel cannot do what is asked.
    """
    check_choice(window, select, block_size)
    _check_operands(q, k, v)
    bias = _by_key_or_pair(bias, q, k)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    plain = _plain(mask, bias, q.shape[2], k.shape[2], causal, select, block_size, window)
    name = chosen_kernel(kernel, plain, k.shape[2], window)
    if name == "dense":
        kept = kept_map(bias, q.shape[2], window, mask, causal, select, block_size)
        return attend_kept(q, k, v, bias, kept, scale)
    keep = None if mask is None else as_map(mask, q.shape[2], k.shape[2])[:, 0, 0]
    found = lifetimes(bias[:, :, 0].detach(), window, queries=q.shape[2], keep=keep)
    run = attend_gathered if name == "gathered" else attend_tiles
    return run(q, k, v, bias[:, :, 0], found, scale)


def kept_map(
    bias: Float[Tensor, "#b #g #n m"],
    n: int,
    window: int,
    mask: Tensor | None = None,
    causal: bool = True,
    select: Select = "topk",
    block_size: int = 1,
) -> Bool[Tensor, "#b #g #n m"]:
    """The keys kept by each query, as many rows, heads and queries as differ; options as of `dynamic_mask_attention`."""
    m = bias.shape[3]
    seen = None if mask is None else as_map(mask, n, m)
    if causal and n > 1:
        order = torch.ones(n, m, dtype=torch.bool, device=bias.device).tril(m - n)[None, None]
        seen = order if seen is None else seen & order
    if select == "topk" and m <= window:
        return bias.new_ones(1, 1, 1, m, dtype=torch.bool) if seen is None else seen
    return choose_keys(bias, seen, window=window, select=select, block_size=block_size)


def attend_kept(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b g m d"],
    v: Float[Tensor, "b g m dv"],
    bias: Float[Tensor, "#b #g #n m"],
    kept: Bool[Tensor, "#b #g #n m"],
    scale: float,
) -> Float[Tensor, "b h n dv"]:
    """One softmax over all pairs, those not kept closed; queries of a group count as queries of their key head."""
    ratio, n = q.shape[1] // k.shape[1], q.shape[2]
    some = kept.any(-1, keepdim=True)
    closed = torch.where(kept | ~some, 0.0, -torch.inf).to(q.dtype)  # a row that keeps none is open here, and 0 below
    fixed = DenseBias(_by_query(closed, ratio, n))
    own = PerKey(bias[:, :, 0]) if bias.shape[2] == 1 else DenseBias(_by_query(bias.to(q.dtype), ratio, n))
    out = attend(plain_call(q.unflatten(1, (k.shape[1], ratio)).flatten(2, 3), k, v, scale=scale, bias=own + fixed)).out
    out = out.unflatten(2, (ratio, n)).flatten(1, 2)
    return out if some.all() else out.masked_fill(~some.repeat_interleave(ratio if some.shape[1] > 1 else 1, dim=1), 0)
