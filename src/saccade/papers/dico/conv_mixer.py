"""DiCo's Conv Module: mix a picture's tokens by one depthwise convolution, and gate the channels it fills.

    h = GELU(depthwise(enter(x))),    out(h * gate(h))

Cost for n tokens of width d: n (2 d^2 + k^2 d) + d^2 multiply-adds, linear in n. The gate alone looks further than the
kernel; a tile drawn by itself differs from its place in the whole picture by that gate.

Source: Ai et al., "DiCo: Revitalizing ConvNets for scalable and efficient diffusion modeling" (2025).
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.block import xavier_
from saccade.nn.part import MixerOutput, TokenPositions, sides, to_map, to_tokens
from saccade.nn.registry import mixer
from saccade.papers.dico.channel_attention import make_gate


@mixer("dico")
class ConvMixer(nn.Module):
    """Every token looks at its neighbours, and at the mean of all through the gate; there are no heads.

    gate     "cca", "se", "channels" or "none": how channels are weighed, see `channel_attention`
    kernel   side of the depthwise kernel, odd

    Tokens that are not there count as the outside of the picture: zeros, and no part of the mean.
    Raises ValueError for an even kernel.
    """

    def __init__(self, width: int, heads: int = 1, *, gate: str = "cca", kernel: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd, such as 3, 5 or 7")
        self.enter, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.gate = make_gate(gate, width)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        """Mix neighbours; raises ValueError for causal positions."""
        if place.causal:
            raise ValueError("dico looks at neighbours on all sides; it cannot be causal")
        return MixerOutput(self.mix(x, sides(place, x.shape[1], "dico"), place.keep), {})

    def on_map(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """The same on a feature map."""
        grid = (x.shape[2], x.shape[3])
        return to_map(self.mix(to_tokens(x), grid, None), grid)

    def mix(
        self, x: Float[Tensor, "b n d"], grid: tuple[int, int], keep: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n d"]:
        """Tokens of one grid."""
        x = self.enter(x)
        x = x if keep is None else x * keep[..., None]
        x = to_tokens(F.gelu(self.depthwise(to_map(x, grid))))
        return self.out(self.gate(x, keep))

    def reset(self) -> None:
        """Xavier-uniform, the depthwise kernel too; biases 0."""
        xavier_(self)
        nn.init.xavier_uniform_(self.depthwise.weight)
        nn.init.zeros_(self.depthwise.bias)  # type: ignore[arg-type]
