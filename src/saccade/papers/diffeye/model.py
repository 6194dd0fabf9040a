"""DiffEye's denoiser: trajectories (b l 2), noisy, under what a picture shows.

    h = W_in R_t (+ the sample's number) (+ P at R_t, for cpe_at="input")
    stages down, a middle, stages up, with skips; each looks at F_cpe = W F + P' at its end
    eps = W_out silu(norm(h))

The condition is {"image": features (b n c), "shown": (b)}; rows not shown look at one learned null token, without P',
while their queries keep where they are. `shown` may be left out.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models.architecture import Architecture, Prediction
from saccade.nn.embedders import TimeEmbedding
from saccade.papers.diffeye.config import DiffEyeConfig
from saccade.papers.diffeye.corresponding import CorrespondingPositions, waves
from saccade.papers.diffeye.stages import Down, Seen, Stage, Up

Condition = Mapping[str, Tensor]


class DiffEye(Architecture):
    """A denoiser of gaze trajectories by an image.

    >>> from saccade.papers import DiffEye
    >>> model = DiffEye(length=64, width=64, stages=(64, 64), heads=4, groups=8, features=3, grid=(16, 16))
    """

    config_class = DiffEyeConfig
    config: DiffEyeConfig
    sizes: ClassVar[dict[str, Any]] = {"720": DiffEyeConfig()}

    def __init__(self, config: DiffEyeConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        self.enter, self.time = nn.Linear(2, c.width), TimeEmbedding(c.width)
        self.image, self.null = nn.Linear(c.features, c.width), nn.Parameter(0.02 * torch.randn(c.width))
        self.join = nn.Linear(2 * c.width, c.width) if c.sees == "global" else None
        self.positions = CorrespondingPositions(c.width, c.pixels)
        self.register_buffer("numbers", waves(c.length, c.width), persistent=False)
        self._add_stages()
        self.norm, self.leave = nn.GroupNorm(c.groups, c.stages[0]), nn.Linear(c.stages[0], 2)

    def _add_stages(self) -> None:
        c = self.config
        everywhere = c.sees == "patches" and c.cross_at == "stages"
        options: dict[str, Any] = {"config": c, "blocks": c.blocks, "looks": everywhere}
        before, last = (c.width, *c.stages[:-1]), c.stages[-1]
        self.down = nn.ModuleList(Stage(a, b, **options) for a, b in zip(before, c.stages, strict=True))
        self.shrink = nn.ModuleList(Down(width) for width in c.stages[:-1])
        self.middle = Stage(last, last, config=c, blocks=2, looks=c.sees == "patches")
        above = (*c.stages[1:], last)  # width of what comes up to each stage
        self.up = nn.ModuleList(Stage(a + b, b, **options) for a, b in zip(above, c.stages, strict=True))
        self.grow = nn.ModuleList(Up(width) for width in c.stages[1:])

    def forward(self, x: Float[Tensor, "b l 2"], t: Float[Tensor, " b"], condition: Condition) -> Prediction:
        """The noise in x at time step t, 0 to 999.

        `condition` may hold "places" (b l 2), where points are looked up in the place of x; see `estimate`.
        Raises ValueError for a length, features or rows that are not the configuration's.
        """
        self._check(x, condition["image"])
        points = condition.get("places", x)
        picture = self._picture(condition["image"], condition.get("shown"))
        seen = Seen(points=points, tokens=picture, time=self.time(t))
        h = self._entered(x, points, picture)
        return Prediction(self.leave(F.silu(self.norm(self._through(h, seen).mT)).mT), {})

    def _entered(self, x: Tensor, points: Tensor, picture: Tensor) -> Float[Tensor, "b l d"]:
        c, h = self.config, self.enter(x)
        if c.counted:
            h = h + self.numbers.to(h.dtype)
        if c.cpe_at == "input" and c.cpe_of in ("both", "points"):
            h = h + self.positions.at(points, c.lookup).to(h.dtype)
        return h if self.join is None else self.join(torch.cat((h, picture.expand(-1, c.length, -1)), dim=-1))

    def _picture(
        self, features: Float[Tensor, "b n c"], shown: Bool[Tensor, " b"] | None
    ) -> Float[Tensor, "b n d"]:  # fmt: skip
        """F_cpe; the null token in rows that are not shown."""
        tokens = self.image(features)
        if self.config.cpe_of in ("both", "image") and self.config.sees == "patches":
            tokens = tokens + self.positions.tokens(self.config.grid).to(tokens.dtype)
        return tokens if shown is None else torch.where(shown[:, None, None], tokens, self.null.to(tokens.dtype))

    def _through(self, h: Float[Tensor, "b l d"], seen: Seen) -> Float[Tensor, "b l c"]:
        last = len(self.down) - 1
        kept: list[Tensor] = []
        for level, stage in enumerate(self.down):
            h = stage(h, seen)
            kept.append(h)
            h = self.shrink[level](h) if level < last else h
        h = self.middle(h, seen)
        for level in range(last, -1, -1):
            h = self.up[level](torch.cat((h, kept[level]), dim=-1), seen)
            h = self.grow[level - 1](h) if level else h
        return h

    def _check(self, x: Tensor, features: Tensor) -> None:
        c = self.config
        if x.shape[1:] != (c.length, 2):
            raise ValueError(f"x of shape {tuple(x.shape)} must be (batch, length={c.length}, 2)")
        if features.shape != (len(x), c.tokens, c.features):
            wanted = (len(x), c.tokens, c.features)
            raise ValueError(f"image features {tuple(features.shape)} must be {wanted}, as the config says")
