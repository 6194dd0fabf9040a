"""What `systems.AttentionRecorder` recorded of a generation: maps of words, figures of heads, keys that draw most."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.analysis.head_roles import RoleRules
from saccade.core.errors import SelectorError
from saccade.core.layout import Grid, Layout
from saccade.core.site import Site

WORDS = "words"
FIGURES = ("spread", "own", "before", "distance", "text", "top", "top_key")
Steps = Sequence[int] | None  # None: all that were recorded


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteRecord:
    """One site: what its queries and keys are, and what was recorded, by name, with an axis of steps first.

    words    (t w b h n) what n queries pay to each word, h = 1 for the mean over heads; NaN in steps not recorded
    others   as `mechanisms.SampledRows` names them
    grid     of the queries; None for a sequence
    """

    site: Site
    queries: Layout
    keys: Layout
    grid: Grid | None
    values: Mapping[str, Tensor]

    def figures(self, steps: Steps = None) -> dict[str, Float[np.ndarray, " h"]]:
        """Of each head, means over steps and samples; empty where no queries were taken.

        spread      entropy over that of equal shares, in [0, 1]
        own, before, top   shares: of a query's own key, of the one before, of the key that draws most, `top_key`
        distance    to keys of the same grid or sequence, over that of equal shares
        text        share of the text; NaN where all keys are text
        distance, own and before are NaN in cross-attention.
        """
        if "entropy" not in self.values:
            return {}
        found = {name: _mean(self.values[name], steps).mean(0).numpy() for name in ("own", "before", "distance", "top")}
        if self.site.kind == "cross":
            found |= {name: np.full_like(found["top"], np.nan) for name in ("own", "before", "distance")}
        entropy, shares = (_mean(self.values[name], steps).mean(0).numpy() for name in ("entropy", "shares"))
        text = np.array([segment.kind == "text" for segment in self.keys.segments])
        found["text"] = np.full_like(entropy, np.nan) if text.all() else shares[:, text].sum(-1)
        found["spread"] = entropy / log(max(self.keys.n, 2))
        found["top_key"] = _of_steps(self.values["top_key"], steps).flatten(0, 1).mode(0).values.numpy()
        return {name: found[name] for name in FIGURES}

    def received(self, steps: Steps = None) -> Float[np.ndarray, " m"]:
        """What each key is paid by the sampled queries, mean over heads, steps and samples."""
        return _mean(self.values["received"], steps).mean(0).numpy()


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionRecord:
    """All sites in order of execution; `words` names what their maps show."""

    words: tuple[str, ...]
    sites: tuple[SiteRecord, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        """Those that were recorded at some site."""
        values = (next(iter(site.values.values())) for site in self.sites)
        return tuple(sorted({int(step) for x in values for step in _recorded(x).nonzero()[:, 0]}))

    def of(self, pattern: str = "*") -> tuple[SiteRecord, ...]:
        """Sites whose names match a pattern.

        Raises SelectorError where none does.
        """
        found = tuple(site for site in self.sites if fnmatchcase(site.site.name, pattern))
        if not found:
            raise SelectorError(f"sites='{pattern}' matches none of {', '.join(s.site.name for s in self.sites)}")
        return found

    def map(
        self, word: str, *, sites: str = "*", steps: Steps = None, head: int | None = None, sample: int = 0
    ) -> Float[np.ndarray, "t h w"] | Float[np.ndarray, " n"]:
        """Where a word shows: mean over the sites that match and these steps, on the largest grid among them.

        head  one alone, where each was kept; None for their mean
        Raises ValueError for a word, head or sample that was not recorded, SelectorError for sites without words.
        """
        at = self._word(word)
        found = [site for site in self.of(sites) if WORDS in site.values]
        if not found:
            raise SelectorError(f"sites='{sites}' have no text among their keys; choose joint or cross-attention")
        maps = [_laid_out(_one(_mean(site.values[WORDS], steps)[at], head, sample), site.grid) for site in found]
        largest = max(maps, key=Tensor.numel).shape
        return torch.stack([_resized(each, largest) for each in maps]).mean(0).numpy()

    def looked_at(self, *, sites: str = "*", steps: Steps = None) -> Float[np.ndarray, "t h w"] | None:
        """What image tokens are paid by those that were asked: mean over the sites that match, on the largest grid.

        None where no site has image tokens among its keys, or no queries were taken.
        """
        found = [_looked_at(site, steps) for site in self.of(sites) if site.site.kind != "cross"]
        maps = [each for each in found if each is not None]
        if not maps:
            return None
        largest = max(maps, key=Tensor.numel).shape
        return torch.stack([_resized(each, largest) for each in maps]).mean(0).numpy()

    def heads(self, *, steps: Steps = None, rules: RoleRules | None = None) -> list[dict[str, Any]]:
        """A row for each head of each site: site, head, its figures, the segment of `top_key`, and its role."""
        rows: list[dict[str, Any]] = []
        for site in self.sites:
            if figures := site.figures(steps):
                roles = (rules or RoleRules()).roles(figures)
                rows += [
                    {
                        "site": site.site.name,
                        "head": head,
                        **{name: float(values[head]) for name, values in figures.items()},
                        "top_key": int(figures["top_key"][head]),
                        "top_in": _segment(site.keys, int(figures["top_key"][head])),
                        "role": role,
                    }
                    for head, role in enumerate(roles)
                ]
        return rows

    def save(self, path: Path) -> Path:
        """Write all arrays as an .npz, each under `site/name`, and what they are as JSON under `about`."""
        about = {
            "words": self.words,
            "sites": [
                {"site": asdict(s.site), "queries": asdict(s.queries), "keys": asdict(s.keys)} for s in self.sites
            ],
        }
        arrays: dict[str, Any] = {
            f"{s.site.name}/{name}": x.numpy() for s in self.sites for name, x in s.values.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, about=np.array(json.dumps(about)), **arrays)
        return path.resolve()

    def _word(self, word: str) -> int:
        if word not in self.words:
            raise ValueError(f"word='{word}' was not recorded; there are {', '.join(self.words) or 'none'}")
        return self.words.index(word)


def _recorded(x: Tensor) -> Tensor:
    return ~x.flatten(1).isnan().all(1)


def _of_steps(x: Tensor, steps: Steps) -> Tensor:
    """The recorded ones, of those asked for; ValueError where none is."""
    kept = _recorded(x)
    if steps is not None:
        if out := [step for step in steps if not 0 <= step < len(kept) or not kept[step]]:
            raise ValueError(f"steps={out} were not recorded; there are {kept.nonzero()[:, 0].tolist()}")
        return x[list(steps)]
    return x[kept]


def _mean(x: Tensor, steps: Steps) -> Tensor:
    return _of_steps(x, steps).mean(0)


def _one(x: Float[Tensor, "b h n"], head: int | None, sample: int) -> Float[Tensor, " n"]:
    samples, heads, _ = x.shape
    if not 0 <= sample < samples:
        raise ValueError(f"sample={sample} was not recorded; there are {samples}, counted from 0")
    if head is None:
        return x[sample].mean(0)
    if heads == 1 or not 0 <= head < heads:
        raise ValueError(f"head={head} was not recorded; ask for one of {heads} with each_head=True")
    return x[sample, head]


def _looked_at(site: SiteRecord, steps: Steps) -> Float[Tensor, "t h w"] | None:
    """The received shares of the keys that are the queries themselves."""
    same = [s for s in site.keys.of("image") if s.grid == site.grid]
    if "received" not in site.values or site.grid is None or not same:
        return None
    return torch.from_numpy(site.received(steps))[site.keys.span(same[0].name)].unflatten(0, site.grid)


def _laid_out(x: Float[Tensor, " n"], grid: Grid | None) -> Tensor:
    return x if grid is None else x.unflatten(0, grid)


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    if x.shape == size:
        return x
    if x.dim() != len(size) or x.dim() == 1:
        raise ValueError(f"sites have queries of {tuple(x.shape)} and of {tuple(size)}; choose alike ones by sites=")
    return F.interpolate(x[None, None], size=size, mode="trilinear")[0, 0]


def _segment(keys: Layout, key: int) -> str:
    return next(s.name for s in keys.segments if key < keys.span(s.name).stop)
