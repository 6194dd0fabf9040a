"""PATNet's block: a mixer of the kit, and PATNet's feed-forward, on feature maps.

    v1   x + drop(mlp(mixer(x)))                           mixers that pass on what they read: pconv, pat_ch
    v2   x = x + mixer(x), then x + drop(mlp(x))           any other

Source: Huang et al., PATNet (2025).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.part import MixerOutput, TokenPositions, to_map, to_tokens
from saccade.nn.registry import make_mixer
from saccade.papers.patnet.spatial import PATMlp


class PATBlock(nn.Module):
    """`drop`: share of the pictures for which the feed-forward's branch is left out in training.

    layer_scale   weight of that branch at first, one for each channel; None: not weighed
    Raises ValueError for a share outside [0, 1).
    """

    def __init__(
        self, mixer: str, width: int, heads: int, mlp: PATMlp, *, drop: float = 0.0, layer_scale: float | None = None
    ) -> None:
        super().__init__()
        if not 0 <= drop < 1:
            raise ValueError(f"drop={drop} must be in [0, 1), a share of the pictures")
        self.mixer, self.mlp, self.drop = make_mixer(mixer, width, heads), mlp, drop
        self.residual = getattr(self.mixer, "residual", True)
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), layer_scale)) if layer_scale is not None else None

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The same shape. Raises ValueError for a mixer with losses of its own, which a classifier cannot hand on."""
        mixed = self.mixed(x)
        x, read = (x + mixed, x + mixed) if self.residual else (x, mixed)
        fed = self.mlp(read)
        return x + drop_rows(fed if self.layer_scale is None else fed * self.layer_scale, self.drop * self.training)

    def mixed(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """What the mixer makes of a map. Raises ValueError for a mixer with losses of its own."""
        grid = (x.shape[2], x.shape[3])
        found: MixerOutput = self.mixer(to_tokens(x), TokenPositions(grid=grid))
        if found.losses:
            raise ValueError(
                f"the mixer has losses of its own ({', '.join(found.losses)}) and logits hand none on; choose another"
            )
        return to_map(found.out, grid)


def drop_rows(x: Float[Tensor, "b c h w"], share: float) -> Float[Tensor, "b c h w"]:
    """Leave out some rows at random; the others are scaled so that the mean stays (stochastic depth)."""
    if not share:
        return x
    kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= share
    return x * kept / (1 - share)
