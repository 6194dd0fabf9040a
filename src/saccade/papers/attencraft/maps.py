"""AttenCraft's maps: columns of the attention to words, stretched, and spread over what the image itself pays to.

c_j   = minmax(C_j)             c2_j = minmax(C_j^2)          C_j on the image's own grid
A     = minmax(S)               f_j  = minmax(minmax(A^4) c2_j)
minmax(x) = (x - min) / (max - min), zeros where all of x is alike
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.core.checks import check_numbers
from saccade.mechanisms.attention_maps import RecordedMaps, Size

POWER = 4
Positions = Sequence[int]  # of tokens within the text: one, or a token with what describes it


def minmax(x: Float[Tensor, "*s"], dims: int = 2) -> Float[Tensor, "*s"]:
    """Stretched to [0, 1] over the last `dims` axes, in float32 at least; zeros where all is alike."""
    axes, x = tuple(range(-dims, 0)), x.to(torch.promote_types(x.dtype, torch.float32))
    low, high = x.amin(axes, keepdim=True), x.amax(axes, keepdim=True)
    alike = high == low
    return torch.where(alike, torch.zeros_like(x), (x - low) / torch.where(alike, torch.ones_like(high), high - low))


def columns(maps: RecordedMaps, classes: Sequence[Positions]) -> Float[Tensor, "b k h w"]:
    """C: attention to each class, the largest of its tokens'.

    Raises ValueError for a token that was not recorded.
    """
    if unknown := sorted({token for tokens in classes for token in tokens} - {*maps.tokens}):
        raise ValueError(f"classes name token {unknown[0]} of the text, and recorded are {maps.tokens}; record it too")
    if not all(classes):
        raise ValueError(f"classes={classes!r} hold one without a token; give each at least one position")
    place = {token: i for i, token in enumerate(maps.tokens)}
    return torch.stack([maps.words[:, [place[token] for token in tokens]].amax(1) for tokens in classes], 1)


def resized(heat: Float[Tensor, "b k h w"], size: Size) -> Float[Tensor, "b k y x"]:
    """On another grid, bicubic; as it is where the grid is this one."""
    if tuple(heat.shape[-2:]) == tuple(size):
        return heat
    return F.interpolate(heat, size=size, mode="bicubic", align_corners=False)


def affinity(image: Float[Tensor, "b n n"], power: int = POWER) -> Float[Tensor, "b n n"]:
    """minmax(A^power) of the map among visual tokens, rows are queries."""
    return minmax(torch.linalg.matrix_power(minmax(image), power))


def propagate(spread: Float[Tensor, "b n n"], heat: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """f: each token gets what those it pays to have."""
    return minmax((heat.flatten(2) @ spread.mT).unflatten(2, heat.shape[-2:]))


def extract_maps(
    maps: RecordedMaps, classes: Sequence[Positions], *, power: int = POWER, square: bool = True
) -> Float[Tensor, "b k h w"]:
    """f of every class, on the grid of the map among visual tokens; classes are subjects, then the background.

    power   of the affinity; 0 spreads nothing
    square  whether columns are squared first
    Raises ValueError for options out of range, and where no map among visual tokens was recorded.
    """
    check_numbers(power=power)
    if power < 0 or int(power) != power:
        raise ValueError(f"power={power} must be 0 or a whole number above it; 0 spreads nothing")
    if maps.image is None or maps.size is None:
        raise ValueError("maps hold none among visual tokens; record them with image=None, or a grid")
    raw = resized(columns(maps, classes), maps.size).to(torch.promote_types(maps.words.dtype, torch.float32))
    heat = minmax(raw.square() if square else raw)
    return propagate(affinity(maps.image, power), heat) if power else heat
