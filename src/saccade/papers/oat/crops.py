"""What an object looks like, as a vector: two convolutions over its crop, as released, or a spatial pyramid of them.

conv 5 x 5, 16, ReLU, max over 5 x 5, conv 3 x 3, 32, ReLU, max over 3 x 3, all of it, linear
pyramid = L: after the second ReLU the maxima of 1, 4, 16 .. 4^(L-1) fields, for crops of any size
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 32


def pyramid_maxima(x: Float[Tensor, "n c h w"], levels: int) -> Float[Tensor, "n d"]:
    """Maxima over 2^l x 2^l fields of equal size for l = 0 .. levels - 1; zeros around the map where it falls short."""
    found = []
    for parts in (2**level for level in range(levels)):
        sides = [-(-side // parts) for side in x.shape[-2:]]
        spare = [parts * each - side for each, side in zip(sides, x.shape[-2:], strict=True)]
        around = [pad for each in reversed(spare) for pad in (each // 2, each - each // 2)]
        found.append(F.max_pool2d(F.pad(x, around), sides).flatten(1))
    return torch.cat(found, dim=-1)


class CropEmbedding(nn.Module):
    """Crops (b n 3 h w) in [0, 1] to vectors (b n width).

    sides     height and width of a crop, where there is no pyramid
    pyramid   levels of it; 0: none
    Raises ValueError for sides of which the convolutions leave nothing.
    """

    def __init__(self, width: int, sides: tuple[int, int] = (150, 93), *, pyramid: int = 0) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.first, self.second = nn.Conv2d(3, 16, 5), nn.Conv2d(16, CHANNELS, 3)
        left = [(((side - 4) // 5) - 2) // 3 for side in sides]
        if not pyramid and min(left) < 1:
            raise ValueError(f"crop={sides} leaves no field after two convolutions; take sides of at least 29 pixels")
        fields = sum(4**level for level in range(pyramid)) if pyramid else left[0] * left[1]
        self.out = nn.Linear(CHANNELS * fields, width)

    def forward(self, crops: Float[Tensor, "b n 3 h w"]) -> Float[Tensor, "b n d"]:
        x = F.max_pool2d(self.first(crops.flatten(0, 1)).relu(), 5)
        x = self.second(x).relu()
        x = pyramid_maxima(x, self.pyramid) if self.pyramid else F.max_pool2d(x, 3).flatten(1)
        return self.out(x).unflatten(0, crops.shape[:2])
