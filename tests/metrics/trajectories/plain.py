"""Plain rewrites: loops over cells and windows, in the words of the definitions."""

from collections.abc import Callable
from itertools import product
from math import inf

import numpy as np


def aligned(p: np.ndarray, q: np.ndarray, combine: Callable[[float, float], float]) -> float:
    c = {(-1, -1): -inf if combine is max else 0.0}
    for i, j in product(range(len(p)), range(len(q))):
        before = min(c.get(cell, inf) for cell in ((i - 1, j), (i, j - 1), (i - 1, j - 1)))
        c[i, j] = combine(float(np.linalg.norm(p[i] - q[j])), before)
    return c[len(p) - 1, len(q) - 1]


def tde(p: np.ndarray, q: np.ndarray, k: int, window: str) -> list[float]:
    def apart(i: int, j: int) -> float:
        steps = np.linalg.norm(p[i : i + k] - q[j : j + k], axis=1)
        return float(steps.sum() if window == "sum" else np.sqrt((steps**2).sum()))

    return [min(apart(i, j) for j in range(len(q) - k + 1)) / k for i in range(len(p) - k + 1)]
