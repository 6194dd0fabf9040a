"""A host's own mask or bias, made part of the call: padding, causality, dense maps. Nothing is dropped."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.biases import Bias, DenseBias, PerKey
from saccade.core.layout import Layout
from saccade.core.masks import Device, KeyPadding, Mask, Rule
from saccade.core.places import Causal
from saccade.core.site import Site
from saccade.ops.remembered import remembered


@dataclass(frozen=True, eq=False)
class HostMask(Mask):
    """A host's whole map (b|1 h|1 n m), True where a query sees a key; keys appended later stay open."""

    allow: Bool[Tensor, "b h n m"]
    fleeting: ClassVar[bool] = True

    @property
    def mask_dims(self) -> tuple[int, int]:
        return self.allow.shape[0], self.allow.shape[1]

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        allow = torch.nn.functional.pad(self.allow, (0, layout_k.n - self.allow.shape[3]), value=True)
        batch, heads = self.mask_dims
        return (
            lambda b, h, q, k: torch.ones_like(q + k, dtype=torch.bool),
            lambda b, h, q, k: allow[b * (batch > 1), h * (heads > 1), q, k],
        )


def spread(mask: Tensor, site: Site, shape: tuple[int, ...]) -> Tensor:
    """A host's map of any shape that broadcasts to `shape`, (b h n m), as (b|1 h|1 n|1 m).

    Raises ValueError for another shape.
    """
    whole = mask if mask.ndim >= 4 else mask[(None,) * (4 - mask.ndim)]
    if whole.ndim > 4 or any(have not in (1, want) for have, want in zip(whole.shape, shape, strict=True)):
        b, h, n, m = shape
        raise ValueError(
            f"attn_mask {tuple(mask.shape)} at site '{site.name}' does not broadcast to (batch {b}, heads {h}, "
            f"queries {n}, keys {m}); reshape the mask the host is given"
        )
    return whole if whole.shape[3] == shape[3] else whole.expand(-1, -1, -1, shape[3])


def read_host_mask(
    mask: Tensor | None, is_causal: bool, site: Site, n: int, m: int, ahead: int | None = None
) -> tuple[Mask | None, Bias | None]:
    """Mask and bias of a call as its host passed them; ValueError for a mask of a type we do not know.

    ahead  keys before the first query's own place, for a map that is known to be causal order and padding and no more
    """
    if is_causal and mask is not None:
        raise ValueError(f"site '{site.name}' got both attn_mask and is_causal; a host may pass one of them")
    if is_causal:
        return Causal(keys=m, ahead=0), None
    if mask is None:
        return None, None
    if mask.dtype == torch.bool:
        return _mask(mask, n, ahead), None
    if mask.is_floating_point():
        return None, PerKey(mask[:, :, 0]) if mask.shape[2] == 1 and n > 1 else DenseBias(mask)
    raise ValueError(
        f"attn_mask of dtype {mask.dtype} at site '{site.name}' is neither boolean nor additive; convert it"
    )


def split_additive(mask: Float[Tensor, "b h n m"]) -> tuple[Bool[Tensor, "b h n m"], Float[Tensor, "b h n m"]]:
    """An additive map as the pairs it lets see, above half of its type's lowest number, and what it adds to those."""
    seen = mask > torch.finfo(mask.dtype).min / 2
    return seen, torch.where(seen, mask, torch.zeros_like(mask))


def _mask(mask: Bool[Tensor, "b h n m"], n: int, ahead: int | None) -> Mask:
    if mask.shape[1:3] == (1, 1):
        return KeyPadding(mask[:, 0, 0])
    if ahead is not None:
        return Causal(keys=mask.shape[3], ahead=ahead) & KeyPadding(mask[:, 0, -1])
    return remembered(mask, ("host", n), lambda: _apart(mask, n))


def _apart(mask: Bool[Tensor, "b h n m"], n: int) -> Mask:
    """A key nobody sees is padding; kept apart, its own query keeps a key in the rest."""
    seen = mask.any(dim=2).any(dim=1)
    return HostMask((mask | ~seen[:, None, None]).expand(-1, -1, n, -1)) & KeyPadding(seen)
