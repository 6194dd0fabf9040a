"""Named sets of low-rank terms beside the projections of a model: the relation's, each subject's, the output's.

    y = W x + sum over the active sets n of (alpha / r) B_n A_n x,   A_n (r i), B_n (o r)

A fresh A is uniform in +-1 / sqrt(i) and B zero, so every set begins as nothing. Weights are float32 beside whatever
the model has, and are no part of the model: `DreamRelation` attaches them.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.site import Site
from saccade.mechanisms.low_rank import LowRank
from saccade.models.checkpoint_names import export, load
from saccade.papers.dreamrelation.adapter_files import MEND, OFFICIAL, read_sets, write_sets
from saccade.papers.dreamrelation.merging import Merged, merge_
from saccade.papers.dreamrelation.named_set import NamedSet
from saccade.papers.dreamrelation.placement import OUTPUT, RELATION, Placement

RANK = 16


class RelationLora(nn.Module):
    """The sets by name; `fresh` makes them for a model, `load` reads them.

    rank, alpha   of all sets; alpha None is the rank, which is a scale of 1
    Raises ValueError for a rank below 1, and where no set is named.
    """

    def __init__(self, sets: Mapping[str, LowRank], *, rank: int = RANK, alpha: float | None = None) -> None:
        super().__init__()
        check_rank(rank)
        if not {*sets} - {OUTPUT}:
            raise ValueError(f"sets={[*sets]} must name one beside '{OUTPUT}', such as 'relation'")
        self.rank, self.alpha = rank, float(rank if alpha is None else alpha)
        self.sets = nn.ModuleDict(sets)

    @classmethod
    def fresh(
        cls,
        model: nn.Module,
        *,
        rank: int = RANK,
        alpha: float | None = None,
        placement: Placement | None = None,
        sites: Iterable[Site] | None = None,
    ) -> Self:
        """Trainable sets that add nothing yet, for all joint and self-attention of a transformer of a known family.

        placement  which projections each set stands at; None for the paper's
        sites      None for all; given for a model that attaches by a layout of its own
        Raises ValueError for a rank below 1, and for a model without such projections.
        """
        check_rank(rank)
        found = attention_sites(model) if sites is None else tuple(sites)
        paths = (placement or Placement()).paths
        sets = {name: LowRank.fresh(model, found, where, rank) for name, where in paths.items()}
        for name, made in sets.items():
            made.title, made.mend = name, MEND
            for down in made.down.values():
                nn.init.kaiming_uniform_(down, a=5**0.5)
        return cls(sets, rank=rank, alpha=alpha)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sets that can be switched."""
        return tuple(name for name in self.sets if name != OUTPUT)

    def low(self, name: str) -> LowRank:
        """The terms of one set, unscaled."""
        made: Any = self.sets[name]
        return made

    def acting(self, active: Iterable[str]) -> tuple[NamedSet, ...]:
        """The active sets in a fixed order, and the output's: the same objects every time.

        Raises ValueError for a name that has no set.
        """
        wanted = self.check(active)
        return tuple(found for name, found in self._named.items() if name in wanted or name == OUTPUT)

    def check(self, active: Iterable[str]) -> frozenset[str]:
        """The names as a set. Raises ValueError for one that has no terms here."""
        if isinstance(active, str):
            raise ValueError(f"active='{active}' must be a tuple of names, as active=('{active}',)")
        wanted = frozenset(active)
        if unknown := sorted(wanted - {*self.names}):
            raise ValueError(
                f"active={sorted(wanted)} names '{unknown[0]}', which was not trained; there are "
                f"{', '.join(self.names)}, and '{OUTPUT}' acts always"
            )
        return wanted

    def merge_(self, model: nn.Module, active: Iterable[str] = (RELATION,)) -> Merged:
        """Fold sets into the weights of a model, in place, until `undo` of what is returned.

        Raises ValueError for a name that has no set, and as `merging.merge_` does.
        """
        return merge_(model, self.acting(active))

    @contextmanager
    def merged(self, model: nn.Module, active: Iterable[str] = (RELATION,)) -> Iterator[None]:
        """The same for the time of a block. Raises ValueError likewise."""
        found = self.merge_(model, active)
        try:
            yield
        finally:
            found.undo()

    def save(self, folder: str | Path) -> Path:
        """Store a file for each set, in the precision it has; returns the folder."""
        write_sets(Path(folder), {name: self.low(name) for name in self.sets}, rank=self.rank, alpha=self.alpha)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` stored, frozen; sets whose files are not there are left out.

        Raises ValueError for a folder without any, or with files of several trainings, of another kind, or cut.
        """
        found = read_sets(Path(folder))
        return cls(found.sets, rank=found.rank, alpha=found.alpha)

    def official(self) -> dict[str, Tensor]:
        """The weights of a Mochi's sets under the released names, such as `blocks.0.attn.to_q_x.lora_A.relation`.

        Raises ValueError for sets of a model that the released code has no names for.
        """
        return export(self, OFFICIAL)

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Take over the weights of a released file, in place.

        Raises LoadError, before anything is copied, where a weight is missing, unknown or of another shape.
        """
        load(self, state, [OFFICIAL])

    @cached_property
    def _named(self) -> dict[str, NamedSet]:
        return {name: NamedSet(self.low(name), self.alpha / self.rank) for name in self.sets}

    def __repr__(self) -> str:
        return f"RelationLora({', '.join(map(repr, self._named.values()))})"


def attention_sites(model: nn.Module) -> tuple[Site, ...]:
    """All joint and self-attention of a transformer. Raises ValueError for a model no family knows."""
    with attach(model) as run:
        return run.sites


def check_rank(rank: int) -> None:
    """Raise ValueError for a rank below 1."""
    if rank < 1:
        raise ValueError(f"rank={rank} must be at least 1, the channels between A and B; the paper has {RANK}")
