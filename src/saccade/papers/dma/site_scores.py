"""Trainable scores of keys for the attention sites of a model that is there already."""

from collections.abc import Iterable

from torch import nn

from saccade.core.site import Site
from saccade.papers.dma.scores import Form, KeyBias


class SiteScores(nn.Module):
    """A `KeyBias` for each site; with std=0 all keys score alike at first, and a query keeps the latest ones.

    kv_heads, head_dim   of every site
    """

    def __init__(
        self, sites: Iterable[Site], *, kv_heads: int, head_dim: int, form: Form = "exp", std: float = 0.0
    ) -> None:
        super().__init__()
        named = {_key(site.name): KeyBias(kv_heads, head_dim, form=form, std=std) for site in sites}
        self.of = nn.ModuleDict(named)

    def at(self, site: Site) -> nn.Module:
        """The scores of a site.

        Raises ValueError for a site without any.
        """
        if _key(site.name) not in self.of:
            raise ValueError(f"no scores for site '{site.name}'; there are some for {', '.join(self.of) or 'none'}")
        return self.of[_key(site.name)]

    def __repr__(self) -> str:
        return f"SiteScores({len(self.of)} sites)"


def _key(name: str) -> str:
    return name.replace(".", "/")  # a module's name may not hold dots
