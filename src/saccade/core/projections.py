"""What a system adds to the linear projections inside an attention module, beside the host's weights, never in them.

    y = W x + b + sum over adapters of up (down x)

The terms of several adapters add up, so their order does not matter.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from saccade.core.site import Site


class LowRankTerm(NamedTuple):
    """One term: `down` first, then `up`."""

    down: Float[Tensor, "r i"]
    up: Float[Tensor, "o r"]


Terms = Mapping[str, LowRankTerm]  # the path of a linear inside the attention module, such as "to_out.0" -> its term


@runtime_checkable
class Adapter(Protocol):
    """An item of a plan that adds terms. One object serves all sites, so that they share one preparation.

    mend   what errors propose where the terms do not fit a model
    """

    mend: str

    def terms(self, site: Site) -> Terms:
        """The terms of a site; asked between steps, outside any graph."""
        ...
