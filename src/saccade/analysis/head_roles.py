"""What sort of head one is, by a few figures of its rows: rules of thumb, each a threshold that can be changed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Figures = Mapping[str, Float[np.ndarray, " h"]]


@dataclass(frozen=True, kw_only=True)
class RoleRules:
    """A head is the first of these it reaches, else `content`.

    own       share that a query pays to itself
    before    share of the token before it
    sink      mean share of a single key
    text      share of the text, where there are other keys too
    local     distance to keys at most so many times that of equal shares
    even      entropy, as a share of the largest there could be
    Raises ValueError for a threshold outside [0, 1].
    """

    own: float = 0.5
    before: float = 0.5
    sink: float = 0.3
    text: float = 0.5
    local: float = 0.5
    even: float = 0.95

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} must be in [0, 1]")

    def roles(self, figures: Figures) -> tuple[str, ...]:
        """The role of each head, by `SiteRecord.figures`."""
        reached = {
            "own": figures["own"] >= self.own,
            "before": figures["before"] >= self.before,
            "sink": figures["top"] >= self.sink,
            "text": figures["text"] >= self.text,
            "local": figures["distance"] <= self.local,
            "even": figures["spread"] >= self.even,
        }
        each = zip(*reached.values(), strict=True)
        return tuple(next((role for role, yes in zip(reached, head, strict=True) if yes), "content") for head in each)


ROLES = {  # what each means, for people
    "own": "to itself",
    "before": "to the token before",
    "sink": "to one key, whatever the query",
    "text": "to the text",
    "local": "to its neighbours",
    "even": "to all alike",
    "content": "by content",
}
