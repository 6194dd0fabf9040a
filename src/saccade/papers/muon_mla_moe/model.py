"""A small decoder of latent attention and many small experts: what is kept of a token and what works for it are few.

Blocks of RMSNorm and latent attention, RMSNorm and experts, in `CausalLM`. Two experts always work and six of 62 are
chosen; each is as wide as an eighth of the dense feed-forward, so that the eight of them multiply as much as that.

Source: Mehta et al., "Muon: Training and Trade-offs with Latent Attention and MoE" (2025), and their MoE-MLA-RoPE.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from saccade.models.architecture import check_config
from saccade.models.causal_lm import CausalLM
from saccade.nn.moe import MoE, Scores
from saccade.nn.registry import make_feedforward, make_mixer
from saccade.nn.residual import NormKind


@dataclass(frozen=True, kw_only=True)
class LatentMoEConfig:
    """Sizes.

    vocabulary   tokens there are
    depth, width, heads   blocks, channels of a token, heads of the attention
    norm         rms or layer
    tied         the logits' matrix is the embedding's
    latent, rope_dim, query_latent   of the attention, as in `LatentAttention`
    experts, top, shared   routed experts, how many of them serve a token, and experts that serve all
    dense        hidden channels of the dense feed-forward that is shared out; None: four widths
    scores, offset_rate, balance   of the routing, as in `MoE`; no loss by default
    Raises ValueError for options out of range.
    """

    vocabulary: int = 68
    depth: int = 4
    width: int = 128
    heads: int = 4
    latent: int | None = None
    rope_dim: int | None = None
    query_latent: int | None = None
    experts: int = 62
    top: int = 6
    shared: int = 2
    dense: int | None = None
    scores: Scores = "softmax"
    offset_rate: float = 1e-3
    balance: float = 0.0
    norm: NormKind = "rms"
    tied: bool = True

    def __post_init__(self) -> None:
        check_config(self, vocabulary=2, depth=1, width=1, heads=1, top=1, shared=0)
        with torch.device("meta"):  # bad options fail at once, by the parts themselves
            make_mixer(self.mixer, self.width, self.heads)
            make_feedforward(self.ffn, self.width)

    @property
    def expert(self) -> int:
        """Hidden channels of each expert."""
        return (self.dense or 4 * self.width) // (self.shared + self.top)

    @property
    def mixer(self) -> str:
        """The attention as text."""
        return f"latent_attention({_options(self, 'latent', 'rope_dim', 'query_latent')})"

    @property
    def ffn(self) -> str:
        """The experts as text; the shared ones are one feed-forward, as wide as all of them."""
        own = _options(self, "experts", "top", "scores", "offset_rate", "balance")
        return f"moe({own}, shared={self.shared * self.expert / self.width}, hidden={self.expert}, norm_topk=True)"


def _options(config: LatentMoEConfig, *names: str) -> str:
    values = ((name, getattr(config, name)) for name in names)
    return ", ".join(f"{name}={value!r}" for name, value in values if value is not None)


class LatentMoE(CausalLM):
    """The decoder; its memories hold r + d_R numbers of each token and block."""

    config_class = LatentMoEConfig
    config: LatentMoEConfig  # type: ignore[assignment]
    sizes: ClassVar[dict[str, Any]] = {
        "tiny": LatentMoEConfig(experts=14, top=2),
        "512": LatentMoEConfig(depth=8, width=512, heads=8, latent=256, rope_dim=64),
    }

    def __init__(self, config: Any = None, **changes: Any) -> None:
        super().__init__(config, **changes)

    @classmethod
    def weights(cls, config: LatentMoEConfig) -> tuple[int, int]:
        """How many weights a model of `config` has, and how many of them work for one token; none is allocated."""
        with torch.device("meta"):
            model = cls(config)
        every = sum(each.numel() for each in model.parameters())
        return every, every - sum(block.ffn.idle for block in model.blocks if isinstance(block.ffn, MoE))


def cache_numbers(model: CausalLM) -> int:
    """Numbers that memories keep of each token in all blocks: of its latent, or its keys and values of all heads."""
    return sum(kept_of(block.mixer) for block in model.blocks)


def kept_of(mixer: Any) -> int:
    """Of one mixer."""
    return getattr(mixer, "cache_numbers", None) or 2 * mixer.heads * mixer.head_dim
