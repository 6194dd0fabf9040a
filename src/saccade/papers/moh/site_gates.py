"""Trainable gates of heads for the attention sites of a model that is there already."""

from collections.abc import Mapping, Sequence

from torch import nn

from saccade.core.site import Site
from saccade.papers.moh.head_routing import HeadCounts, LearnedGates

STREAMS = ("rest", "text")  # of a joint site; any other has one


class SiteGates(nn.Module):
    """Routers for each site, small and random at first; at joint sites text tokens have routers of their own.

    width   channels of what enters the attention;  counts   of every site;  std   of the first weights
    """

    def __init__(self, counts: Mapping[Site, HeadCounts], width: int, *, std: float = 0.02) -> None:
        super().__init__()
        self.of = nn.ModuleDict(
            {
                _key(site.name): nn.ModuleDict({stream: LearnedGates(width, each) for stream in streams(site)})
                for site, each in counts.items()
            }
        )
        for weight in self.parameters():
            nn.init.normal_(weight, std=std)

    def at(self, site: Site) -> tuple[nn.Module, nn.Module]:
        """The gates of tokens that are no text, and those of text.

        Raises ValueError for a site without gates.
        """
        if _key(site.name) not in self.of:
            raise ValueError(f"no gates for site '{site.name}'; there are some for {', '.join(self.of) or 'none'}")
        found = self.of[_key(site.name)]
        return found["rest"], found[streams(site)[-1]]  # type: ignore[index]

    def __repr__(self) -> str:
        return f"SiteGates({len(self.of)} sites)"


def streams(site: Site) -> Sequence[str]:
    """The streams of a site that have routers of their own."""
    return STREAMS if site.kind == "joint" else STREAMS[:1]


def _key(name: str) -> str:
    return name.replace(".", "/")  # a module's name may not hold dots
