"""What a DiffEye is made of, and every part that can be left out."""

from dataclasses import dataclass
from typing import Literal, get_args

from saccade.core.checks import check_word
from saccade.models.architecture import check_config
from saccade.papers.diffeye.corresponding import Lookup

Sees = Literal["patches", "global"]
CrossAt = Literal["stages", "middle"]
CpeOf = Literal["both", "points", "image", "none"]
CpeAt = Literal["stages", "input"]


@dataclass(frozen=True, kw_only=True)
class DiffEyeConfig:
    """Of a one-dimensional U-Net over time. Sizes are ours: the paper's are not known to us.

    length     samples of a trajectory; a multiple of 2 to the number of stages less one
    width      D: of samples before the first stage, and of image tokens
    stages     width of each; from one to the next, time is halved
    blocks     residual blocks of a stage, either way
    heads, groups   of attention, of GroupNorm
    features   width of the image features that come in
    grid       (rows, columns) of image tokens; FeatUp's 32 x 32, or DINOv2's own 16 x 16
    pixels     (height, width) of the grid that CPE knows: the encoder's picture
    sees       "patches", by cross-attention; or one "global" feature, joined to every sample
    cross_at   cross-attention at the end of all "stages", or a single one in the "middle"
    cpe_of     which side has the positions: "both", or to see what each is for, "points", "image" or "none"
    cpe_at     of points: at every stage's queries, or once at the "input"
    lookup     of points between pixels
    counted    samples know their number, by a sinusoid at the input: ours; convolutions alone see the ends only
    Raises ValueError for sizes that do not fit each other.
    """

    length: int = 720
    width: int = 128
    stages: tuple[int, ...] = (128, 256, 256, 512)
    blocks: int = 2
    heads: int = 8
    groups: int = 32
    features: int = 384
    grid: tuple[int, int] = (32, 32)
    pixels: tuple[int, int] = (224, 224)
    sees: Sees = "patches"
    cross_at: CrossAt = "stages"
    cpe_of: CpeOf = "both"
    cpe_at: CpeAt = "stages"
    lookup: Lookup = "nearest"
    counted: bool = True

    def __post_init__(self) -> None:
        check_config(self, length=1, width=4, blocks=1, heads=1, groups=1, features=1)
        check_word(get_args(Sees), sees=self.sees)
        check_word(get_args(CrossAt), cross_at=self.cross_at)
        check_word(get_args(CpeOf), cpe_of=self.cpe_of)
        check_word(get_args(CpeAt), cpe_at=self.cpe_at)
        check_word(get_args(Lookup), lookup=self.lookup)
        self._check_sizes()

    @property
    def stride(self) -> int:
        """Samples of the input to one of the last stage."""
        return 2 ** (len(self.stages) - 1)

    @property
    def tokens(self) -> int:
        """Image tokens that come in: one for each cell of the grid, or the global feature alone."""
        return self.grid[0] * self.grid[1] if self.sees == "patches" else 1

    def _check_sizes(self) -> None:
        if not self.stages:
            raise ValueError("stages=() must name the width of one stage or more")
        if self.length % self.stride:
            near = -(-self.length // self.stride) * self.stride
            raise ValueError(f"length={self.length} must be a multiple of {self.stride}, as of stages; take {near}")
        for width in (self.width, *self.stages):
            if width % 4 or width % self.heads or width % self.groups:
                raise ValueError(
                    f"a width of {width} must be a multiple of 4, of heads={self.heads} and of groups={self.groups}"
                )
        if any(cells > pixels for cells, pixels in zip(self.grid, self.pixels, strict=True)) or min(self.grid) < 1:
            raise ValueError(f"grid={self.grid} must be within pixels={self.pixels}: each token covers a pixel or more")
