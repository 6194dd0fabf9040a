"""Masks from maps: which class a token surely belongs to, which word a class is, and when newer masks are taken."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.metrics.fidelity import ssim

THETA = 0.1
MEND = "change theta or the timestep, or describe the concepts otherwise"


def make_masks(maps: Float[Tensor, "k h w"], theta: float = THETA) -> Bool[Tensor, "k h w"]:
    """Where a class's map exceeds every other one's by more than `theta`; all others belong to nobody.

    Raises ValueError for a negative theta, and for fewer than two classes.
    """
    if not theta >= 0:
        raise ValueError(f"theta={theta} must be 0 or more, a difference of maps in [0, 1]")
    if len(maps) < 2:
        raise ValueError(f"{len(maps)} map has nothing to differ from; give those of subjects and background")
    ahead = maps[:, None] - maps[None] > theta  # (k j h w)
    own = torch.eye(len(maps), dtype=torch.bool, device=maps.device)[:, :, None, None]
    return (ahead | own).all(1)


def scores(maps: Float[Tensor, "j h w"], masks: Bool[Tensor, "k h w"]) -> Float[Tensor, "k j"]:
    """The sum of each class's map within each mask."""
    return masks.flatten(1).to(maps.dtype) @ maps.flatten(1).T


def is_permutation(chosen: Sequence[int]) -> bool:
    """Whether every class was chosen once."""
    return sorted(chosen) == list(range(len(chosen)))


def assign(maps: Float[Tensor, "k h w"], masks: Bool[Tensor, "k h w"], names: Sequence[str] = ()) -> tuple[int, ...]:
    """The class whose map is the largest within each mask.

    Raises ValueError, with the table of scores, where two masks are assigned one class.
    """
    table = scores(maps, masks)
    chosen = tuple(table.argmax(1).tolist())
    if not is_permutation(chosen):
        said = names or [f"class {i}" for i in range(len(maps))]
        lines = [f"  mask {name}: {_line(said, row)}" for name, row in zip(said, table.tolist(), strict=True)]
        raise ValueError("\n".join((f"two masks are assigned one word; {MEND}. Scores:", *lines)))
    return chosen


@dataclass(frozen=True, kw_only=True)
class MaskRefresher:
    """When masks are made anew, and when the new ones are taken.

    every  so many steps, step 0 included
    ssim   the least structural similarity of each subject's new mask with its old one
    Raises ValueError for options out of range.
    """

    every: int = 20
    ssim: float = 0.8

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every={self.every} must be at least 1 step")
        if not -1 <= self.ssim <= 1:
            raise ValueError(f"ssim={self.ssim} must be in [-1, 1], as structural similarity is")

    def due(self, step: int) -> bool:
        """Whether this step may refresh."""
        return step % self.every == 0

    def accepts(self, step: int, old: Bool[Tensor, "k h w"], new: Bool[Tensor, "k h w"], chosen: Sequence[int]) -> bool:
        """Whether new masks, assigned to words as `chosen`, replace the old ones; the last is the background's."""
        if not (self.due(step) and is_permutation(chosen)):
            return False
        return all(mask_ssim(a, b) >= self.ssim for a, b in zip(new[:-1], old[:-1], strict=True))

    def refresh(
        self, step: int, old: Bool[Tensor, "k h w"], maps: Float[Tensor, "k h w"], theta: float = THETA
    ) -> Bool[Tensor, "k h w"]:
        """The masks after this step: those of the maps where they are due and accepted, else the old ones."""
        if not self.due(step):
            return old
        new = make_masks(maps, theta)
        chosen = scores(maps, new).argmax(1).tolist()
        return new[_order(chosen)] if self.accepts(step, old, _sorted(new, chosen), chosen) else old


def first_masks(maps: Float[Tensor, "k h w"], theta: float = THETA, names: Sequence[str] = ()) -> Bool[Tensor, "k h w"]:
    """Masks of the classes in order.

    Raises ValueError as `assign` does.
    """
    found = make_masks(maps, theta)
    return found[_order(assign(maps, found, names))]


def mask_ssim(one: Bool[Tensor, "h w"], other: Bool[Tensor, "h w"]) -> float:
    """Structural similarity of two masks: scikit-image's, windows of 7 x 7, range 1."""
    return ssim(*(np.repeat(x.cpu().numpy().astype(np.float64)[None, ..., None], 3, -1) for x in (one, other)))


def _sorted(masks: Tensor, chosen: Sequence[int]) -> Tensor:
    return masks[_order(chosen)] if is_permutation(chosen) else masks


def _order(chosen: Sequence[int]) -> list[int]:
    """Number of the mask that each class was assigned to."""
    return [list(chosen).index(i) for i in range(len(chosen))]


def _line(names: Sequence[str], row: Sequence[float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in zip(names, row, strict=True))
