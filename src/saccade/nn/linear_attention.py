"""Linear attention as a mixer, and what linear transformers put beside it: depthwise convolutions.

    out_i = phi(q_i) sum_j phi(k_j) v_j^T / (phi(q_i) sum_j phi(k_j) + eps), then + DWC(v)

Sources: Katharopoulos et al. (2020); Han et al., FLatten Transformer (2023); Xie et al., SANA (2024);
Li et al., LocalViT (2021).
"""

from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.attention import per_head
from saccade.nn.part import MixerOutput, TokenPositions, sides, to_map, to_tokens
from saccade.nn.registry import feedforward, mixer
from saccade.ops.linear import Features, elu_features, focused_features, normalised, relu_features

Named = Literal["relu", "elu", "focused"]


@mixer("linear")
class LinearAttention(nn.Module):
    """Every token reads one summary of all: no map of pairs, cost linear in their number.

    features   relu, elu (plus one), or focused (relu to the power `exponent`, its length kept)
    local      side of a depthwise convolution of v that is added before the output projection; 0: none
    """

    def __init__(
        self, width: int, heads: int, *, features: Named = "relu", exponent: float = 3.0, local: int = 0
    ) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, per_head(width, heads)
        self.features = chosen_features(features, exponent)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.local = LocalTerm(width, local) if local else None
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        check_place(place, "linear")
        q, k, v = split_heads(self.qkv(x), self.heads)
        q, k, v = self.features(q), gone(self.features(k), place), gone(v, place)
        mixed = normalised(q, k, v, count=counted(place))
        return MixerOutput(self.out(join(mixed, v, self.local, place)), {})


class LocalTerm(nn.Module):
    """A depthwise convolution over the grid, one filter a channel.

    Raises ValueError for an even side.
    """

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        if side < 1 or side % 2 == 0:
            raise ValueError(f"local={side} must be an odd side, or 0 for none")
        self.conv = nn.Conv2d(width, width, side, padding=side // 2, groups=width)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Float[Tensor, "b n d"]:
        return to_tokens(self.conv(to_map(x, sides(place, x.shape[1], "local convolution"))))


@feedforward("gated_conv")
class GatedConv(nn.Module):
    """Expand, convolve depthwise 3 x 3, gate by SiLU, project; `ratio` times as wide inside, as SANA's Mix-FFN."""

    def __init__(self, width: int, *, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(ratio * width)
        self.up, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)
        self.local = LocalTerm(2 * hidden, 3)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        value, gate = self.local(self.up(x), place).chunk(2, dim=-1)
        return MixerOutput(self.down(value * F.silu(gate)), {})


@feedforward("local_mlp")
class LocalMlp(nn.Module):
    """Expand, GELU, convolve depthwise 3 x 3, GELU, project; `ratio` times as wide inside, as LocalViT's."""

    def __init__(self, width: int, *, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(ratio * width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.local = LocalTerm(hidden, 3)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        return MixerOutput(self.down(F.gelu(self.local(F.gelu(self.up(x)), place))), {})


def chosen_features(name: Named, exponent: float) -> Features:
    """Features by name.

    Raises ValueError for an unknown name or an exponent below 1.
    """
    known: dict[str, Features] = {
        "relu": relu_features,
        "elu": elu_features,
        "focused": partial(focused_features, exponent=exponent),
    }
    if name not in known:
        raise ValueError(f"features='{name}' must be one of {', '.join(known)}")
    if exponent < 1:
        raise ValueError(f"exponent={exponent} must be at least 1; 1 is relu")
    return known[name]


def check_place(place: TokenPositions, name: str) -> None:
    """Raise ValueError where the summary of all tokens would be read across what must stay apart."""
    if place.causal or place.lengths is not None:
        raise ValueError(f"mixer '{name}' reads one summary of all tokens; causal or packed sequences need 'attention'")


def split_heads(x: Float[Tensor, "b n kd"], heads: int, parts: int = 3) -> Float[Tensor, "k b h n e"]:
    """A joint projection as `parts` operands by head."""
    return x.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4)


def gone(x: Float[Tensor, "b h n e"], place: TokenPositions) -> Float[Tensor, "b h n e"]:
    """Zero where no token is."""
    return x if place.keep is None else x * place.keep[:, None, :, None]


def counted(place: TokenPositions) -> Float[Tensor, "b 1 1 1"] | None:
    """How many tokens each row holds, None where all are there."""
    return None if place.keep is None else place.keep.sum(1).view(-1, 1, 1, 1).float()


def join(
    mixed: Float[Tensor, "b h n e"], v: Float[Tensor, "b h n e"], local: nn.Module | None, place: TokenPositions
) -> Float[Tensor, "b n d"]:
    """Heads side by side, with the local term of v."""
    tokens = mixed.transpose(1, 2).flatten(2)
    return tokens if local is None else tokens + local(v.transpose(1, 2).flatten(2), place)
