"""A small diffusion transformer of videos of moving shapes: what the experiment trains, and on what."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.layout import Grid, Layout
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.partial import Parts
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.data.scenes import Split, render_video, sample_video
from saccade.models.architecture import Prediction
from saccade.models.dit import fresh_block
from saccade.nn.block import FinalLayer
from saccade.nn.embedders import TimeEmbedding
from saccade.nn.part import TokenPositions
from saccade.nn.positions import grid_table
from saccade.papers.vmoba.chosen_chunks import ChosenChunks
from saccade.papers.vmoba.system import VMoBA
from saccade.train.objectives import RectifiedFlow

FLOW = RectifiedFlow()


class VideoDiT(nn.Module):
    """Frames in patches of patch x patch pixels, one token each, attended to all together; no condition."""

    def __init__(self, grid: Grid, *, width: int, depth: int, heads: int, patch: int) -> None:
        super().__init__()
        self.grid, self.patch = grid, patch
        self.embed, self.time = nn.Linear(3 * patch**2, width), TimeEmbedding(width, scale=1000.0)
        self.blocks = nn.ModuleList(fresh_block("attention", "mlp", width, heads) for _ in range(depth))
        self.final = FinalLayer(width, 3 * patch**2)
        self.register_buffer("positions", grid_table(grid, width))

    @property
    def layout(self) -> Layout:
        """Its tokens."""
        return Layout.image_only(self.grid)

    def forward(self, x: Float[Tensor, "b 3 t h w"], t: Float[Tensor, " b"], condition: Any = None) -> Prediction:
        """The velocity at time `t`."""
        (frames, rows, columns), p = self.grid, self.patch
        cells = x.unflatten(4, (columns, p)).unflatten(3, (rows, p)).permute(0, 2, 3, 5, 4, 6, 1)
        tokens, c = self.embed(cells.flatten(4).flatten(1, 3)) + self.positions, self.time(t)
        for block in self.blocks:
            tokens = block(tokens, c, TokenPositions(grid=self.grid)).out
        back = self.final(tokens, c).view(-1, frames, rows, columns, p, p, 3).permute(0, 6, 1, 2, 4, 3, 5)
        return Prediction(back.flatten(5).flatten(3, 4), {})


class VideoLoss(nn.Module):
    """The flow's loss of a batch."""

    def __init__(self, model: VideoDiT) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return FLOW.loss(self.model, batch["x"], None, batch["t"], batch["noise"])


class VideoTask:
    """A `Task` on videos (n 3 t h w)."""

    def __init__(self, model: VideoDiT, videos: Tensor, batch: int) -> None:
        self.module, self.videos, self.size = VideoLoss(model), videos, batch

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        x = self.videos[torch.from_numpy(rng.integers(len(self.videos), size=self.size))]
        noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        return {"x": x, "noise": noise, "t": FLOW.draw(rng, self.size)}

    def uses_muon(self, name: str) -> bool:
        return "blocks." in name

    def sheet(self) -> None:
        """No picture."""


def render(count: int, *, frames: int, side: int, seed: int, split: Split = "train") -> Float[Tensor, "n 3 t h w"]:
    """Videos of moving shapes in [-1, 1]."""
    rng = np.random.default_rng(seed)
    shown = [render_video(sample_video(rng, frames=frames, split=split), side) for _ in range(count)]
    return torch.from_numpy(np.stack(shown)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Held-out videos, and what a model makes of them at one time: guesses of the videos from their noised versions."""

    videos: Float[Tensor, "n 3 t h w"]
    guess: Float[Tensor, "n 3 t h w"]
    loss: float


@torch.no_grad()
def look(model: VideoDiT, videos: Tensor, time: float) -> Seen:
    """The same noise for every model."""
    noise = torch.randn(videos.shape, generator=torch.Generator().manual_seed(0))
    noised = (1 - time) * videos + time * noise
    velocity = model(noised, torch.full((len(videos),), time)).out
    loss = (velocity - (noise - videos)).square().mean()
    return Seen(videos=videos, guess=noised - time * velocity, loss=float(loss))


def motion(videos: Float[Tensor, "n 3 t h w"]) -> float:
    """Energy of the differences between frames."""
    return float(videos.diff(dim=2).square().mean())


@dataclass(frozen=True, eq=False)
class KeptShare(Mechanism):
    """Notes the share of pairs a choice keeps."""

    act: ChosenChunks
    into: list[float]

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        self.into.append(float(self.act.choose(call).float().mean()))


@dataclass(frozen=True, eq=False)
class Watching:
    """A system that notes what another keeps, in all layers of a forward."""

    system: VMoBA
    into: list[float]
    name: str = "watching"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        acts = self.system.plan(site, clock)
        return tuple(KeptShare(act, self.into) for act in acts if isinstance(act, ChosenChunks))
