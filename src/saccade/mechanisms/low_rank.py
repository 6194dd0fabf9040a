"""Low-rank terms beside the projections of attention modules: an adapter (LoRA) that comes, and leaves, with a system.

    y = W x + b + up (down x),   down (r i), up (o r)

Source: Hu et al., LoRA (2021).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from saccade.core.projections import LowRankTerm, Terms
from saccade.core.site import Site

Name = tuple[str, str]  # a site, and the path of a projection within it
MEND = "train one for this model"


class LowRank(nn.Module):
    """The terms of a model's projections, an `Adapter`; frozen, unless made by `fresh`.

    title   what errors call it
    mend    what they propose where it does not fit a model
    """

    def __init__(self, found: Mapping[Name, LowRankTerm], *, title: str = "adapter", mend: str = MEND) -> None:
        super().__init__()
        self.title, self.mend, self.names = title, mend, tuple(found)
        self.down = nn.ParameterDict({_key(n): nn.Parameter(found[n].down, requires_grad=False) for n in found})
        self.up = nn.ParameterDict({_key(n): nn.Parameter(found[n].up, requires_grad=False) for n in found})

    @classmethod
    def fresh(cls, model: nn.Module, sites: Iterable[Site | str], paths: Iterable[str], rank: int) -> "LowRank":
        """Trainable terms that add nothing yet, for those of `paths` that a site has.

        Raises ValueError for a rank below 1, and where no site has any of the paths.
        """
        if rank < 1:
            raise ValueError(f"rank={rank} must be at least 1, the channels between down and up")
        names, paths = [site.name if isinstance(site, Site) else site for site in sites], tuple(paths)
        found = {(site, path): linear for site in names for path, linear in _linears(model, site, paths)}
        if not found:
            raise ValueError(f"paths={paths} name no projection of {', '.join(names) or 'no site'}; name some it has")
        return cls({name: _fresh(linear, rank) for name, linear in found.items()}).requires_grad_(True)

    def at(self, name: Name) -> LowRankTerm:
        """The term of one projection."""
        return LowRankTerm(self.down[_key(name)], self.up[_key(name)])

    def terms(self, site: Site) -> Terms:
        """The terms of a site by path.

        Raises ValueError for a site without any.
        """
        found = {path: self.at((owner, path)) for owner, path in self.names if owner == site.name}
        if not found:
            raise ValueError(f"{self!r} has no terms for site '{site.name}'; {self.mend}")
        return found

    def __repr__(self) -> str:
        ranks = sorted({down.shape[0] for down in self.down.values()})
        return f"LowRank('{self.title}', {len(self.names)} projections, rank {', '.join(map(str, ranks))})"


def _linears(model: nn.Module, site: str, paths: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    inside = dict(model.get_submodule(site).named_modules())
    return ((path, inside[path]) for path in paths if path in inside)


def _fresh(linear: Any, rank: int) -> LowRankTerm:
    """`down` of variance 1 / i, `up` zero: training sets out from the host."""
    down = torch.randn(rank, linear.in_features) * linear.in_features**-0.5
    return LowRankTerm(down, torch.zeros(linear.out_features, rank))


def _key(name: Name) -> str:
    return "/".join(name).replace(".", "/")  # a parameter's name may not hold dots
