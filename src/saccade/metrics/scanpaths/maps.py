"""Saliency maps of fixations, and how well a map says where people looked.

Maps are arrays of rows and columns; points are (x, y), sizes (width, height). A map of another resolution than the
picture's is read at the place of the same share of width and height.

Sources: Bylinskii et al., "What do different evaluation metrics tell us about saliency models?" (2016).
"""

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from saccade.metrics.scanpaths.points import Points, Size, grid_cells

EPSILON = 1e-12
Map = Shaped[np.ndarray, "h w"]


def fixation_map(points: Points, size: Size, cells: Size | None = None) -> Float64[np.ndarray, "h w"]:
    """Fixations counted in each of cells = (columns, rows), by default pixels.

    Raises ValueError as `grid_cells` does.
    """
    width, height = cells or size
    counts = np.bincount(grid_cells(points, size, (width, height)), minlength=width * height)
    return counts.reshape(height, width).astype(np.float64)


def saliency_map(points: Points, size: Size, sigma: float, cells: Size | None = None) -> Float64[np.ndarray, "h w"]:
    """Fixations blurred by a Gaussian of `sigma` cells (pixels, by default); sums to 1.

    Raises ValueError as `fixation_map` does.
    """
    from scipy.ndimage import gaussian_filter

    return as_distribution(gaussian_filter(fixation_map(points, size, cells), sigma, mode="constant"))


def as_distribution(saliency: Map) -> Float64[np.ndarray, "h w"]:
    """The map over its sum.

    Raises ValueError for negative values, values that are no numbers, and a map of zeros.
    """
    found = np.asarray(saliency, dtype=np.float64)
    if not (np.isfinite(found).all() and found.min() >= 0 and found.sum() > 0):
        raise ValueError(f"saliency from {found.min()} to {found.max()} must be numbers from 0 on, some above 0")
    return found / found.sum()


def nss(saliency: Map, points: Points, size: Size) -> float:
    """Normalised scanpath saliency: the map with mean 0 and (population) deviation 1, averaged at the fixations.

    0 is chance. A flat map answers 0. Raises ValueError as `grid_cells` does.
    """
    found = np.asarray(saliency, dtype=np.float64)
    scaled = (found - found.mean()) / (found.std() + EPSILON)
    return float(scaled.flat[_places(found, points, size)].mean())


def auc_judd(saliency: Map, points: Points, size: Size) -> float:
    """Area under hits over false alarms, every fixated value being a threshold; 0.5 is chance.

    Raises ValueError as `grid_cells` does, and where every cell is fixated.
    """
    found = np.asarray(saliency, dtype=np.float64).ravel()
    fixated = np.unique(_places(saliency, points, size))
    others = len(found) - len(fixated)
    if not others:
        raise ValueError(f"all {len(found)} cells of the map are fixated; an area needs some that are not")
    thresholds = np.unique(found[fixated])[::-1]
    above = len(found) - np.searchsorted(np.sort(found), thresholds)
    hits = len(fixated) - np.searchsorted(np.sort(found[fixated]), thresholds)
    x, y = (np.concatenate(([0.0], part, [1.0])) for part in ((above - hits) / others, hits / len(fixated)))
    return float(np.trapezoid(y, x))


def _places(saliency: Map, points: Points, size: Size) -> Int64[np.ndarray, " n"]:
    height, width = saliency.shape
    return grid_cells(points, size, (width, height))


def cc(a: Map, b: Map) -> float:
    """Pearson's correlation of two maps; 0 where one is flat.

    Raises ValueError where their shapes differ.
    """
    x, y = (each - each.mean() for each in _pair(a, b))
    return float((x * y).mean() / (x.std() * y.std() + EPSILON))


def kl(saliency: Map, truth: Map) -> float:
    """Kullback-Leibler divergence of the map from the truth, both made to sum to 1: sum t log(t / s), in nats.

    Raises ValueError where shapes differ, or `as_distribution` refuses a map.
    """
    s, t = (as_distribution(each) for each in _pair(saliency, truth))
    return float((t * np.log(EPSILON + t / (s + EPSILON))).sum())


def sim(a: Map, b: Map) -> float:
    """Sum of the smaller of two maps that sum to 1: 1 for equal maps, 0 for maps that never overlap.

    Raises ValueError where shapes differ, or `as_distribution` refuses a map.
    """
    return float(np.minimum(*(as_distribution(each) for each in _pair(a, b))).sum())


def next_sim(probabilities: Shaped[np.ndarray, "t k"], objects: Shaped[np.ndarray, " t"]) -> float:
    """`sim` of what is expected next with what was looked at next: the probability given to it, averaged over steps.

    Raises ValueError where the numbers of steps differ, or an object is none of the k.
    """
    found, seen = np.asarray(probabilities, dtype=np.float64), np.asarray(objects)
    if len(found) != len(seen) or not len(seen):
        raise ValueError(f"probabilities of {len(found)} steps and {len(seen)} objects must be as many, at least one")
    if seen.min() < 0 or seen.max() >= found.shape[1]:
        raise ValueError(f"objects from {seen.min()} to {seen.max()} must be among the {found.shape[1]} columns")
    return float((found[np.arange(len(seen)), seen] / found.sum(1)).mean())


def _pair(a: Map, b: Map) -> tuple[Float64[np.ndarray, "h w"], Float64[np.ndarray, "h w"]]:
    if a.shape != b.shape:
        raise ValueError(f"maps of {a.shape} and {b.shape} must have one shape")
    return np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
