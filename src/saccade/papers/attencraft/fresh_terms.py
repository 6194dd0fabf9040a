"""Terms to be learned, beside what makes keys and values of the text: low-rank, or any change of the whole matrices."""

from typing import Any

import torch

from saccade.attach import attach
from saccade.core.projections import LowRankTerm
from saccade.mechanisms.low_rank import LowRank, Name
from saccade.papers.attencraft.concept_file import whole
from saccade.papers.attencraft.hosts import Host
from saccade.papers.attencraft.system import ALL_SITES, PATHS


def fresh_terms(host: Host, rank: int | None, seed: int = 0) -> LowRank:
    """Terms that add nothing yet, beside what makes keys and values of the text.

    Raises ValueError for a model without such projections.
    """
    with attach(host.model, where=ALL_SITES) as run:
        joint, cross = ([site for site in run.sites if site.kind == kind] for kind in ("joint", "cross"))
    rng = torch.Generator().manual_seed(seed)
    found: dict[Name, LowRankTerm] = {}
    for sites, paths in ((joint, PATHS[0]), (cross, PATHS[1])):
        for site in sites:
            module = host.model.get_submodule(site.name)
            own = {path: linear for path in paths if (linear := getattr(module, path, None)) is not None}
            found |= {(site.name, path): _fresh(linear, rank, rng) for path, linear in own.items()}
    if not found:
        raise ValueError(
            f"{type(host.model).__name__} has no projection of text to keys and values; give another model"
        )
    terms = LowRank(found, title="concepts being learned")
    for parameters in (terms.up, terms.down) if rank else (terms.up,):
        parameters.requires_grad_(True)
    return terms.to(host.model.device)


def _fresh(linear: Any, rank: int | None, rng: torch.Generator) -> LowRankTerm:
    change = torch.zeros(linear.out_features, linear.in_features)
    if rank is None:
        return whole({("", ""): change})["", ""]
    down = torch.randn(rank, linear.in_features, generator=rng) * linear.in_features**-0.5
    return LowRankTerm(down, torch.zeros(linear.out_features, rank))
