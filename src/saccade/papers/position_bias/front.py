"""A row of a deep rollout without a map: content all alike, the mask and the decay say all.

Going back from the last layer, a row p becomes p A. With A_ij = q^(i-j) / Z_i that is one pass over the tokens,
y_j = p_j / Z_j + q y_(j+1), so a layer costs n and nothing n x n is held.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import lfilter
from torch import Tensor

from saccade.analysis.rollout import Share, shares
from saccade.papers.position_bias.maps import check_slope
from saccade.papers.position_bias.masks import CAUSAL, Causal, Full, Graph, Prefix, Window


def front_row(
    n: int, layers: int, graph: Graph = CAUSAL, *, slope: float = 0.0, residual: Share | None = None, row: int = -1
) -> Float[Tensor, " {n}"]:
    """Row `row` of the rollout of `layers` content-free layers: all of them alike.

    Raises ValueError for a slope with a prefix or full mask, and for options out of range.
    Cost: layers x n.
    """
    check_slope(slope)
    if slope and isinstance(graph, Prefix | Full):
        raise ValueError(f"slope={slope} is for causal and window masks, not {graph}; use rollout of attention_map")
    if isinstance(graph, Prefix):
        graph.check(n)
    p = np.zeros(n)
    p[row] = 1
    for share in shares(residual, layers).flip(0).tolist():
        p = share * _back(p, graph, slope) + (1 - share) * p
    return torch.from_numpy(p)


def _back(p: Float[np.ndarray, " n"], graph: Graph, slope: float) -> Float[np.ndarray, " n"]:
    n, seen = len(p), np.arange(1, len(p) + 1)
    match graph:
        case Full():
            return np.full(n, p.sum() / n)
        case Prefix():
            head = np.arange(n) < graph.length
            return _sums(np.where(head, 0, p / seen), 1.0) + head * p[head].sum() / graph.length
        case Causal():
            return _sums(p / _weight(seen, slope), math.exp(-slope))
        case Window():
            seen, q = np.minimum(seen, graph.width), math.exp(-slope)
            whole = _sums(p / _weight(seen, slope), q)
            late = np.zeros(n)
            late[: max(n - graph.width, 0)] = whole[graph.width :]
            return np.maximum(whole - q**graph.width * late, 0.0)  # rounding alone goes below zero


def _sums(u: Float[np.ndarray, " n"], q: float) -> Float[np.ndarray, " n"]:
    """sum_(i >= j) u_i q^(i - j)."""
    return np.asarray(lfilter([1.0], [1.0, -q], u[::-1]))[::-1]


def _weight(seen: np.ndarray, slope: float) -> np.ndarray:
    """Z = 1 + q + ... + q^(seen - 1)."""
    return seen.astype(float) if slope == 0 else np.expm1(-slope * seen) / math.expm1(-slope)
