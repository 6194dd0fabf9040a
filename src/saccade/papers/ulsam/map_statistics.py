"""What maps of attention are like: how spread out, how alike, and how many are dead.

entropy   of a map, as a share of the most there can be, log(h w); 1: everywhere alike
cosine    of two groups' maps of one picture, their means taken off; 1: the groups look at the same places
uniform   share of maps without any difference: what entered the softmax was clipped, and no gradient passes

Read them in evaluation mode, of `ULSAM.maps(x)`.
"""

from math import log

import torch
from jaxtyping import Float
from torch import Tensor


def map_statistics(maps: Float[Tensor, "b g h w"]) -> dict[str, float]:
    """`entropy`, `cosine` (NaN for one group) and `uniform`, means over pictures and groups.

    Raises ValueError for maps of one position, which have nothing to say.
    """
    flat = maps.flatten(2).double()
    if flat.shape[-1] < 2:
        raise ValueError(f"maps of shape {tuple(maps.shape)} have one position; read them at a layer with more")
    return {
        "entropy": float(torch.special.entr(flat).sum(-1).mean()) / log(flat.shape[-1]),
        "cosine": _likeness(flat),
        "uniform": float((flat.amax(-1) - flat.amin(-1) < 1e-12).double().mean()),
    }


def _likeness(flat: Float[Tensor, "b g n"]) -> float:
    """Mean cosine of pairs of groups; one with a uniform map among them counts as 0."""
    groups = flat.shape[1]
    centred = flat - flat.mean(-1, keepdim=True)
    unit = torch.nn.functional.normalize(centred, dim=-1)
    pairs = (unit @ unit.mT).sum((-2, -1)) - unit.square().sum((-2, -1))
    return float(pairs.mean()) / (groups * (groups - 1)) if groups > 1 else float("nan")
