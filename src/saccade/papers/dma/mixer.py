"""Self-attention over the keys whose values score highest: the layer of the Doge models, as a mixer.

    q, k: RMSNorm over a head, then rotary;    b = key_bias(v);    every query keeps w keys of those it may see

Weights bear the official names. A memory may forget: a key that was dropped is never kept again, so w keys and values
of each key head are all that is needed, however long the text.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.core.checks import check_word
from saccade.nn.attention import per_head
from saccade.nn.memory import Memory
from saccade.nn.part import MixerOutput, TokenPositions
from saccade.nn.positions import grid_places
from saccade.nn.registry import mixer
from saccade.nn.residual import small_normal_
from saccade.nn.steering import steers
from saccade.papers.dma.attention import Choice, Kernel, dynamic_mask_attention
from saccade.papers.dma.half_rotation import half_angles, rotate_halves
from saccade.papers.dma.scores import Form, key_bias
from saccade.papers.dma.selection import Select, top_w


@mixer("dma")
class DynamicMaskAttention(nn.Module):
    """Attention in which every query keeps `window` keys, by a score that is trained with the rest.

    kv_heads     key heads; each serves heads / kv_heads query heads. None: as many
    head_dim     of each head; None: width / heads
    window, select, block_size   as of `selection.choose_keys`
    bias_form    "exp", the paper's, or "linear", the later code's
    additive     whether the score is added to the logits too; without, nothing trains it
    std          of A at first; 0 starts as a sliding window
    qk_norm, rotary, base   norms of q and k, rotary positions and their base
    forget       whether a memory drops what is never kept again; only where a choice has lifetimes
    kernel       of `dynamic_mask_attention`; None: it chooses
    Raises ValueError for options out of range.
    """

    remembers = True

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        window: int = 2048,
        select: Select = "topk",
        block_size: int = 1,
        bias_form: Form = "exp",
        additive: bool = True,
        std: float = 0.02,
        qk_norm: bool = True,
        rotary: bool = True,
        base: float = 10000.0,
        forget: bool = True,
        kernel: Kernel | None = None,
    ) -> None:
        super().__init__()
        check_word(("exp", "linear"), bias_form=bias_form)
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads or heads, head_dim or per_head(width, heads)
        if select == "relu" and bias_form == "exp":
            raise ValueError(
                "select='relu' keeps every key of bias_form='exp', whose scores are all above 0; take 'linear'"
            )
        if heads % self.kv_heads:
            raise ValueError(f"heads={heads} must be a multiple of kv_heads={kv_heads}")
        self.choice = Choice(window=window, select=select, block_size=block_size)
        self.bias_form: Form = bias_form
        self.additive, self.rotary, self.base = additive, rotary, base
        self.forget = forget
        self.kernel: Kernel | None = kernel
        inner, shared = heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = nn.Linear(width, inner, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(width, shared, bias=False) for _ in range(2))
        self.o_proj = nn.Linear(inner, width, bias=False)
        self.dt_proj = steers(nn.Linear(shared, self.kv_heads, bias=False))
        self.A = nn.Parameter(torch.zeros(self.kv_heads))
        self.q_norm, self.k_norm = (
            nn.RMSNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity() for _ in range(2)
        )  # fmt: skip
        self.std = std
        self.reset()

    def reset(self) -> None:
        """Normal weights of deviation 0.02, as the official code's; A of deviation `std`."""
        small_normal_(self)
        nn.init.normal_(self.A, std=self.std)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        q, k, v = self.operands(x, place)
        if place.lengths is None:
            out = self._attend(q, k, v, place)
        else:
            parts = zip(*(each.split(place.lengths, dim=2) for each in (q, k, v)), strict=True)
            alone = TokenPositions(causal=place.causal)
            out = torch.cat([self._attend(*part, place=alone) for part in parts], dim=2)
        return MixerOutput(self.o_proj(out.transpose(1, 2).flatten(2)), {})

    def operands(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> tuple[Tensor, Tensor, Tensor]:
        """q (b h n e), k and v (b g n e), normalised and turned."""
        q, k, v = (each(x).unflatten(-1, (-1, self.head_dim)) for each in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = (each.transpose(1, 2) for each in (self.q_norm(q), self.k_norm(k), v))
        if self.rotary:
            angles = half_angles(_places(place, x), self.head_dim, self.base)
            q, k = rotate_halves(q, angles), rotate_halves(k, angles)
        return q, k, v

    def score(self, v: Float[Tensor, "b g n e"]) -> Float[Tensor, "b g n"]:
        """What ranks each key, and is added to its logits."""
        return key_bias(v, self.dt_proj.weight, self.A, self.bias_form)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, place: TokenPositions) -> Float[Tensor, "b h n e"]:
        score, keep = self.score(v), None if place.keep is None else place.keep[:, None, None]
        choice = self.choice if place.causal else self.choice.looking_ahead
        if place.memory is not None:
            k, v, score, keep = _recalled(place.memory, k, v, score, keep)
        out = dynamic_mask_attention(
            q, k, v, score, choice, mask=keep, kernel=self.kernel, additive=self.additive
        )  # fmt: skip
        if place.memory is not None and self.forget and choice.ranked:
            _forget(place.memory, choice.window)
        return out


def _places(place: TokenPositions, x: Tensor) -> Float[Tensor, "n axes"]:
    if place.places is not None:
        return place.places
    if place.lengths is not None:
        return torch.cat([torch.arange(each, device=x.device) for each in place.lengths])[:, None].float()
    return grid_places(place.grid or (x.shape[1],), start=None if place.grid else (place.before,)).to(x.device)


def _recalled(
    memory: Memory, k: Tensor, v: Tensor, score: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All that is remembered, the new tokens last, and which of it is there."""
    there = torch.ones_like(score, dtype=torch.bool) if keep is None else keep[:, 0].expand(score.shape)
    k, v = memory.append("k", k), memory.append("v", v)
    return k, v, memory.append("score", score, dim=-1), memory.append("there", there, dim=-1)[:, :, None]


def _forget(memory: Memory, window: int) -> None:
    """Keep the best `window` of what is there, in the order of their places."""
    score, there = memory.kept["score"], memory.kept["there"]
    if score.shape[2] <= window:
        return
    best = top_w(score.detach().masked_fill(~there, -torch.inf), window) & there
    order = best.int().sort(dim=-1, descending=True, stable=True).indices[..., :window]
    for name, value in memory.kept.items():
        at = order if value.ndim == 3 else order[..., None].expand(-1, -1, -1, value.shape[3])
        memory.kept[name] = value.gather(2, at)
    memory.kept["there"] = best.gather(2, order)
