"""Attention with one principle taken away, each a mixer with the parameters of `attention`.

mlp            no token sees another: out(down(silu(gate x) * up x)), three matrices in the place of those of q, k and v
approx         softmax of a second-order Taylor series
nonapprox      one score a position, whoever asks
rnd_emb_qk, fixed_seq_qk, static_emb_qk   softmax attention whose q and k are made of `place.source`, which a model
               gives: a stream that no text changes, or the embeddings of the text
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.attention import SelfAttention, grid_rotation
from saccade.nn.linear_attention import split_heads
from saccade.nn.part import MixerOutput, TokenPositions
from saccade.nn.positions import rotate
from saccade.nn.registry import mixer
from saccade.papers.deconstructing_attention.operators import OPERATORS, Operator, Reading, check_reading
from saccade.papers.deconstructing_attention.position_scores import scores

STREAMS = ("rnd_emb_qk", "fixed_seq_qk")
SOURCED = (*STREAMS, "static_emb_qk")


@mixer("mlp")
class TokenMlp(nn.Module):
    """A gated feed-forward in the place of attention; there is no mask, since there is nothing to hide.

    keep_out_proj   three width x width matrices and the output projection, 4 width^2 in all, as attention has; False:
                    none, and 4/3 width inside
    """

    remembers = True

    def __init__(self, width: int, heads: int, *, keep_out_proj: bool = True, bias: bool = False) -> None:
        super().__init__()
        inside = width if keep_out_proj else round(4 * width / 3)
        self.gate, self.up = (nn.Linear(width, inside, bias=bias) for _ in range(2))
        self.down = nn.Linear(inside, width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias) if keep_out_proj else nn.Identity()

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        return MixerOutput(self.out(self.down(F.silu(self.gate(x)) * self.up(x))), {})


@mixer("approx")
class TaylorAttention(nn.Module):
    """Softmax attention with the exponential's second-order series.

    reading   taylor, or per_order as the paper's appendix prints it
    """

    remembers = True

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        reading: Reading = "taylor",
        qk_norm: bool = False,
        rotary: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_reading(reading)
        self.attention = SelfAttention(width, heads, qk_norm=qk_norm, rotary=rotary, bias=bias)
        self.operator = OPERATORS[reading]

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        q, k, v = self.attention.operands(x, place)
        return joined(self.attention, mixed(self.operator, q, k, v, place))


@mixer("nonapprox")
class PositionScores(nn.Module):
    """One score a position. `qk_norm`, after the silu of q, keeps scores bounded, where they grow without it.

    Without a past, all tokens get one and the same mean.
    """

    remembers = True

    def __init__(self, width: int, heads: int, *, qk_norm: bool = False, bias: bool = False) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, qk_norm=qk_norm, bias=bias)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        q, k, v = self.operands(x)
        if place.causal:
            return joined(self.attention, mixed(OPERATORS["nonapprox"], q, k, v, place))
        check_whole(place)
        mean = scores(q, k).softmax(-1)[..., None, :].to(v.dtype) @ v
        return joined(self.attention, mean.expand_as(v))

    def operands(self, x: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b h n e"], ...]:
        """q after its silu, k and v; turning them would change nothing."""
        q, k, v = split_heads(self.attention.qkv(x), self.attention.heads)
        return self.attention.norm_q(F.silu(q)), self.attention.norm_k(k), v


class BorrowedQK(nn.Module):
    """Softmax attention; q and k are made of `place.source`, of one row for all texts or for each, v of its input."""

    remembers = True

    def __init__(
        self, width: int, heads: int, *, qk_norm: bool = False, rotary: bool = True, bias: bool = False
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, qk_norm=qk_norm, rotary=rotary, bias=bias)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        """Raises ValueError where the model gives no source, and for padding where one row of it serves all texts."""
        check_whole(place, padding=True)
        q, k, v = self.operands(x, place)
        if len(q) == 1 and place.causal and place.keep is None:
            return joined(self.attention, mixed(OPERATORS["borrowed_qk"], q, k, v, place))
        if len(q) != len(v):
            raise ValueError("a source of one row takes causal texts without padding; pad on the right, or not at all")
        if place.memory is not None:
            k, v = place.memory.append("k", k), place.memory.append("v", v)
        return joined(self.attention, self.attention.attend(q, k, v, place))

    def operands(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> tuple[Float[Tensor, "_ h n e"], ...]:
        """q and k of the source, normalised and turned, and v; raises ValueError where there is no source."""
        if place.source is None:
            raise ValueError(
                f"{type(self).__name__} makes q and k of place.source, and there is none; DeconstructedLM gives the "
                "embeddings of its ids, or its fixed stream"
            )
        attention, channels = self.attention, self.attention.heads * self.attention.head_dim
        q, k = split_heads(part_of(attention.qkv, place.source, slice(0, 2 * channels)), attention.heads, 2)
        (v,) = split_heads(part_of(attention.qkv, x, slice(2 * channels, None)), attention.heads, 1)
        q, k = attention.norm_q(q), attention.norm_k(k)
        if attention.rotary:
            table = grid_rotation(place, x.shape[1], attention.head_dim).to(x.device)
            q, k = rotate(q, table), rotate(k, table)
        return q, k, v


for name in SOURCED:
    mixer(name)(BorrowedQK)


def mixed(operator: Operator, q: Tensor, k: Tensor, v: Tensor, place: TokenPositions) -> Float[Tensor, "b h n e"]:
    """An operator's output; `place.memory` holds its state."""
    check_whole(place, padding=place.causal)
    if not place.causal:
        return operator.map(q, k, causal=False) @ v
    memory = place.memory
    options: dict[str, Any] = {"remember": memory is not None}
    if place.keep is not None:
        options["there"] = place.keep
    state = operator.state(**memory.kept) if memory is not None and memory.kept else None
    out, state = operator.run(q, k, v, state, **options)
    if memory is not None:
        memory.kept = state._asdict()
    return out


def joined(attention: SelfAttention, out: Float[Tensor, "b h n e"]) -> MixerOutput:
    """Heads side by side, and the output projection."""
    return MixerOutput(attention.out(out.transpose(1, 2).flatten(2)), {})


def part_of(layer: nn.Linear, x: Float[Tensor, "b n d"], rows: slice) -> Float[Tensor, "b n k"]:
    """Some of a linear layer's outputs."""
    return F.linear(x, layer.weight[rows], None if layer.bias is None else layer.bias[rows])


def check_whole(place: TokenPositions, *, padding: bool = False) -> None:
    """Raise ValueError for packed sequences and, unless `padding`, for padding."""
    if place.lengths is not None:
        raise ValueError(f"place.lengths={place.lengths} packs sequences, which these mixers do not part; give rows")
    if place.keep is not None and not padding:
        raise ValueError("place.keep marks padding in a sequence without causal order; give texts of one length")


def map_of(part: nn.Module, x: Float[Tensor, "b n d"], place: TokenPositions) -> Float[Tensor, "_ h n n"] | None:
    """What a mixer's tokens give to each other, one map a row and head; None for `mlp`, which has no map.

    Raises ValueError for another mixer.
    """
    match part:
        case TokenMlp():
            return None
        case TaylorAttention():
            return part.operator.map(*part.attention.operands(x, place)[:2], causal=place.causal)
        case PositionScores():
            return OPERATORS["nonapprox"].map(*part.operands(x)[:2], causal=place.causal)
        case BorrowedQK():
            return OPERATORS["borrowed_qk"].map(*part.operands(x, place)[:2], causal=place.causal)
        case SelfAttention():
            return OPERATORS["borrowed_qk"].map(*part.operands(x, place)[:2], causal=place.causal)
    raise ValueError(f"{type(part).__name__} is no mixer whose map is known; give one of this paper, or attention")
