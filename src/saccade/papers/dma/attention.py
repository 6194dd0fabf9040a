"""Attention with one bias for each key, over the keys that a query keeps.

    out_i = sum over kept j of softmax_j(scale q_i k_j + b_j) v_j,    0 where nothing is kept

Three ways to the same numbers, with the same gradients; the choice of keys passes none:
gathered   a block of queries reads the keys alive in it, w and its own at most
tiles      `ops.gather` over the tiles of the map that are not empty
dense      one softmax with all other pairs closed: an n x m map, and every case there is
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from saccade.core.biases import Bias, DenseBias, PerKey
from saccade.core.call import plain_call
from saccade.core.checks import check_word
from saccade.core.errors import RefusedError
from saccade.core.places import Causal
from saccade.ops.dispatch import attend
from saccade.papers.dma.gathered import attend_gathered
from saccade.papers.dma.lifetimes import key_lifetimes
from saccade.papers.dma.selection import Compat, Select, as_map, check_choice, choose_keys
from saccade.papers.dma.tiles import attend_tiles

Kernel = Literal["gathered", "tiles", "dense"]
SHORT = 256  # keys below which one masked softmax takes less


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How keys are chosen; what each option means is said at `selection.choose_keys`.

    causal   a query sees keys at or before its own place, counted from the end where keys outnumber queries
    Raises ValueError for options out of range.
    """

    window: int = 2048
    select: Select = "topk"
    block_size: int = 1
    causal: bool = True
    compat: Compat | None = None

    def __post_init__(self) -> None:
        check_choice(self.window, self.select, self.block_size)

    @property
    def looking_ahead(self) -> "Choice":
        """The same without causal order."""
        return replace(self, causal=False)

    def of_all(self, m: int) -> "Choice":
        """The choice that keeps all of m keys that may be seen."""
        return Choice(window=m, causal=self.causal)

    @property
    def ranked(self) -> bool:
        """Whether a key has a lifetime: it is then known by two numbers."""
        return self.select == "topk" and self.block_size == 1 and self.causal

    def map(self, bias: Float[Tensor, "#b #g #n m"], n: int, mask: Tensor | None = None) -> Bool[Tensor, "#b #g #n m"]:
        """The keys kept by each of n queries; as many rows, heads and queries as differ.

        Where keys are no more than w all that may be seen are kept; "relu" chooses at any length.
        """
        m = bias.shape[3]
        seen = None if mask is None else as_map(mask, n, m)
        if self.causal and n > 1:
            order = torch.ones(n, m, dtype=torch.bool, device=bias.device).tril(m - n)[None, None]
            seen = order if seen is None else seen & order
        if self.select == "topk" and m <= self.window:
            return bias.new_ones(1, 1, 1, m, dtype=torch.bool) if seen is None else seen
        return choose_keys(
            bias, seen, window=self.window, select=self.select, block_size=self.block_size,
            grows=self.causal and self.compat is None, compat=self.compat,
        )  # fmt: skip


def dynamic_mask_attention(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b g m d"],
    v: Float[Tensor, "b g m dv"],
    bias: Tensor,
    choice: Choice,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
    kernel: Kernel | None = None,
    additive: bool = True,
) -> Float[Tensor, "b h n dv"]:
    """Attention over the keys kept; each key head's choice serves the h / g query heads of its group.

    bias     (b g m), of `key_bias`; or a map (b|1 g|1 n|1 m), where queries differ
    mask     what may be seen besides causal order, as `selection.as_map` takes it
    scale    of the products; None: d ** -0.5
    kernel   None: gathered where it can and pays, else dense
    additive   whether the bias is added to the logits; without, it chooses alone and gets no gradient
    Raises ValueError for operands and masks that do not fit, RefusedError for a kernel that cannot do what is asked.
    """
    _check_operands(q, k, v)
    bias = _as_map(bias, q, k)
    if q.is_meta:  # for counts of multiply-adds, as if no pair were spared
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    factor: float = q.shape[-1] ** -0.5 if scale is None else scale
    keep = None if mask is None else as_map(mask, q.shape[2], k.shape[2])
    name = _kernel(kernel, _reasons(choice, bias, keep), k.shape[2], choice.window)
    added = bias if additive else torch.zeros_like(bias)
    if name == "dense":
        if keep is None and bias.shape[2] == 1 and choice.ranked and k.shape[2] <= choice.window:
            return _causal(q, k, v, added, factor)
        return attend_kept(q, k, v, added, choice.map(bias, q.shape[2], keep), factor)
    rows, added = (each[:, :, 0].expand(*k.shape[:3]) for each in (bias, added))
    found = key_lifetimes(rows, choice.window, queries=q.shape[2], keep=None if keep is None else keep[:, :, 0])
    return (attend_gathered if name == "gathered" else attend_tiles)(q, k, v, added, found, factor)


def attend_kept(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b g m d"],
    v: Float[Tensor, "b g m dv"],
    bias: Float[Tensor, "#b #g #n m"],
    kept: Bool[Tensor, "#b #g #n m"],
    scale: float,
) -> Float[Tensor, "b h n dv"]:
    """One softmax over all pairs, those not kept closed; the queries of a group stand in one row of their key head."""
    groups, ratio, n = k.shape[1], q.shape[1] // k.shape[1], q.shape[2]
    some = kept.any(-1, keepdim=True)  # a query that keeps none has all open here, and is cleared below
    closed = _by_group(torch.where(kept | ~some, 0.0, -torch.inf).to(q.dtype), ratio, n)
    own: Bias = DenseBias(_by_group(bias.to(q.dtype), ratio, n)) if bias.shape[2] > 1 else PerKey(bias[:, :, 0])
    rows = q.unflatten(1, (groups, ratio)).flatten(2, 3)
    out = attend(plain_call(rows, k, v, scale=scale, bias=own + DenseBias(closed))).out
    out = torch.where(_by_group(some, ratio, n), out, 0.0)
    return out.unflatten(2, (ratio, n)).flatten(1, 2)


def _causal(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Float[Tensor, "b h n dv"]:
    """All keys are kept: causal order and the bias are all there is."""
    mask = Causal() if q.shape[2] > 1 else None
    values = bias[:, :, 0].expand(-1, k.shape[1], -1)
    return attend(plain_call(q, k, v, scale=scale, mask=mask, bias=PerKey(values))).out


def _by_group(x: Tensor, ratio: int, n: int) -> Tensor:
    """(b g n|1 m) for each query head of a group, one after the other: (b g ratio*n m)."""
    return x[:, :, None].expand(-1, -1, ratio, n, -1).flatten(2, 3)


def _reasons(choice: Choice, bias: Tensor, keep: Tensor | None) -> list[str]:
    """Why keys have no lifetimes here."""
    reasons = [] if choice.ranked else ["only the w best keys in causal order, block_size=1, have lifetimes"]
    if bias.shape[2] > 1:
        reasons.append("the bias differs by query")
    if keep is not None and keep.shape[2] > 1:
        reasons.append("the mask differs by query; give padding as (batch, keys)")
    if torch.compiler.is_compiling():
        reasons.append("lifetimes are found outside a graph")
    return reasons


def _kernel(asked: Kernel | None, reasons: list[str], m: int, window: int) -> Kernel:
    if asked is None:
        return "dense" if reasons or m < max(SHORT, 2 * window) else "gathered"
    check_word(get_args(Kernel), kernel=asked)
    if asked != "dense" and reasons:
        raise RefusedError(f"this call by kernel='{asked}'", {asked: reasons})
    return asked


def _check_operands(q: Tensor, k: Tensor, v: Tensor) -> None:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)}"
    if 0 in (*q.shape, *k.shape, *v.shape):
        raise ValueError(f"{shapes} have a dimension of size 0; give at least one of everything")
    if k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or q.shape[1] % k.shape[1]:
        raise ValueError(f"{shapes} must be (b h n d), (b g m d) and (b g m dv), h a multiple of g")
    if k.shape[2] < q.shape[2]:
        raise ValueError(f"{shapes}: keys must be at least as many as queries")


def _as_map(bias: Tensor, q: Tensor, k: Tensor) -> Float[Tensor, "#b #g #n m"]:
    whole = bias[:, :, None] if bias.ndim == 3 else bias
    wanted = (q.shape[0], k.shape[1], q.shape[2], k.shape[2])
    if (
        whole.ndim != 4
        or whole.shape[3] != wanted[3]
        or any(x not in (1, y) for x, y in zip(whole.shape, wanted, strict=True))
    ):
        raise ValueError(
            f"bias {tuple(bias.shape)} must be ({wanted[0]}, {wanted[1]}, {wanted[3]}) or broadcast to {wanted}"
        )
    return whole
