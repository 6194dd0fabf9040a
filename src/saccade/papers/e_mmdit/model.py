"""E-MMDiT: a text-to-image transformer of two streams with few tokens, attention in subregions and cheap modulation.

    latent -> tokens + positions -> blocks -> compress -> blocks -> reconstruct, + positions -> blocks -> velocity

Time conditions every block by one linear layer and tables of the block's own; words are a second stream.

Source: Shen et al., "E-MMDiT: Revisiting Multimodal Diffusion Transformer Design" (2025).
"""

from itertools import accumulate
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.models.architecture import Architecture, Prediction
from saccade.models.checkpoint_names import Names
from saccade.models.unwrapping import State
from saccade.nn.block import norm
from saccade.nn.embedders import Patchify, TimeEmbedding, unpatchify
from saccade.nn.modulation import SharedModulation
from saccade.nn.positions import grid_table
from saccade.papers.e_mmdit.compression import Grid, TokenCompressor, TokenReconstructor
from saccade.papers.e_mmdit.config import SIZES, EMMDiTConfig
from saccade.papers.e_mmdit.joint_attention import JointBlock

TABLE = "pos_embed.pos_embed"  # the official name of the whole table of positions
ATTENTION = {
    "image": {"q": "to_q", "k": "to_k", "v": "to_v", "norm_q": "norm_q", "norm_k": "norm_k", "out": "to_out.0"},
    "text": {
        "q": "add_q_proj", "k": "add_k_proj", "v": "add_v_proj",
        "norm_q": "norm_added_q", "norm_k": "norm_added_k", "out": "to_add_out",
    },
}  # fmt: skip


class EMMDiT(Architecture):
    """A flow model conditioned on words: it returns the velocity, noise less latent, at time t in [0, 1]."""

    config_class = EMMDiTConfig
    config: EMMDiTConfig
    positions: Tensor
    sizes: ClassVar[dict[str, Any]] = SIZES
    names: ClassVar[Names] = (
        ("patches.conv.", "pos_embed.proj."),
        ("time.inner.", "adaln_single.emb.timestep_embedder.linear_1."),
        ("time.outer.", "adaln_single.emb.timestep_embedder.linear_2."),
        ("shared.linear.", "adaln_single.linear."),
        ("words.", "context_embedder."),
        ("blocks.{}.{}.image.modulation.bias", "block_groups.{}.{}.scale_shift_bias"),
        ("blocks.{}.{}.image.modulation.scale", "block_groups.{}.{}.scale_shift_scale"),
        ("blocks.{}.{}.text.modulation.bias", "block_groups.{}.{}.scale_shift_bias_c"),
        ("blocks.{}.{}.text.modulation.scale", "block_groups.{}.{}.scale_shift_scale_c"),
        ("blocks.{}.{}.image.norm1.", "block_groups.{}.{}.norm1."),
        ("blocks.{}.{}.text.norm1.", "block_groups.{}.{}.norm1_context."),
        ("blocks.{}.{}.image.ffn.up.", "block_groups.{}.{}.ff.net.0.proj."),
        ("blocks.{}.{}.image.ffn.down.", "block_groups.{}.{}.ff.net.2."),
        ("blocks.{}.{}.text.ffn.up.", "block_groups.{}.{}.ff_context.net.0.proj."),
        ("blocks.{}.{}.text.ffn.down.", "block_groups.{}.{}.ff_context.net.2."),
        ("blocks.{}.{}.text.", "block_groups.{}.{}.norm1_context."),  # the last block's only norm
        *(
            (f"blocks.{{}}.{{}}.attention.{stream}.{ours}.", f"block_groups.{{}}.{{}}.attn.{theirs}.")
            for stream, pairs in ATTENTION.items()
            for ours, theirs in pairs.items()
        ),
        ("compressor.paths.0.", "tokencompressor.0.0.body2x."),
        ("compressor.paths.1.", "tokencompressor.0.0.body4x."),
        ("reconstructor.paths.0.", "tokenreconstructor.0.0.body2x."),
        ("reconstructor.paths.1.", "tokenreconstructor.0.0.body4x."),
        ("reconstructor.merge.", "tokenreconstructor.0.0.mergers."),
        ("final.", "proj_out."),
    )

    def __init__(self, config: EMMDiTConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        self.patches = Patchify(c.channels, c.patch, c.width)
        self.time, self.words = TimeEmbedding(c.width, scale=c.time_scale), nn.Linear(c.words_width, c.width)
        self.shared = SharedModulation(c.width) if c.modulation != "zero" else nn.Identity()
        starts = accumulate(c.groups, initial=0)
        self.blocks = nn.ModuleList(
            nn.ModuleList(self._block(start + i) for i in range(count))
            for start, count in zip(starts, c.groups, strict=False)
        )
        if c.compress:
            self.compressor, self.reconstructor = TokenCompressor(c.width), TokenReconstructor(c.width)
        self.norm, self.final = norm(c.width), nn.Linear(c.width, c.patch**2 * c.channels)
        self.register_buffer("positions", position_table(c), persistent=False)

    def _block(self, i: int) -> JointBlock:
        c = self.config
        regions, run = c.pattern(i)
        last = i == sum(c.groups) - 1
        return JointBlock(c.width, c.heads, ratio=c.ratio, modulation=c.modulation, regions=regions, run=run, last=last)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Float[Tensor, " b"],
        words: Float[Tensor, "b m k"],
        words_keep: Bool[Tensor, "b m"] | None = None,
    ) -> Prediction:
        """The velocity at time t. `words_keep`: words that are there; None looks at padding too, as the paper does."""
        self._check(x, words, words_keep)
        grid = x.shape[2] // self.config.patch, x.shape[3] // self.config.patch
        c, places = self.shared(self.time(t)), self.places(grid).to(x.dtype)
        first, middle, last = self.blocks
        kept, encoded = _through(first, self.patches(x) + places, self.words(words), c, words_keep)
        tokens = self.compressor(kept, grid) if self.config.compress else kept
        tokens, encoded = _through(middle, tokens, encoded, c, words_keep)
        if self.config.compress:
            tokens = self.reconstructor(tokens, kept, grid)
        if self.config.reinforce:
            tokens = tokens + places
        tokens, _ = _through(last, tokens, encoded, c, words_keep)
        return Prediction(unpatchify(self.final(self.norm(tokens)), grid, self.config.patch), {})

    def places(self, grid: Grid) -> Float[Tensor, "n d"]:
        """Positions of a grid: the middle of the table."""
        top, left = ((self.config.table - side) // 2 for side in grid)
        return self.positions[top : top + grid[0], left : left + grid[1]].flatten(0, 1)

    def from_official(self, state: State) -> State:
        """The official weights without the table of positions, which is compared: ours is not stored.

        Raises ValueError where it differs: the checkpoint was made for another size.
        """
        weights = dict(state)
        theirs, ours = weights.pop(TABLE, None), self._table()
        if theirs is not None and not _alike(theirs, ours):
            raise ValueError(
                f"{TABLE} of shape {tuple(theirs.shape)} is not that of {self.config}; change side or table"
            )
        return weights

    def official_state(self) -> State:
        """The weights under the official names, with the table of positions."""
        return {**super().official_state(), TABLE: self._table()}

    def _table(self) -> Float[Tensor, "1 n d"]:
        return self.positions.flatten(0, 1)[None]

    def _check(self, x: Tensor, words: Tensor, keep: Tensor | None) -> None:
        c = self.config
        if x.shape[1] != c.channels:
            raise ValueError(f"x of shape {tuple(x.shape)} must have channels={c.channels}, as the config says")
        c.check_grid((x.shape[2] // c.patch, x.shape[3] // c.patch))
        if words.shape[0] != len(x) or words.shape[2] != c.words_width:
            raise ValueError(
                f"words of shape {tuple(words.shape)} must be ({len(x)}, length, words_width={c.words_width})"
            )
        if keep is not None and keep.shape != words.shape[:2]:
            raise ValueError(f"words_keep of shape {tuple(keep.shape)} must be {tuple(words.shape[:2])}, as the words")
        c.check_words(words.shape[1])


def position_table(config: EMMDiTConfig) -> Float[Tensor, "h w d"]:
    """Positions of the whole table: `side` of the config spreads over all of it, at most 16 steps wide."""
    tokens = config.grid[0]
    scale = tokens / config.table / max(1, tokens // 16)
    table = grid_table((config.table, config.table), config.width, scale=scale)
    return table.unflatten(0, (config.table, config.table))


def _alike(theirs: Tensor, ours: Tensor) -> bool:
    """Whether two tables are one, up to the rounding of the type in which theirs is stored."""
    near = max(1e-4, torch.finfo(theirs.dtype).eps)
    return theirs.shape == ours.shape and torch.allclose(theirs.to(ours), ours, atol=near)


def _through(blocks: Any, x: Tensor, words: Any, c: Tensor, keep: Tensor | None) -> tuple[Tensor, Any]:
    """Picture and words after some blocks; no words after the network's last."""
    for block in blocks:
        x, words = block(x, words, c, keep)
    return x, words
