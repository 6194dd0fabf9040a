"""DyDi-LiT: a DiT whose attention is dynamic differential linear attention, its feed-forward a gated convolution.

The paper's tables were not available: sizes are DiT's, with heads of 64 channels. See `saccade.papers.dydila`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from saccade.models.dit import DiT, DiTConfig
from saccade.models.parts import Parts


@dataclass(frozen=True, kw_only=True)
class DyDiLiTConfig(DiTConfig):
    """As `DiTConfig`, with other parts."""

    mixer: Parts = "dydila"
    ffn: Parts = "gated_conv"


class DyDiLiT(DiT):
    """A class-conditional linear diffusion transformer; outputs zero at initialisation (adaLN-Zero)."""

    config_class = DyDiLiTConfig
    sizes: ClassVar[dict[str, Any]] = {
        f"{name}/2": DyDiLiTConfig(depth=depth, width=width, heads=width // 64)
        for name, depth, width in (("S", 12, 384), ("B", 12, 768), ("L", 24, 1024), ("XL", 28, 1152))
    }
