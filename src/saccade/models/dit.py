"""DiT, with any mixer and any feed-forward: the backbone that the other isotropic architectures configure.

    picture -> patches + positions -> blocks conditioned on c = time + label -> norm, modulation, projection -> picture

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers" (2023).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.models.architecture import Architecture, Prediction, check_config, check_picture
from saccade.models.checkpoint_names import Names
from saccade.models.parts import Parts, check_parts, part
from saccade.nn.block import DiTBlock, FinalLayer, xavier_
from saccade.nn.embedders import LabelEmbedding, Patchify, TimeEmbedding, unpatchify
from saccade.nn.modulation import ModulationKind, SharedModulation
from saccade.nn.part import TokenPositions, added
from saccade.nn.positions import grid_table
from saccade.nn.registry import make_feedforward, make_mixer
from saccade.nn.routing import name_routers


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Sizes and parts.

    depth, width, heads   blocks, channels of a token, heads of a mixer
    patch        side of a token, in pixels
    channels     of the picture or latent
    classes      of the labels
    mixer, ffn   one text for all blocks, or one for each: `"moh(shared=2, routed=2)"`
    side         of the picture or latent, in pixels; the position table is made for it
    modulation   by the condition: "zero" (adaLN-Zero), "single" or "affine"
    learned_variance   twice the channels out: the second half is DDPM's variance
    time_scale   multiplies the time before its embedding
    positions    a fixed table; or none, for mixers that bring their own
    Raises ValueError for options out of range.
    """

    depth: int = 12
    width: int = 384
    heads: int = 6
    patch: int = 2
    side: int = 32
    channels: int = 4
    classes: int = 1000
    mixer: Parts = "attention"
    ffn: Parts = "mlp"
    modulation: ModulationKind = "zero"
    learned_variance: bool = True
    time_scale: float = 1.0
    positions: Literal["sincos", "none"] = "sincos"

    def __post_init__(self) -> None:
        check_config(self, depth=1, width=1, heads=1, patch=1, side=1, channels=1, classes=1)
        if self.side % self.patch:
            raise ValueError(f"side={self.side} must be a multiple of patch={self.patch}")
        check_parts(self.depth, mixer=self.mixer, ffn=self.ffn)

    def part(self, name: Literal["mixer", "ffn"], block: int) -> str:
        """The text of one block's mixer or feed-forward."""
        return part(getattr(self, name), block)


SIZES = {
    f"{name}/{patch}": DiTConfig(depth=depth, width=width, heads=heads, patch=patch)
    for name, depth, width, heads in (("S", 12, 384, 6), ("B", 12, 768, 12), ("L", 24, 1024, 16), ("XL", 28, 1152, 16))
    for patch in (2, 4, 8)
}


CONDITION_NAMES: Names = (  # what most official codes call the embedders and the last layer
    ("time.inner.", "t_embedder.mlp.0."),
    ("time.outer.", "t_embedder.mlp.2."),
    ("label.table.", "y_embedder.embedding_table."),
    ("final.modulation.linear.", "final_layer.adaLN_modulation.1."),
    ("final.linear.", "final_layer.linear."),
)
BLOCK_NAMES: Names = (  # and the parts of a block
    ("modulation.linear.", "adaLN_modulation.1."),
    ("mixer.qkv.", "attn.qkv."),
    ("mixer.out.", "attn.proj."),
    ("mixer.norm_q.", "attn.q_norm."),
    ("mixer.norm_k.", "attn.k_norm."),
    ("ffn.up.", "mlp.fc1."),
    ("ffn.down.", "mlp.fc2."),
)


class DiT(Architecture):
    """A class-conditional diffusion transformer; outputs zero at initialisation (adaLN-Zero)."""

    config_class = DiTConfig
    config: DiTConfig
    sizes: ClassVar[dict[str, Any]] = SIZES
    names: ClassVar[Names] = (
        ("positions", "pos_embed"),
        ("patches.conv.", "x_embedder.proj."),
        *CONDITION_NAMES,
        *((f"blocks.{{}}.{ours}", f"blocks.{{}}.{theirs}") for ours, theirs in BLOCK_NAMES),
    )

    def __init__(self, config: DiTConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        self.grid = (c.side // c.patch, c.side // c.patch)
        self.patches = Patchify(c.channels, c.patch, c.width)
        self.time, self.label = TimeEmbedding(c.width, scale=c.time_scale), LabelEmbedding(c.classes, c.width)
        self.shared = SharedModulation(c.width) if c.modulation != "zero" else nn.Identity()
        self.blocks = nn.ModuleList(
            fresh_block(c.part("mixer", i), c.part("ffn", i), c.width, c.heads, c.modulation) for i in range(c.depth)
        )
        self.final = FinalLayer(c.width, c.patch**2 * c.channels * (1 + c.learned_variance))
        if c.positions == "sincos":
            self.register_buffer("positions", grid_table(self.grid, c.width)[None])
        nn.init.xavier_uniform_(self.patches.conv.weight.view(c.width, -1))
        nn.init.zeros_(self.patches.conv.bias)  # type: ignore[arg-type]
        name_routers(self)

    def forward(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], labels: Int[Tensor, " b"]) -> Prediction:
        """The objective's prediction at time `t`; label `classes` means none. Sides other than `side` are refused."""
        check_picture(x, self.config)
        c = self.time(t) + self.label(labels)
        tokens = self.patches(x)
        if self.config.positions == "sincos":
            tokens = tokens + self.positions.to(tokens.dtype)
        vectors, place, losses = self.shared(c), TokenPositions(grid=self.grid), []
        for block in self.blocks:
            tokens, more, _ = block(tokens, vectors, place)
            losses.append(more)
        return Prediction(unpatchify(self.final(tokens, c), self.grid, self.config.patch), added(losses))


def fresh_block(mixer: str, ffn: str, width: int, heads: int, modulation: ModulationKind = "zero") -> DiTBlock:
    """A block of named parts; one with a method `reset` starts as it says, any other Xavier-uniform."""
    parts = make_mixer(mixer, width, heads), make_feedforward(ffn, width)
    for each in parts:
        getattr(each, "reset", lambda each=each: xavier_(each))()
    return DiTBlock(width, *parts, modulation=modulation)
