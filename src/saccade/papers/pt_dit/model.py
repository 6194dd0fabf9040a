"""PT-DiT: pictures and videos from words, by proxy tokens in the place of full attention.

    latent -> patches + positions -> blocks conditioned on time and words -> norm, modulation, projection -> latent

Source: Wang et al., "Qihoo-T2X: An Efficiency-Focused Diffusion Transformer via Proxy Tokens" (2024).
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.models.architecture import Architecture, Prediction
from saccade.models.checkpoint_names import Names
from saccade.nn.block import xavier_
from saccade.nn.embedders import Patchify, TimeEmbedding, unpatchify
from saccade.nn.modulation import SharedModulation, TableModulation, modulate, norm
from saccade.nn.part import MixerOutput, TokenPositions, added
from saccade.nn.registry import make_feedforward
from saccade.papers.pt_dit.config import PTDiTConfig
from saccade.papers.pt_dit.proxy_attention import zero_
from saccade.papers.pt_dit.proxy_block import PTDiTBlock
from saccade.papers.pt_dit.windows import Sizes

HIDDEN = -10000.0  # added to scores of words that are not there, as in the released code


ATTENTIONS = {
    "proxies.attention": "proxy_attn1", "proxies.cross": "pvisual_attn2", "near.attention": "attn1",
    "far.attention": "attn3", "words": "attn2",
}  # fmt: skip
LAYERS = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}


class PTDiT(Architecture):
    """A text-conditional diffusion transformer of proxies and windows; outputs zero at initialisation (adaLN-Zero)."""

    config_class = PTDiTConfig
    config: PTDiTConfig
    sizes: ClassVar[dict[str, Any]] = {"T2I-1B": PTDiTConfig(side=32)}
    names: ClassVar[Names] = (
        ("positions", "pos_embed.pos_embed"),
        ("patches.conv.", "pos_embed.proj."),
        ("time.inner.", "adaln_single.emb.timestep_embedder.linear_1."),
        ("time.outer.", "adaln_single.emb.timestep_embedder.linear_2."),
        ("resolution.inner.", "adaln_single.emb.resolution_embedder.linear_1."),
        ("resolution.outer.", "adaln_single.emb.resolution_embedder.linear_2."),
        ("aspect.inner.", "adaln_single.emb.aspect_ratio_embedder.linear_1."),
        ("aspect.outer.", "adaln_single.emb.aspect_ratio_embedder.linear_2."),
        ("shared.linear.", "adaln_single.linear."),
        ("caption.up.", "caption_projection.linear_1."),
        ("caption.down.", "caption_projection.linear_2."),
        ("blocks.{}.modulation.bias", "transformer_blocks.{}.scale_shift_table"),
        ("blocks.{}.far_modulation.bias", "transformer_blocks.{}.proxy_scale_shift_table"),
        ("blocks.{}.proxies.out.", "transformer_blocks.{}.linear_1_visual."),
        ("blocks.{}.far_out.", "transformer_blocks.{}.linear_2."),
        *(
            (f"blocks.{{}}.{ours}.{layer}.", f"transformer_blocks.{{}}.{theirs}.{their_layer}.")
            for ours, theirs in ATTENTIONS.items()
            for layer, their_layer in LAYERS.items()
        ),
        ("blocks.{}.ffn.up.", "transformer_blocks.{}.ff.net.0.proj."),
        ("blocks.{}.ffn.down.", "transformer_blocks.{}.ff.net.2."),
        ("final.bias", "scale_shift_table"),
        ("pixels.", "proj_out."),
    )

    def __init__(self, config: PTDiTConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        self.patches = Patchify(c.channels, c.patch, c.width)
        self.time, self.shared = TimeEmbedding(c.width, scale=c.time_scale), SharedModulation(c.width)
        if c.told_size:
            self.resolution, self.aspect = (_closed(TimeEmbedding(c.width // 3)) for _ in range(2))
        self.caption = Caption(c.words_width, c.width)
        self.blocks = nn.ModuleList(self._block(i) for i in range(c.depth))
        self.norm, self.final = norm(c.width), TableModulation(c.width, 2)
        self.pixels = nn.Linear(c.width, c.patch**2 * c.channels * (1 + c.learned_variance))
        self.register_buffer("positions", c.table(c.grid)[None])
        nn.init.xavier_uniform_(self.patches.conv.weight.view(c.width, -1))
        nn.init.zeros_(self.patches.conv.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.shared.linear.weight, std=0.02)
        nn.init.zeros_(self.shared.linear.bias)
        zero_(self.pixels)

    def _block(self, i: int) -> PTDiTBlock:
        c = self.config
        parts: dict[str, Any] = {"inject": c.inject, "steps": c.steps, "modulated": c.proxies_modulated}
        ffn = make_feedforward(c.ffn, c.width)
        getattr(ffn, "reset", lambda: xavier_(ffn))()
        return PTDiTBlock(c.width, c.heads, c.proxies(i), ffn, **parts)

    def forward(
        self,
        x: Float[Tensor, "b c *sides"],
        t: Float[Tensor, " b"],
        words: Float[Tensor, "b l k"],
        keep: Bool[Tensor, "b m"] | None = None,
        *,
        size: Float[Tensor, "b 2"] | None = None,
    ) -> Prediction:
        """The objective's prediction for latents of pictures (b c h w) or videos (b c f h w).

        `keep`: words that are there. `size`: height and width of the picture in pixels, for models conditioned on it;
        None: eight times those of the latents.
        """
        self._check(x, words, keep)
        video = x if x.ndim == 5 else x[:, :, None]
        grid = (video.shape[2], *(side // self.config.patch for side in video.shape[3:]))
        tokens = self._tokens(video, grid)
        e = self._condition(t, video, size)
        captions, shared, place, losses = self.caption(words), self.shared(e), TokenPositions(grid=grid), []
        hidden = None if keep is None else torch.where(keep, 0.0, HIDDEN).to(tokens.dtype)[:, None, None]
        for block in self.blocks:
            part: MixerOutput = block(tokens, shared, place, captions, hidden)
            tokens = part.out
            losses.append(part.losses)
        out = self._latents(self.pixels(modulate(self.norm(tokens), *self.final(e.repeat(1, 2)))), grid)
        return Prediction(out.reshape(len(x), -1, *x.shape[2:]), added(losses))

    def _tokens(self, video: Float[Tensor, "b c f h w"], grid: Sizes) -> Float[Tensor, "b n d"]:
        tokens = self.patches(video.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(video), -1))
        table = self.positions if grid == self.config.grid else self.config.table(grid)
        return (tokens + table.to(tokens)).flatten(1, 2)

    def _condition(
        self, t: Float[Tensor, " b"], video: Float[Tensor, "b c f h w"], size: Float[Tensor, "b 2"] | None
    ) -> Float[Tensor, "b d"]:
        e = self.time(t)
        if not self.config.told_size:
            return e
        if size is None:
            size = torch.tensor([8.0 * side for side in video.shape[-2:]], device=t.device).expand(len(t), 2)
        sides = self.resolution(size.flatten()).unflatten(0, (-1, 2)).flatten(1)
        return e + torch.cat((sides, self.aspect(size[:, 0] / size[:, 1])), dim=1)

    def _latents(self, tokens: Float[Tensor, "b n k"], grid: Sizes) -> Float[Tensor, "b c f h w"]:
        frames = unpatchify(tokens.unflatten(1, (grid[0], -1)).flatten(0, 1), (grid[1], grid[2]), self.config.patch)
        return frames.unflatten(0, (len(tokens), -1)).transpose(1, 2)

    def _check(self, x: Tensor, words: Tensor, keep: Tensor | None) -> None:
        channels = self.config.channels
        if x.ndim not in (4, 5) or x.shape[1] != channels:
            wanted = f"(b, {channels}, h, w), or (b, {channels}, f, h, w) for videos"
            raise ValueError(f"x of shape {tuple(x.shape)} must be {wanted}")
        if keep is not None and keep.shape != words.shape[:2]:
            raise ValueError(f"keep of shape {tuple(keep.shape)} must be {tuple(words.shape[:2])}, as words are")


class Caption(nn.Module):
    """Embedded words to the width of the model."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(channels, width), nn.Linear(width, width)
        xavier_(self)

    def forward(self, words: Float[Tensor, "b l k"]) -> Float[Tensor, "b l d"]:
        return self.down(nn.functional.gelu(self.up(words), approximate="tanh"))


def _closed(embedding: TimeEmbedding) -> TimeEmbedding:
    zero_(embedding.outer)
    return embedding
