"""What each batch row is: which branch of guidance or editing, and of which sample."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

Role = Literal["cond", "uncond", "weak", "source", "target"]


@dataclass(frozen=True)
class Rows:
    """Roles and sample numbers of the batch rows, in order; `branches` of guidance where the roles are others.

    folds  which of its batch row's rows each is, where the host makes several of one: its frames, or its places

    >>> Rows.of("uncond", "cond", samples=2).roles
    ('uncond', 'uncond', 'cond', 'cond')
    Raises ValueError for options out of range.
    """

    roles: tuple[Role, ...]
    samples: tuple[int, ...]
    branches: tuple[Role, ...] = ()
    folds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.roles) != len(self.samples):
            raise ValueError(f"{len(self.roles)} roles and {len(self.samples)} samples must be as many")
        if self.branches and len(self.branches) != self.n:
            raise ValueError(f"{len(self.branches)} branches and {self.n} roles must be as many, or no branches given")
        if self.folds and len(self.folds) != self.n:
            raise ValueError(f"{len(self.folds)} folds and {self.n} roles must be as many, or no folds given")
        if unknown := {*self.roles, *self.branches} - set(get_args(Role)):
            raise ValueError(f"roles {sorted(unknown)} must be among {get_args(Role)}")

    @classmethod
    def of(cls, *roles: Role, samples: int = 1) -> "Rows":
        """Each role in turn for all samples, as pipelines stack them."""
        return cls(tuple(r for r in roles for _ in range(samples)), tuple(range(samples)) * len(roles))

    @property
    def n(self) -> int:
        """Number of batch rows."""
        return len(self.roles)

    def only(self, row: int) -> "Rows":
        """One row by itself.

        >>> Rows.of("uncond", "cond").only(1).roles
        ('cond',)
        """
        own = slice(row, row + 1)
        return Rows(self.roles[own], self.samples[own], self.branches[own])

    def under(self, *branches: Role) -> "Rows":
        """The same rows once for each branch of guidance, as pipelines stack them."""
        stacked: tuple[Role, ...] = tuple(b for b in branches for _ in range(self.n))
        return Rows(self.roles * len(branches), self.samples * len(branches), stacked)

    def folded(self, times: int) -> "Rows":
        """Each row that many times, one after the other.

        >>> Rows.of("uncond", "cond").folded(2).roles
        ('uncond', 'uncond', 'cond', 'cond')
        """
        return self if times == 1 else _folded(self, times)

    def weakened(self, rows: tuple[int, ...]) -> "Rows":
        """The same with a weak row for each of these at the end: of its sample, and of its role where that is another.

        >>> Rows.of("uncond", "cond").weakened((1,)).roles
        ('uncond', 'cond', 'weak')
        """
        guided = not self.branches and set(self.roles) <= {"cond", "uncond"}
        roles: tuple[Role, ...] = tuple("weak" if guided else self.roles[i] for i in rows)
        branches: tuple[Role, ...] = () if guided else self.branches or ("cond",) * self.n
        more: tuple[Role, ...] = () if guided else ("weak",) * len(rows)
        return Rows(self.roles + roles, self.samples + tuple(self.samples[i] for i in rows), branches + more)

    def where(self, role: Role) -> tuple[int, ...]:
        """Row numbers of one role or branch."""
        labels = zip(self.roles, self.branches or self.roles, strict=True)
        return tuple(i for i, names in enumerate(labels) if role in names)

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(target row, source row) of the same sample, branch and fold; ValueError for a target without a source."""
        alike = (self.branches, self.folds)
        keys = tuple(zip(self.samples, *(labels for labels in alike if labels), strict=True))
        source = {keys[i]: i for i in self.where("source")}
        if alone := [i for i in self.where("target") if keys[i] not in source]:
            raise ValueError(
                f"target rows {alone} have no source row of their sample; the rows are {self.roles} of samples "
                f"{self.samples}: give Rows.of('source', 'target', samples=...)"
            )
        return tuple((i, source[keys[i]]) for i in self.where("target"))


@lru_cache(maxsize=64)  # compilers compare rows by identity
def _folded(rows: Rows, times: int) -> Rows:
    at = [i for i in range(rows.n) for _ in range(times)]
    branches = tuple(rows.branches[i] for i in at) if rows.branches else ()
    folds = tuple(range(times)) * rows.n
    return Rows(tuple(rows.roles[i] for i in at), tuple(rows.samples[i] for i in at), branches, folds)
