"""What a row of a rollout says: which positions it favours."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.analysis.rollout import ROW_ERROR


@dataclass(frozen=True, kw_only=True)
class PositionProfile:
    """Of one token, the last of n.

    sink                  mass on the first token alone
    first, middle, last   mass of each third of the tokens, longer thirds first
    peak        how many tokens back the largest mass lies; of equals the most recent
    entropy     nats, 0 where one token has all, log n where all have the same
    early_bias  sum_j p_j (n - j) / (n - 1): 1 where the first token has all, 0 where the last has
    """

    sink: float
    first: float
    middle: float
    last: float
    peak: int
    entropy: float
    early_bias: float


def position_profile(row: Float[Tensor, " n"]) -> PositionProfile:
    """Of a row of a rollout that belongs to its last token.

    Raises ValueError for a row that is no distribution, or of fewer than three tokens.
    """
    p, n = row.double(), len(row)
    if n < 3 or not (p >= 0).all() or not abs(float(p.sum()) - 1) <= ROW_ERROR:
        raise ValueError(
            f"row of {n} tokens that sum to {float(p.sum()):.3g} must be shares of at least 3, summing to 1"
        )
    thirds = [float(part.sum()) for part in p.tensor_split(3)]
    places = torch.arange(n, dtype=torch.float64, device=p.device)
    return PositionProfile(
        sink=float(p[0]), first=thirds[0], middle=thirds[1], last=thirds[2],
        peak=int(p.flip(0).argmax()), entropy=float(-torch.special.xlogy(p, p).sum()),
        early_bias=float(p @ (n - 1 - places)) / (n - 1),
    )  # fmt: skip
