"""Attention in pieces: `(out, lse)` partials and their merge, and outputs split over groups of keys.

merge is associative and commutative and has the identity (0, -inf), so windows, global tokens, memory and references
are merges of one operation. `Parts` holds one output per key group with the softmax mass that fell on it:
out = sum_g mass_g out_g + extra.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Partial:
    """Attention over some of the keys: `out` normalised over them, `lse` the log of their summed exp scores.

    `lse` is None where it was not asked for.
    """

    out: Float[Tensor, "b h n d"]
    lse: Float[Tensor, "b h n"] | None = None


def identity(like: Float[Tensor, "b h n d"]) -> Partial:
    """The partial over no keys: merging it changes nothing."""
    return Partial(torch.zeros_like(like), torch.full_like(like[..., 0], -torch.inf, dtype=torch.float32))


def merge(a: Partial, b: Partial) -> Partial:
    """Attention over the keys of both; they must not share a key.

    Raises ValueError where a side has no lse.
    """
    if a.lse is None or b.lse is None:
        raise ValueError("merge needs lse on both sides; ask the kernel with want_lse=True")
    lse = torch.logaddexp(a.lse, b.lse)
    share = torch.where(a.lse == -torch.inf, 0.0, torch.exp(a.lse - lse))
    return Partial(torch.lerp(b.out, a.out, share[..., None].to(a.out.dtype)), lse)


@dataclass(frozen=True, eq=False)
class Parts:
    """One output and one mass per key group; masses None stands for one group of mass one.

    Masses need not sum to one after a blend.
    """

    outs: Float[Tensor, "g b h n d"]
    masses: Float[Tensor, "g b h n"] | None = None
    extra: Float[Tensor, "b h n d"] | None = None
    lse: Float[Tensor, "b h n"] | None = None

    @property
    def total(self) -> Float[Tensor, "b h n d"]:
        """What leaves the attention: sum_g mass_g out_g + extra."""
        if self.masses is None:
            out = self.outs[0]
        else:
            out = (self.outs * self.masses[..., None].to(self.outs.dtype)).sum(0)
        return out if self.extra is None else out + self.extra

    @property
    def mass(self) -> Float[Tensor, "g b h n"]:
        """Masses as a tensor."""
        return torch.ones_like(self.outs[..., 0]) if self.masses is None else self.masses

    def reweigh(self, masses: Float[Tensor, "g b h n"]) -> "Parts":
        """New masses; shares inside a group are kept."""
        return replace(self, masses=masses)

    def gain(self, factor: Tensor) -> "Parts":
        """Scale the whole output; `factor` broadcasts to (b h n 1), so a gate per head is (h 1 1)."""
        extra = None if self.extra is None else self.extra * factor
        return replace(self, outs=self.outs * factor, extra=extra)

    def plus(self, x: Float[Tensor, "b h n d"]) -> "Parts":
        """Add to the output."""
        return replace(self, extra=x if self.extra is None else self.extra + x)

    def mix(self, x: Float[Tensor, "b h n d"], weight: Tensor) -> "Parts":
        """(1 - weight) out + weight x; bitwise the old output where weight is 0."""
        mixed = torch.where(weight == 0, self.total, torch.lerp(self.total, x, weight.to(x.dtype)))
        return whole(Partial(mixed, self.lse))


def whole(partial: Partial) -> Parts:
    """All keys as one group of mass one."""
    return Parts(partial.out[None], lse=partial.lse)
