"""Which layers of a model hang on positions and which on content, as a probe measured it and as edits take it.

A probe moves the positions of keys in one layer at a time and compares what is drawn: a low PSNR says that the layer
hangs on positions, a high one that it goes by content.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Float

from saccade.core.errors import SelectorError
from saccade.core.site import Site

LOW, HIGH = 7 / 57, 13 / 57  # as many of FLUX.1-dev's layers as the paper chose
Hang = Literal["position", "content", "all"]


@dataclass(frozen=True, kw_only=True)
class LayerSets:
    """Layers by what they hang on, named as a model's attention sites.

    sites              all layers of the model, in order of execution
    position, content  those that hang most on positions, and those that hang most on content
    Raises ValueError for a layer that is not among the sites.
    """

    sites: tuple[str, ...]
    position: tuple[str, ...] = ()
    content: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("position", "content"):
            if strange := [site for site in getattr(self, name) if site not in self.sites]:
                raise ValueError(f"{name} names {strange}, which are not among the {len(self.sites)} sites")

    @classmethod
    def numbered(cls, sites: Sequence[str], *, position: Sequence[int] = (), content: Sequence[int] = ()) -> Self:
        """Layers by number, in order of execution, as papers print them.

        Raises ValueError for a number that is no layer.
        """
        for name, numbers in (("position", position), ("content", content)):
            if out := [number for number in numbers if not 0 <= number < len(sites)]:
                raise ValueError(f"{name}={out} are no layers of a model of {len(sites)}; count from 0")
        named = {"position": tuple(sites[i] for i in position), "content": tuple(sites[i] for i in content)}
        return cls(sites=tuple(sites), **named)

    def covers(self, site: Site, hang: Hang) -> bool:
        """Whether a site is in a set.

        Raises SelectorError for a site of another model than the sets are of.
        """
        if site.layer >= len(self.sites) or self.sites[site.layer] != site.name:
            raise SelectorError(
                f"layer sets of {len(self.sites)} layers do not know layer {site.layer}, '{site.name}'; "
                "they are of another model: probe this one"
            )
        return hang == "all" or site.name in getattr(self, hang)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerScores:
    """What a probe measured.

    model   fingerprint of the model
    sites   its layers, in order of execution
    moves   names of what was done to the keys
    mse     of each layer, move and picture: mean squared error of the picture to the one drawn with nothing moved
    about   the settings it was measured with
    """

    model: str
    sites: tuple[str, ...]
    moves: tuple[str, ...]
    mse: Float[np.ndarray, "l m p"]
    about: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def psnr(self) -> Float[np.ndarray, "l m p"]:
        """In dB, the peak being 1; infinite where a move changed nothing."""
        with np.errstate(divide="ignore"):
            return -10 * np.log10(self.mse)

    @property
    def closeness(self) -> Float[np.ndarray, " l"]:
        """D of each layer: the mean PSNR over moves and pictures. A mean of logarithms: one picture that is nearly the
        same weighs much."""
        return self.psnr.mean((1, 2))

    @property
    def ranked(self) -> tuple[str, ...]:
        """Layers, first those that hang most on positions."""
        return tuple(self.sites[i] for i in np.argsort(self.closeness, kind="stable"))

    def sets(self, low: float = LOW, high: float = HIGH) -> LayerSets:
        """The layers of lowest and of highest closeness.

        low, high  as shares of all layers, at least one layer each unless the share is 0
        Raises ValueError for shares out of range, or whose layers overlap.
        """
        n = len(self.sites)
        counts = [_count(name, share, n) for name, share in (("low", low), ("high", high))]
        if sum(counts) > n:
            raise ValueError(f"low={low:g} and high={high:g} are {sum(counts)} of {n} layers; make them smaller")
        first, last = counts
        return LayerSets(sites=self.sites, position=self.ranked[:first], content=self.ranked[n - last :])

    def stability(self) -> dict[str, float]:
        """Rank correlation (Spearman) of layers: with depth, and the means of all pairs of moves and of pictures."""
        by_move, by_picture = self.psnr.mean(2), self.psnr.mean(1)
        depth = np.stack((np.arange(len(self.sites)), self.closeness), axis=1)
        return {"depth": _agreement(depth), "moves": _agreement(by_move), "pictures": _agreement(by_picture)}

    def save(self, path: Path) -> None:
        """Write a JSON file, whole or not at all."""
        named = {name: getattr(self, name) for name in ("model", "sites", "moves", "about")}
        text = json.dumps({**named, "mse": self.mse.tolist()})
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises ValueError for a file that holds no scores.
        """
        try:
            found = json.loads(path.read_text())
            named = {name: tuple(found[name]) for name in ("sites", "moves")}
            return cls(model=found["model"], mse=np.array(found["mse"]), about=found["about"], **named)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"layers='{path}' holds no scores of a probe ({error}); make it by saccade probe"
            ) from None


def _count(name: str, share: float, n: int) -> int:
    if not 0 <= share <= 1:
        raise ValueError(f"{name}={share} must be in [0, 1], a share of the layers")
    return max(round(share * n), int(share > 0))


def _agreement(columns: Float[np.ndarray, "l c"]) -> float:
    """The mean rank correlation of all pairs of columns; nan for one column, or one layer."""
    from scipy.stats import rankdata

    ranks = rankdata(columns, axis=0)
    n = ranks.shape[1]
    if n < 2 or len(ranks) < 2:
        return float("nan")
    with np.errstate(invalid="ignore"):
        pairs = np.corrcoef(ranks, rowvar=False)[np.triu_indices(n, 1)]
    return float(np.nanmean(pairs)) if np.isfinite(pairs).any() else float("nan")
