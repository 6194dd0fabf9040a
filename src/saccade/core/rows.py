"""What each batch row is: which branch of guidance or editing, and of which sample."""

from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["cond", "uncond", "weak", "source", "target"]


@dataclass(frozen=True)
class Rows:
    """Roles and sample numbers of the batch rows, in order.

    >>> Rows.of("uncond", "cond", samples=2).roles
    ('uncond', 'uncond', 'cond', 'cond')
    """

    roles: tuple[Role, ...]
    samples: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.roles) != len(self.samples):
            raise ValueError(f"{len(self.roles)} roles and {len(self.samples)} samples must be as many")
        if unknown := set(self.roles) - set(get_args(Role)):
            raise ValueError(f"roles {sorted(unknown)} must be among {get_args(Role)}")

    @classmethod
    def of(cls, *roles: Role, samples: int = 1) -> "Rows":
        """Each role in turn for all samples, as pipelines stack them."""
        return cls(tuple(r for r in roles for _ in range(samples)), tuple(range(samples)) * len(roles))

    @property
    def n(self) -> int:
        """Number of batch rows."""
        return len(self.roles)

    def where(self, role: Role) -> tuple[int, ...]:
        """Row numbers of one role."""
        return tuple(i for i, r in enumerate(self.roles) if r == role)
