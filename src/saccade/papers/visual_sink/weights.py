"""Which pairs of head and query look at the picture, and how weight moves from sinks to the rest of it.

With alpha a row of attention, I the image's keys, S the sinks, by masses of three groups of keys:

    v = sum over I          r = sum over I without S / v          chosen: v >= least and r >= rho
    freed = take * sum over S          alpha' = (1 - take) alpha on S, alpha (1 + freed / (r v)) on I without S
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Compat = Literal["official"]
Row = Float[Tensor, "b h n"]
Keys = Bool[Tensor, "#b m"]
OFFICIAL_EPS = 1e-6  # what the released code adds for each key of the image


@dataclass(frozen=True, eq=False)
class SinkMasses:
    """Sums of a row of attention over the image without sinks, the image's sinks, and all other sinks."""

    clear: Row
    image_sinks: Row
    text_sinks: Row

    @property
    def freed(self) -> Row:
        """What all sinks hold."""
        return self.image_sinks + self.text_sinks


def masses_of(alpha: Float[Tensor, "b h n m"], image: Keys, sinks: Keys) -> SinkMasses:
    """The three sums of a map."""
    return SinkMasses(*(alpha.masked_fill(~keys[:, None, None], 0).sum(-1) for keys in groups_of(image, sinks)))


def groups_of(image: Keys, sinks: Keys) -> tuple[Keys, Keys, Keys]:
    """The image without sinks, the image's sinks, all other sinks."""
    return image & ~sinks, image & sinks, ~image & sinks


def image_centric(
    masses: SinkMasses, image: Keys, sinks: Keys, *, rho: float, least: float = 0.2, compat: Compat | None = None
) -> Bool[Tensor, "b h n"]:
    """Heads and queries that look at the picture; none in a row whose picture has no sink.

    rho     least share of the image's weight that must lie on no sink; `1 - rho` of the released code
    least   least weight of the image
    compat  "official" adds 1e-6 for each key of the image where it divides
    """
    seen = masses.clear + masses.image_sinks
    if compat == "official":
        count = image.sum(-1)[:, None, None]
        apart = masses.image_sinks / (seen + OFFICIAL_EPS * count) <= 1 - rho
    else:
        apart = masses.clear / seen >= rho
    return apart & (seen >= least) & (masses.clear > 0) & (image & sinks).any(-1)[:, None, None]


def redistributed(
    alpha: Float[Tensor, "b h n m"],
    image: Keys,
    sinks: Keys,
    *,
    rho: float = 0.8,
    take: float = 0.4,
    least: float = 0.2,
    queries: Bool[Tensor, "#b n"] | None = None,
    compat: Compat | None = None,
) -> Float[Tensor, "b h n m"]:
    """alpha' of chosen heads and queries; all others as they were, to the bit.

    alpha    after the softmax, rows sum to one
    image, sinks   which keys are the picture's, and which are sinks, the picture's or not
    take     share of its weight a sink gives; `1 - p` of the released code
    queries  which may be changed at all, the text's; None for all
    Raises ValueError for options out of range.
    """
    check_take(take)
    masses = masses_of(alpha, image, sinks)
    chosen = image_centric(masses, image, sinks, rho=rho, least=least, compat=compat)
    if queries is not None:
        chosen = chosen & queries[:, None]
    clear, *_ = groups_of(image, sinks)
    gain = take * gain_of(masses, chosen)[..., None]
    moved = torch.where(sinks[:, None, None], alpha * (1 - take), alpha)
    moved = torch.where(clear[:, None, None], alpha + gain * alpha, moved)
    return torch.where(chosen[..., None], moved, alpha)


def gain_of(masses: SinkMasses, chosen: Bool[Tensor, "b h n"]) -> Row:
    """What all sinks hold over what the rest of the image holds; without sense, but finite, where not chosen."""
    return masses.freed / torch.where(chosen, masses.clear, 1)


def check_take(take: float) -> None:
    """Raises ValueError for a share out of [0, 1]."""
    if not 0 <= take <= 1:
        raise ValueError(f"take={take} must be in [0, 1], the share a sink gives; the released p is 1 - take")
