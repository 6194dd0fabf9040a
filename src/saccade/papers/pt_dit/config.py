"""What a PT-DiT is made of."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from saccade.models.architecture import check_config
from saccade.papers.pt_dit.proxies import Choice, Order, Proxies
from saccade.papers.pt_dit.proxy_attention import Inject
from saccade.papers.pt_dit.proxy_block import STEPS, Step
from saccade.papers.pt_dit.video_positions import plane_table, video_table
from saccade.papers.pt_dit.windows import Sizes

SIZED_SIDE = 128  # latents of this side are conditioned on the picture's resolution and aspect


@dataclass(frozen=True, kw_only=True)
class PTDiTConfig:
    """Sizes and parts.

    depth, width, heads, patch, channels   as in `DiTConfig`
    side, frames   of the latents that positions are stored for, to be given; others get positions of their own
    words_width    channels of the words' embeddings
    learned_variance   twice the channels out, as released
    window, inner, choice, order, seed   see `proxies.Proxies`; sides in tokens (frames, height, width)
    inject         see `proxy_attention.ProxyInjection`
    ffn            of every block, as text
    steps          of a block, see `proxy_block.PTDiTBlock`
    proxies_modulated   time changes the proxies' attention, as drawn in the paper
    modulation     "single", the only one there is
    time_scale     multiplies the time before its embedding
    positions      "video": time in a quarter of the channels; "picture": none, places stretched to `side`, as in PixArt
    swapped        positions of grids that are not square as the released code makes them, height and width exchanged
    sized          conditioned on resolution and aspect; None: where `side` is 128
    Raises ValueError for options out of range.
    """

    depth: int = 28
    width: int = 1152
    heads: int = 16
    patch: int = 2
    side: int = 0
    frames: int = 1
    channels: int = 4
    words_width: int = 4096
    learned_variance: bool = True
    window: Sizes = (1, 8, 8)
    inner: Sizes | None = None
    choice: Choice = "mean"
    order: Order = "contiguous"
    seed: int = 0
    inject: Inject = "cross"
    steps: tuple[Step, ...] = STEPS
    proxies_modulated: bool = False
    modulation: Literal["single"] = "single"
    ffn: str = "mlp"
    time_scale: float = 1000.0
    positions: Literal["video", "picture"] = "video"
    swapped: bool = False
    sized: bool | None = None

    def __post_init__(self) -> None:
        check_config(self, depth=1, width=1, heads=1, patch=1, side=1, frames=1, channels=1, words_width=1)
        if self.side % self.patch:
            raise ValueError(f"side={self.side} must be a multiple of patch={self.patch}")
        if self.width % 16:
            raise ValueError(f"width={self.width} must be a multiple of 16: sine and cosine of time, column and row")
        if self.modulation != "single":
            raise ValueError(f"modulation='{self.modulation}' is none of PT-DiT's; it has 'single' alone")
        if self.positions not in ("video", "picture"):
            raise ValueError(f"positions='{self.positions}' must be 'video' or 'picture'")
        if not self.steps or not {*self.steps} <= {*STEPS}:
            raise ValueError(f"steps={self.steps} must be some of {', '.join(STEPS)}")
        if len(self.window) != 3:
            raise ValueError(f"window={self.window} must be (frames, height, width), pictures with one frame")
        self.proxies(0)

    @property
    def told_size(self) -> bool:
        """Whether resolution and aspect are conditions."""
        return self.side == SIZED_SIDE if self.sized is None else self.sized

    @property
    def grid(self) -> Sizes:
        """(f, h, w) of the tokens that positions are stored for."""
        return (self.frames, self.side // self.patch, self.side // self.patch)

    def table(self, grid: Sizes) -> Float[Tensor, "f hw d"]:
        """Positions of a grid."""
        wide = max(self.side // 64, 1)
        if self.positions == "picture":
            usual = self.side / self.patch / wide
            return plane_table(grid[1:], self.width, steps=(usual / grid[1], usual / grid[2])).repeat(grid[0], 1, 1)
        return video_table((grid[0], grid[2], grid[1]) if self.swapped else grid, self.width, step=1 / wide)

    def proxies(self, block: int) -> Proxies:
        """How a block chooses its proxies; each draws with a seed of its own."""
        return Proxies(
            window=self.window, inner=self.inner, choice=self.choice, order=self.order, seed=self.seed + block
        )


def window_at(side: int, *, video: bool = False) -> Sizes:
    """The paper's window for pictures of `side` pixels: 64 windows at every side, four frames of a video in each.

    Raises ValueError for a side that is no multiple of 128.
    """
    if side % 128:
        raise ValueError(f"side={side} must be a multiple of 128 pixels")
    return (4 if video else 1, side // 128, side // 128)
