"""What an adapter is made for: the kind and sizes of its model, and the variant; published sizes."""

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from saccade.core.checks import check_whole, check_word

HostKind = Literal["sd3", "flux"]
Variant = Literal["siamese", "adapter", "m3"]
HOSTS: dict[str, HostKind] = {"SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux"}


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What an adapter was made for.

    host           "sd3" or "flux"
    variant        "siamese"; or an ablation, "adapter" or "m3"
    dim, heads     of the model
    double         its blocks with two streams; the last of SD3 gives no layout on
    single         its blocks with one
    text_width     of a caption's vector: pooled for SD3, of a word before the model embeds it for FLUX
    qk_norm        whether queries and keys are normed
    rank           of low-rank terms on SD3's own weights, None for whole weights of its own
    Raises ValueError for options out of range.
    """

    host: HostKind
    variant: Variant = "siamese"
    dim: int
    heads: int
    double: int
    single: int = 0
    text_width: int
    qk_norm: bool = False
    rank: int | None = None

    def __post_init__(self) -> None:
        check_word(get_args(HostKind), host=self.host)
        check_word(get_args(Variant), variant=self.variant)
        check_whole(1, dim=self.dim, heads=self.heads, text_width=self.text_width)
        check_whole(0, double=self.double, single=self.single)
        if self.rank is not None:
            check_whole(1, rank=self.rank)
            if self.host != "sd3" or self.variant != "siamese":
                raise ValueError(
                    f"rank={self.rank} goes with host='sd3' and variant='siamese', not with '{self.host}' and "
                    f"'{self.variant}'; leave it out"
                )

    @classmethod
    def of(cls, transformer: Any, *, variant: Variant = "siamese", rank: int | None = None) -> Self:
        """For a transformer of diffusers. Raises ValueError for another class than SD3's and FLUX's."""
        name = next((c.__name__ for c in type(transformer).__mro__ if c.__name__ in HOSTS), None)
        if name is None:
            raise ValueError(f"{type(transformer).__name__} is none of {', '.join(HOSTS)}; give pipe.transformer")
        said, host = transformer.config, HOSTS[name]
        return cls(
            host=host, variant=variant, rank=rank, heads=said.num_attention_heads,
            dim=said.num_attention_heads * said.attention_head_dim, double=said.num_layers,
            single=said.num_single_layers if host == "flux" else 0,
            text_width=said.pooled_projection_dim if host == "sd3" else said.joint_attention_dim,
            qk_norm=host == "flux" or said.qk_norm is not None,
        )  # fmt: skip


SIZES: dict[str, AdapterConfig] = {
    "SD3-medium": AdapterConfig(host="sd3", dim=1536, heads=24, double=24, text_width=2048),
    "SD3-medium LoRA": AdapterConfig(host="sd3", dim=1536, heads=24, double=24, text_width=2048, rank=256),
    "FLUX.1-dev": AdapterConfig(
        host="flux", dim=3072, heads=24, double=19, single=38, text_width=4096, qk_norm=True
    ),
}  # fmt: skip
