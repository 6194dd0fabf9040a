"""MMFace-DiT: a diffusion transformer of two streams, given a mask or a sketch beside the latent, and a caption.

    [latent; condition's latent] -> patches -> 28 joint blocks with the words -> norm, modulation, projection -> out
    c = pooled caption or learned null + time + modality, which modulates all of them

Source: "MMFace-DiT: A Dual-Stream Diffusion Transformer for High-Fidelity Multimodal Face Generation" (2026).
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from saccade.models.architecture import Architecture, Prediction
from saccade.models.checkpoint_names import Names
from saccade.nn.block import FinalLayer
from saccade.nn.embedders import Patchify, TimeEmbedding, unpatchify
from saccade.nn.positions import grid_places, grid_table, rotary_table, split_channels
from saccade.papers.mmface_dit.condition import Given, OwnWords, PooledCaption, check_condition
from saccade.papers.mmface_dit.config import FLOW_SCALE, SIZES, MMFaceDiTConfig, TextPositions
from saccade.papers.mmface_dit.joint_attention import BLOCKS, Table

LAYERS = {"q": "attn.to_q", "k": "attn.to_k", "v": "attn.to_v", "out": "attn.to_out"}
STREAMS = {"image": ("", "i"), "text": ("_t", "t")}  # how the official code marks them


class MMFaceDiT(Architecture):
    """Answers the velocity, latent less noise, of a flow whose time 0 is noise; or what a chain of DDPM is taught."""

    config_class = MMFaceDiTConfig
    config: MMFaceDiTConfig
    noise_at: ClassVar[int] = 0
    sizes: ClassVar[dict[str, Any]] = SIZES
    names: ClassVar[Names] = (
        ("patches.conv.", "x_embedder.proj."),
        ("time.inner.", "t_embedder.mlp.0."),
        ("time.outer.", "t_embedder.mlp.2."),
        ("pooled.null", "c_embedder.null_feature_pooled"),
        ("pooled.linear.", "c_embedder.proj."),
        ("modality.", "modality_embedder."),
        ("words.", "clip_seq_proj."),
        ("blocks.{}.modulation.linear.", "blocks.{}.adaLN_modulation.1."),
        *(
            (f"blocks.{{}}.{stream}.{ours}.", f"blocks.{{}}.{theirs}{mark}.")
            for stream, (mark, _) in STREAMS.items()
            for ours, theirs in LAYERS.items()
        ),
        *((f"blocks.{{}}.{stream}.ffn.up.", f"blocks.{{}}.mlp_{mark}.0.") for stream, (_, mark) in STREAMS.items()),
        *((f"blocks.{{}}.{stream}.ffn.down.", f"blocks.{{}}.mlp_{mark}.2.") for stream, (_, mark) in STREAMS.items()),
        ("final.modulation.linear.", "final_layer.adaLN_modulation.1."),
        ("final.linear.", "final_layer.linear."),
    )

    def __init__(self, config: MMFaceDiTConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        self.patches = Patchify(c.channels + c.picture_channels, c.patch, c.width)
        self.time = TimeEmbedding(c.width, scale=FLOW_SCALE if c.objective == "flow" else 1.0)
        self.pooled = PooledCaption(c.words_width, c.width, drop=c.pooled_drop)
        self.words = nn.Linear(c.words_width, c.width)
        if c.modalities:
            self.modality = nn.Embedding(c.modalities, c.width)
            nn.init.normal_(self.modality.weight, std=0.02)
        self.blocks = nn.ModuleList(BLOCKS[c.streams](c.width, c.heads, ratio=c.ratio) for _ in range(c.depth))
        self.final = FinalLayer(c.width, c.patch**2 * c.channels)
        if c.classes:
            self.own_words = OwnWords(c)
        nn.init.xavier_uniform_(self.patches.conv.weight.view(c.width, -1))
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], condition: Given) -> Prediction:
        """The prediction at time t for a noisy latent of any sides that are multiples of the patch.

        `condition`: see `condition`; words that are not given are one word of zeros, as in the released code.
        Raises ValueError for a condition that does not fit, and for times that are not those of the objective.
        """
        check_condition(x, condition, self.config)
        _check_times(t, self.config.objective)
        text, c = self._embedded(condition, t)
        grid = x.shape[2] // self.config.patch, x.shape[3] // self.config.patch
        tokens = self._tokens(x, condition, grid)
        table = self._table(grid, text.shape[1]).to(x.device) if self.config.positions == "rotary" else None
        for block in self.blocks:
            tokens, text = self._through(block, tokens, text, c, table)
        return Prediction(unpatchify(self.final(tokens, c), grid, self.config.patch), {})

    def _embedded(
        self, condition: Given, t: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b d"]]:
        """Words of the width of the model, and what modulates it."""
        words, pooled = condition.get("words"), condition.get("pooled")
        if self.config.classes:
            words, pooled = self.own_words(condition["ids"])
        c = self.pooled(pooled, len(t)) + self.time(t)
        if self.config.modalities:
            c = c + self.modality(condition["modality"])
        return c.new_zeros(len(t), 1, self.config.width) if words is None else self.words(words), c

    def _tokens(self, x: Tensor, condition: Given, grid: tuple[int, int]) -> Float[Tensor, "b n d"]:
        both = torch.cat((x, condition["picture"].to(x)), dim=1) if self.config.picture_channels else x
        tokens = self.patches(both)
        return tokens if self.config.positions == "rotary" else tokens + grid_table(grid, self.config.width).to(tokens)

    def _table(self, grid: tuple[int, int], words: int) -> Table:
        return joint_rotation(grid, words, self.config.head_dim, self.config.text_positions)

    def _through(self, block: nn.Module, *given: Any) -> tuple[Tensor, Tensor]:
        if self.config.recompute and torch.is_grad_enabled():
            return checkpoint(block, *given, use_reentrant=False)  # type: ignore[return-value]
        return block(*given)


def joint_rotation(grid: tuple[int, int], words: int, head_dim: int, text_positions: TextPositions) -> Table:
    """cos and sin for every token of [picture; words]: half of a head's pairs turn with the row, half with the column.

    Words stand at (0, 0), not turned at all, or at (0, 0), (1, 0), (2, 0) ... for "sequence".
    """
    places = torch.zeros(words, 2)
    if text_positions == "sequence":
        places[:, 0] = torch.arange(words)
    return rotary_table(torch.cat((grid_places(grid), places)), split_channels(head_dim, 2))


def _check_times(t: Tensor, objective: str) -> None:
    if t.device.type != "cpu" or torch.compiler.is_compiling():  # elsewhere the check would wait
        return
    if objective == "flow" and bool(((t < 0) | (t > 1)).any()):
        raise ValueError(f"t from {float(t.min()):g} to {float(t.max()):g} must be in [0, 1], objective='flow'")
    if bool((t < 0).any()):
        raise ValueError(f"t={float(t.min()):g} must not be negative, a step of the chain of objective='ddpm'")
