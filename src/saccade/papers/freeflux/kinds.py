"""The three kinds of edit: which operands of which layers targets take from their sources, where, and for how long."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.analysis.layers import Hang
from saccade.core.checks import check_numbers
from saccade.mechanisms.shared_operands import OPERANDS, SharedOperands, Weight
from saccade.mechanisms.token_regions import move

Map = Bool[Tensor, "*s h w"] | Float[Tensor, "*s h w"]


@dataclass(frozen=True, kw_only=True)
class AddObject:
    """A new object in the source's picture: what hangs on positions is the source's, save where the object may be.

    free      tokens where it may be, (h w), video (t h w), by sample (s t h w); None for nowhere, which is how a first
              pass finds the place
    layers    which layers share: "position", "content" or "all"
    operands  that are shared, among q, k, v
    steps     share of the steps, from the noisy end
    Raises ValueError for options out of range.
    """

    free: Map | None = None
    layers: Hang = "position"
    operands: str = "kv"
    steps: float = 1.0

    def __post_init__(self) -> None:
        _check(self)
        _ = None if self.free is None else _whole("free", self.free)

    def shared(self) -> SharedOperands:
        """What targets take from sources."""
        return _share(self.operands, 1.0 if self.free is None else 1 - _whole("free", self.free).float())


@dataclass(frozen=True, kw_only=True)
class Reshape:
    """Another pose or shape of a subject: what goes by content is the source's, and positions stay free.

    layers    which layers share: "position", "content" or "all"
    operands  that are shared, among q, k, v
    steps     share of the steps, from the noisy end
    Raises ValueError for options out of range.
    """

    layers: Hang = "content"
    operands: str = "kv"
    steps: float = 1.0

    def __post_init__(self) -> None:
        _check(self)

    def shared(self) -> SharedOperands:
        """What targets take from sources."""
        return _share(self.operands, 1.0)


@dataclass(frozen=True, kw_only=True)
class KeepRegion:
    """Another background: v of a region is the source's, at its place or moved.

    keep      tokens that are kept, (h w), video (t h w), by sample (s t h w); None for all
    by        (rows, columns) by which the kept region is moved
    layers    which layers share: "position", "content" or "all"
    operands  that are shared, among q, k, v
    steps     share of the steps, from the noisy end
    Raises ValueError for options out of range, and for a region that would leave the grid.
    """

    keep: Map | None = None
    by: tuple[int, int] = (0, 0)
    layers: Hang = "all"
    operands: str = "v"
    steps: float = 0.9

    def __post_init__(self) -> None:
        _check(self)
        if self.keep is not None:
            _ = self.shared()

    def shared(self) -> SharedOperands:
        """What targets take from sources.

        Raises ValueError where all of a picture would be moved.
        """
        if self.keep is None and any(self.by):
            raise ValueError(f"by={self.by} moves a region, and keep=None is all of the picture; give the region")
        if self.keep is None:
            return _share(self.operands, 1.0)
        keep = _whole("keep", self.keep)
        if not any(self.by):
            return _share(self.operands, keep.float())
        moved = [move(one > 0, self.by) for one in keep]
        weight = torch.stack([one.target for one in moved]).float()
        return replace(_share(self.operands, weight), taken=torch.stack([one.taken for one in moved]))


def _share(operands: str, weight: Weight) -> SharedOperands:
    return SharedOperands(weights=dict.fromkeys(operands, weight))


def _whole(name: str, mask: Map) -> Float[Tensor, "s t h w"] | Bool[Tensor, "s t h w"]:
    """A map with all its dimensions, checked."""
    low, high = float(mask.min()), float(mask.max())
    if mask.ndim not in (2, 3, 4) or not 0 <= low <= high <= 1:
        raise ValueError(
            f"{name} {tuple(mask.shape)} in [{low:g}, {high:g}] must be (h w), (t h w) or (s t h w) in [0, 1]"
        )
    return mask[(None,) * (4 - mask.ndim)]


def _check(edit: AddObject | Reshape | KeepRegion) -> None:
    check_numbers(steps=edit.steps)
    if not 0 <= edit.steps <= 1:
        raise ValueError(f"steps={edit.steps} must be in [0, 1], a share of the steps")
    if set(edit.operands) - set(OPERANDS):
        raise ValueError(f"operands='{edit.operands}' must be letters of 'qkv'")
    if edit.layers not in ("position", "content", "all"):
        raise ValueError(f"layers='{edit.layers}' must be 'position', 'content' or 'all'")
