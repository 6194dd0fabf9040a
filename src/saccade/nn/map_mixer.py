"""Layers on feature maps, (b c h w) -> same shape, as parts that work on the tokens of a grid."""

from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.part import MixerOutput, TokenPositions, sides, to_map, to_tokens


class MapPart(nn.Module):
    """A layer on maps behind the call of all parts; `name` stands in its errors.

    Where a layer takes means over the picture or the batch, tokens that are not there would count, so none may be left
    out.
    """

    def __init__(self, name: str, layer: nn.Module) -> None:
        super().__init__()
        self.name, self.layer = name, layer

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        """Raises ValueError for tokens that fill no grid (h, w), for causal ones, and where some are not there."""
        if place.causal:
            raise ValueError(f"{self.name} looks at neighbours on all sides; it cannot be causal")
        if place.keep is not None:
            raise ValueError(f"{self.name} works on whole pictures; give place.keep=None, and crop what is padding")
        return MixerOutput(to_tokens(self.layer(to_map(x, sides(place, x.shape[1], self.name)))), {})

    def reset(self) -> None:
        """Start as the layer says, or as torch does."""
        getattr(self.layer, "reset", lambda: None)()
