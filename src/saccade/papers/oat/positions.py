"""Where a token stands, as a vector: concat(code(row), code(column), code(flag)), cut to the width.

gaussian         distance-aligned: cosines are a Gaussian of the distance, `nn.aligned_positions`
sinusoid         sine and cosine in turn, frequencies 10000^(-k / c), k = 0, 2, .. of c channels an axis
exp1             frequencies k^alpha / c          exp2   (k / c)^alpha          linear   alpha k / c
original_update  the sinusoid's code turned towards or away from that of the middle place: cosine c becomes c^7.5
none             zeros
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.core.checks import check_word
from saccade.nn.aligned_positions import between, distance_table

PositionKind = Literal["gaussian", "sinusoid", "exp1", "exp2", "linear", "original_update", "none"]
AXES, SPECIALS = 3, 4  # row, column, flag · rows of zeros behind a table's, for tokens that are no object
ORDER = 15  # of "original_update": the squared new cosine is the old one to this power
TINY = 1e-12


def share(width: int) -> int:
    """Channels of each axis: even, and together at least the width."""
    return 2 * -(-width // (2 * AXES))


def frequencies(kind: PositionKind, channels: int, alpha: float) -> Float[Tensor, " half"]:
    """Of a sinusoid's pairs of channels, in float32 as released."""
    k = torch.arange(0, channels, 2, device="cpu").float()
    if kind == "exp1":
        return k**alpha / channels
    if kind == "exp2":
        return (k / channels) ** alpha
    if kind == "linear":
        return k * alpha / channels
    return 1.0 / (10000 ** (k / channels))


def waves(places: Float[Tensor, "*n"], rates: Float[Tensor, " half"]) -> Float[Tensor, "*n channels"]:
    """Sine and cosine in turn of each place at each frequency."""
    angles = places[..., None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def time_code(length: int, width: int) -> Float[Tensor, "length width"]:
    """Of the steps of a sequence, added to what the decoder reads."""
    return waves(torch.arange(length, device="cpu").float(), frequencies("sinusoid", width, 1.0))


def sharpened(code: Float[Tensor, "*n d"], centre: Float[Tensor, "*#n d"], order: int = ORDER) -> Float[Tensor, "*n d"]:
    """Each code turned in its plane with the centre's until the squared cosine is the old cosine to the power `order`.

    Lengths stay. A cosine below 0 becomes 0. What the released code finds by descent from the old code.
    """
    x, c = code.double(), centre.double().expand_as(code)
    unit = c / c.norm(dim=-1, keepdim=True).clamp_min(TINY)
    along = (x * unit).sum(-1, keepdim=True)
    length = x.norm(dim=-1, keepdim=True)
    aside = x - along * unit
    aside = aside / aside.norm(dim=-1, keepdim=True).clamp_min(TINY)
    new = (along / length.clamp_min(TINY)).clamp(0, 1) ** (order / 2)
    return (length * (new * unit + (1 - new.square()).clamp_min(0).sqrt() * aside)).to(code.dtype)


class PositionCode(nn.Module):
    """Codes (b n width) of places (b n 3): row, column, flag. A row below 0 is nowhere: zeros but for the flag.

    count        rows and columns that the table has, at least the layout's
    width        of the whole code; `table_width` of one axis, None: a third of it, even and rounded up
    sigma, rotation   of "gaussian", as `nn.distance_table` has them; `alpha` of the frequency laws
    continuous   places between whole numbers have codes of their own; otherwise they are cut to whole numbers
    Raises ValueError for an unknown kind, and a table too narrow for the width.
    """

    table: Float[Tensor, "rows channels"]

    def __init__(
        self,
        kind: PositionKind,
        count: int,
        width: int,
        *,
        sigma: float = 2.0,
        alpha: float = 0.9,
        rotation: int | None = 0,
        table_width: int | None = None,
        continuous: bool = False,
    ) -> None:
        super().__init__()
        check_word(get_args(PositionKind), positions=kind)
        channels = table_width or share(width)
        if AXES * channels < width:
            raise ValueError(f"table_width={channels} on {AXES} axes must be at least the code's width, {width}")
        self.kind, self.count, self.width, self.sigma, self.continuous = kind, count, width, sigma, continuous
        self.rates = frequencies(kind, channels, alpha)
        self.register_buffer("table", torch.zeros(count + SPECIALS, channels))
        if not self.table.is_meta:
            self.set_table(self._made(channels, rotation))

    def _made(self, channels: int, rotation: int | None) -> Float[Tensor, "n channels"]:
        if self.kind == "none":
            return torch.zeros(self.count, channels)
        if self.kind == "gaussian":
            return distance_table(self.count, channels, sigma=self.sigma, rotation=rotation)
        return waves(torch.arange(self.count).float(), self.rates)

    def set_table(self, table: Float[Tensor, "n channels"]) -> None:
        """Use a table of your own, such as a released one, for all three axes.

        Raises ValueError for another width, and for fewer rows than `count`.
        """
        rows, channels = self.table.shape
        if table.ndim != 2 or table.shape[1] != channels or len(table) < rows - SPECIALS:
            raise ValueError(
                f"table of shape {tuple(table.shape)} must be ({rows - SPECIALS}, {channels}): a row for each row and "
                "column of the layout; make a longer one, or lower `places` of the configuration"
            )
        self.table.zero_()
        self.table[: rows - SPECIALS] = table[: rows - SPECIALS]

    def forward(
        self, places: Float[Tensor, "b n 3"], centre: tuple[int, int] = (0, 0)
    ) -> Float[Tensor, "b n {self.width}"]:
        """`centre`: the middle place (row, column), for "original_update"."""
        found = self._code(places)
        if self.kind != "original_update":
            return found
        middle = places.new_tensor(centre).expand(*places.shape[:2], 2)
        return sharpened(found, self._code(torch.cat((middle, places[..., 2:]), dim=-1)))

    def _code(self, places: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n d"]:
        axes = [self._between(axis) if self.continuous else self.table[axis.long()] for axis in places.unbind(-1)]
        return torch.cat(axes, dim=-1)[..., : self.width]

    def _between(self, axis: Float[Tensor, "b n"]) -> Float[Tensor, "b n e"]:
        inside = axis.clamp(0, self.count - 1)
        if self.kind == "gaussian":
            weights = between(inside.flatten(), self.count, sigma=self.sigma).to(self.table)
            found = (weights @ self.table[: self.count]).unflatten(0, axis.shape)
        elif self.kind == "none":
            found = self.table[torch.zeros_like(axis, dtype=torch.long)]
        else:
            found = waves(inside, self.rates.to(axis))
        return torch.where(axis[..., None] < 0, 0, found)
