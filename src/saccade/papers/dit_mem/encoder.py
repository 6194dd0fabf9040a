"""The memory encoder: latents of K videos become tokens of a transformer's width, by a high- and a low-pass branch.

The videos have no order, and neither have the tokens: nothing in here knows places.
"""

from collections import Counter
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.layout import Grid
from saccade.models.architecture import Architecture
from saccade.models.unwrapping import State
from saccade.papers.dit_mem.config import KERNEL, MemoryEncoderConfig, grids_of
from saccade.papers.dit_mem.frequency import Band, FreqFilter
from saccade.papers.dit_mem.official import NAMES, repeated, without_repeats
from saccade.papers.dit_mem.tokens import MemoryTokens

EPS = 1e-6


class ConvBlock(nn.Module):
    """Convolution, frequency filter, ReLU; the pooling is the branch's. `unused` is stored in official files."""

    def __init__(self, conv: nn.Conv3d, frequencies: FreqFilter) -> None:
        super().__init__()
        self.conv, self.filter = conv, frequencies
        self.unused = nn.BatchNorm3d(conv.out_channels).requires_grad_(False)

    def forward(self, x: Float[Tensor, "b i d h w"]) -> Float[Tensor, "b c e g v"]:
        return F.relu(self.filter(self.conv(x)))


class Branch(nn.Module):
    """One of the two: latents (v c d h w) of v videos to tokens (v m dim)."""

    def __init__(self, config: MemoryEncoderConfig, band: Band, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        one, two = config.widths
        convs = (
            nn.Conv3d(config.channels, one, KERNEL, stride=config.stride, padding=KERNEL // 2),
            nn.Conv3d(one, two, 3, padding=1),
        )
        given: dict[str, Any] = {"layout": config.freq_layout, "noise": config.noise, "dropout": config.dropout}
        self.block1, self.block2 = (
            ConvBlock(conv, FreqFilter(width, grid, band, generator=generator, **given))
            for conv, width, grid in zip(convs, config.widths, config.grids[:2], strict=True)
        )
        self.proj = nn.Linear(config.features, config.dim)

    def forward(self, latents: Float[Tensor, "v c d h w"]) -> tuple[Float[Tensor, "v m dim"], tuple[int, ...]]:
        """Distinct tokens, and how many equal ones each stands for."""
        config = self.config
        y = self.block2(F.max_pool3d(self.block1(latents), config.pools[0]))
        if config.tokens != "fine_grid":
            y = F.max_pool3d(y, config.pools[1])
        if tuple(y.shape[2:]) != config.final:
            y = F.adaptive_avg_pool3d(y, config.final)
        if config.tokens != "time":
            y = y.flatten(2).mT
            return self.proj(y), (1,) * y.shape[1]
        y, counts = pooled_in_time(y.movedim(1, 2).flatten(2), config.length)
        return self.proj(y), counts


class SharedAttention(nn.Module):
    """Self-attention among the tokens of one branch: no places, no residual; q and k normalised over the full width."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(dim, eps=EPS), nn.RMSNorm(dim, eps=EPS)

    def forward(self, memory: MemoryTokens) -> MemoryTokens:
        x = memory.tokens
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.norm_q(self.q(x)), self.norm_k(self.k(x)), self.v(x))
        )
        more = None if memory.log_counts is None else memory.log_counts.to(q.dtype).expand(1, 1, x.shape[1], -1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=more)
        return MemoryTokens(self.o(out.transpose(1, 2).flatten(2)), memory.counts)


class MemoryEncoder(Architecture):
    """Retrieved videos as memory tokens for a transformer of width `dim`.

    >>> encoder = MemoryEncoder.of("Wan2.1-1.3B")  # doctest: +SKIP
    >>> tokens = encoder(latents)  # (b, k, 16, 21, 60, 104) -> (b, 2 * k * 100, 1536)  # doctest: +SKIP
    """

    config_class = MemoryEncoderConfig
    sizes: ClassVar[dict[str, MemoryEncoderConfig]] = {
        "Wan2.1-1.3B": MemoryEncoderConfig(),
        "Wan2.2-5B": MemoryEncoderConfig(dim=3072),
    }
    names = NAMES

    def __init__(self, config: MemoryEncoderConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        generator = torch.Generator().manual_seed(self.config.seed)
        self.branches = nn.ModuleDict({band: Branch(self.config, band, generator) for band in self.config.branches})
        self.attention = SharedAttention(self.config.dim, self.config.heads)

    def forward(self, latents: Float[Tensor, "b k c d h w"]) -> Float[Tensor, "b m dim"]:
        """All tokens of the high branch, video by video, then those of the low one.

        Raises ValueError for latents of other channels, or of a size whose grids are not those of the filters.
        """
        return self.memory(latents).expanded()

    def memory(self, latents: Float[Tensor, "b k c d h w"]) -> MemoryTokens:
        """The same with equal tokens as one: at full size a token for each video and branch. Raises as `forward`."""
        self._check(latents)
        b, k = latents.shape[:2]
        if k == 0:
            return MemoryTokens(latents.new_zeros(b, 0, self.config.dim))
        parts = []
        for branch in self.branches.values():
            tokens, counts = branch(latents.flatten(0, 1))
            parts.append(self.attention(MemoryTokens(tokens.unflatten(0, (b, k)).flatten(1, 2), counts * k)))
        return MemoryTokens.joined(parts)

    def resized(self, latent: Grid, *, seed: int | None = None) -> "MemoryEncoder":
        """For latents of another size: the same weights but for the filters', which are drawn for it by `seed`.

        What the second block gives is pooled to the grid this encoder has. Raises ValueError for latents too small.
        """
        final = None if self.config.tokens == "fine_grid" else self.config.final
        changed = {"latent": latent, "reference": final, "seed": self.config.seed if seed is None else seed}
        made = MemoryEncoder(replace(self.config, **changed)).to(self.attention.o.weight)
        own = {name: value for name, value in self.state_dict().items() if not name.endswith("filter.weight")}
        made.load_state_dict(own, strict=False)
        return made.train(self.training)

    def from_official(self, state: State) -> State:
        """The official file holds both blocks of a branch a second time."""
        return without_repeats(state)

    def official_state(self, *, twice: bool = False) -> State:
        """Under the official names; `twice`: with the second copy of the blocks that its own loading asks for."""
        found = super().official_state()
        return found | repeated(found) if twice else found

    def _check(self, latents: Tensor) -> None:
        said = self.config
        if latents.ndim != 6 or latents.shape[2] != said.channels:
            raise ValueError(
                f"latents of shape {tuple(latents.shape)} must be (prompts, videos, {said.channels}, frames, height, "
                "width), as the config says"
            )
        d, h, w = latents.shape[3:]
        found = grids_of((d, h, w), said.stride, said.pools)
        if found[:2] != said.grids[:2]:
            raise ValueError(
                f"latents of size {(d, h, w)} come to grids {found[:2]}, the filters' weights were drawn for "
                f"{said.grids[:2]} (latent={said.latent}); resize the latents, or take encoder.resized({(d, h, w)}), "
                "which draws other weights"
            )


def pooled_in_time(y: Float[Tensor, "v t c"], length: int) -> tuple[Float[Tensor, "v m c"], tuple[int, ...]]:
    """Frames averaged to `length` tokens as adaptive pooling does; those of one window stand together as one."""
    frames = y.shape[1]
    windows = Counter((i * frames // length, -(-(i + 1) * frames // length)) for i in range(length))
    return torch.stack([y[:, a:b].mean(1) for a, b in windows], dim=1), tuple(windows.values())
