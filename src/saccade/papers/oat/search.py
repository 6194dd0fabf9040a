"""Objects somebody looks at, in a layout, and the target; the vocabulary of scanpaths over them.

0 .. P - 1   objects          P   the extra target token: end of the search          P + 1   padding     P + 2   begin
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

TargetPosition = Literal["neutral", "true"]
NOWHERE = -1.0  # row and column of a token without a place


class Special(NamedTuple):
    """Tokens that are no object, behind P objects."""

    end: int
    pad: int
    begin: int


def special(objects: int) -> Special:
    """The indices of the vocabulary that are no object."""
    return Special(objects, objects + 1, objects + 2)


@dataclass(frozen=True, kw_only=True)
class Search:
    """A batch of layouts of P objects each.

    objects   crops (b P 3 h w) in [0, 1], or vectors (b P d)
    grid      (rows, columns) of the layout; `places` lie in 0 to rows - 1 and 0 to columns - 1
    target    index of the searched object; None: free viewing
    places    row and column of each object, not only whole numbers; None: a full grid, row by row
    keep      false at objects that are not there, where layouts differ in number; None: all are
    blank     a crop or vector for tokens that are no object; None: all ones
    Raises ValueError for no object, a target outside the layout or not there, and for places that are no numbers, lie
    outside the grid, or are missing where objects do not fill it.
    """

    objects: Float[Tensor, "b n ..."]
    grid: tuple[int, int]
    target: Int64[Tensor, " b"] | None = None
    places: Float[Tensor, "b n 2"] | None = None
    keep: Bool[Tensor, "b n"] | None = None
    blank: Float[Tensor, "..."] | None = None

    def __post_init__(self) -> None:
        if self.objects.ndim not in (3, 5) or not self.objects.shape[1]:
            raise ValueError(
                f"objects of shape {tuple(self.objects.shape)} must be (b, P, d) or (b, P, 3, h, w), P > 0"
            )
        if min(self.grid) < 1:
            raise ValueError(f"grid={self.grid} must be (rows, columns), both at least 1")
        self._check_places()
        if self.target is not None and not self.target.is_meta:
            _check_target(self.target, self.count, self.keep)

    def _check_places(self) -> None:
        rows, columns = self.grid
        if self.places is None:
            if rows * columns != self.count:
                raise ValueError(
                    f"grid={self.grid} holds {rows * columns} objects, not {self.count}; give their places"
                )
            return
        at = self.places if self.keep is None else self.places[self.keep]
        last = at.new_tensor(self.grid) - 1
        if not (bool(at.isfinite().all()) and bool((at >= 0).all()) and bool((at <= last).all())):
            raise ValueError(f"places must be numbers from 0 to {tuple(last.tolist())}: a row and a column each")

    @property
    def count(self) -> int:
        """P."""
        return self.objects.shape[1]

    @property
    def centre(self) -> tuple[int, int]:
        """The object in the middle of the grid."""
        return (self.grid[0] - 1) // 2, (self.grid[1] - 1) // 2

    def repeated(self, times: int) -> Self:
        """Each layout `times` times, one after the other."""
        change = {
            name: value.repeat_interleave(times, dim=0)
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name != "blank"
        }
        return type(self)(**{**vars(self), **change})


def object_places(search: Search, target_position: TargetPosition = "neutral") -> Float[Tensor, "b m 3"]:
    """Row, column and flag of all objects, then of the target token, whose flag is 1 if there is a target.

    target_position   "neutral": the target token is nowhere; "true": it stands where the target does, as released,
                      which gives away where to look
    """
    rows = len(search.objects)
    at = _places(search)
    last = at.new_full((rows, 1, 2), NOWHERE)
    if search.target is not None and target_position == "true":
        last = at[torch.arange(rows), search.target][:, None]
    flag = at.new_zeros(rows, search.count + 1, 1)
    flag[:, -1] = float(search.target is not None)
    return torch.cat((torch.cat((at, last), dim=1), flag), dim=-1)


def fixation_places(search: Search, sequence: Int64[Tensor, "b t"]) -> Float[Tensor, "b t 3"]:
    """Row, column and flag of what was fixated: 1 for the target. Begin stands in the middle of the grid.

    End and padding stand behind the last object, row by row, as released; nowhere, where objects have `places`.
    """
    at, columns = _places(search), search.grid[1]
    nowhere = search.places is not None
    behind = [(NOWHERE, NOWHERE) if nowhere else divmod(search.count + i, columns) for i in range(2)]
    extra = at.new_tensor([*behind, [side / 2 for side in search.grid]]).expand(len(at), -1, -1)
    found = torch.cat((at, extra), dim=1).gather(1, sequence[..., None].expand(-1, -1, 2))
    target = sequence.new_full((len(at),), -1) if search.target is None else search.target
    return torch.cat((found, (sequence == target[:, None]).to(at)[..., None]), dim=-1)


def check_sequence(sequence: Int64[Tensor, "b t"], objects: int) -> None:
    """Raises ValueError for an empty sequence, one that does not begin, and for tokens outside the vocabulary."""
    begin = special(objects).begin
    if sequence.is_meta:
        return
    if not sequence.shape[1] or not bool((sequence[:, 0] == begin).all()):
        raise ValueError(f"every row of sequence must begin with {begin}, the token behind {objects} objects")
    if not 0 <= int(sequence.min()) <= int(sequence.max()) <= begin:
        raise ValueError(f"sequence from {int(sequence.min())} to {int(sequence.max())} must be 0 to {begin}")


def _places(search: Search) -> Float[Tensor, "b n 2"]:
    if search.places is not None:
        return search.places
    rows, columns = search.grid
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).view(-1, 2).float()
    return grid.to(search.objects.device).expand(len(search.objects), -1, -1)


def _check_target(target: Tensor, count: int, keep: Tensor | None) -> None:
    if not 0 <= int(target.min()) <= int(target.max()) < count:
        raise ValueError(f"target from {int(target.min())} to {int(target.max())} must be one of {count} objects")
    if keep is not None and not bool(keep[torch.arange(len(target)), target].all()):
        raise ValueError("target is an object that keep says is not there")
