"""DiT-MoE: DiT whose feed-forwards are experts, some of them chosen for each token, others shared by all.

Source: Fei et al., "Scaling Diffusion Transformers to 16 Billion Parameters" (2024).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from saccade.models.checkpoint_names import Names
from saccade.models.dit import DiT, DiTConfig
from saccade.models.parts import Parts
from saccade.nn.experts import GATED, ExpertKind
from saccade.nn.moe import MoE
from saccade.nn.registry import make_feedforward


@dataclass(frozen=True, kw_only=True)
class DiTMoEConfig(DiTConfig):
    """Sizes and parts of a `DiTMoE`; the rest is in `DiTConfig`.

    ffn         of the blocks without experts
    moe_every   experts are in the last of every so many blocks
    experts, top, shared, hidden, kind, norm_topk, balance, per_image, soft   as in `saccade.nn.moe.MoE`; the code's
                balance is 0.01, the paper's 0.005
    Raises ValueError for options out of range.
    """

    ffn: Parts = "swiglu"
    moe_every: int = 1
    experts: int = 8
    top: int = 2
    shared: int = 2
    hidden: int | None = None
    kind: ExpertKind = "swiglu"
    norm_topk: bool = False
    balance: float = 0.01
    per_image: bool = False
    soft: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.moe_every <= self.depth:
            raise ValueError(f"moe_every={self.moe_every} must be between 1 and depth={self.depth}")
        with torch.device("meta"):  # bad options fail at once, by the part itself
            make_feedforward(self.part("ffn", self.moe_every - 1), self.width)

    def part(self, name: Literal["mixer", "ffn"], block: int) -> str:
        """The text of one block's mixer or feed-forward."""
        if name == "mixer" or (block + 1) % self.moe_every:
            return super().part(name, block)
        return f"moe({', '.join(f'{option}={getattr(self, option)!r}' for option in OPTIONS)})"


OPTIONS = ("experts", "top", "shared", "hidden", "kind", "norm_topk", "balance", "per_image", "soft")
NORMED = "attention(qk_norm=True)"
SIZES = {
    f"{name}/2-{experts}E2A": DiTMoEConfig(depth=depth, width=width, heads=heads, mixer=mixer, experts=experts)
    for name, depth, width, heads, experts, mixer in (
        ("S", 12, 384, 6, 8, "attention"),
        ("S", 12, 384, 6, 16, "attention"),
        ("B", 12, 768, 12, 8, "attention"),
        ("L", 24, 1024, 16, 8, "attention"),
        ("XL", 28, 1152, 16, 8, NORMED),
        ("G", 40, 1408, 16, 16, NORMED),
    )
}


FUSED: Names = (  # attention in the code's fused path, which always norms q and k: that of XL and G
    ("blocks.{}.mixer.qkv.", "blocks.{}.attn.Wqkv."),
    ("blocks.{}.mixer.out.", "blocks.{}.attn.out_proj."),
)


class DiTMoE(DiT):
    """A class-conditional diffusion transformer of experts; outputs zero at initialisation (adaLN-Zero)."""

    config_class = DiTMoEConfig
    config: DiTMoEConfig
    sizes: ClassVar[dict[str, Any]] = SIZES
    names: ClassVar[Names] = (
        ("blocks.{}.ffn.router.gate.", "blocks.{}.moe.gate."),
        *(
            (f"blocks.{{}}.ffn.{ours}.{layer}.", f"blocks.{{}}.moe.{theirs}.{layer}_proj.")
            for ours, theirs in (("experts", "experts.{e}"), ("shared", "shared_experts"))
            for layer in ("gate", "up", "down")
        ),
        *DiT.names,
    )

    @property
    def namings(self) -> tuple[Names, ...]:
        """Attention as `attn.qkv` and `attn.proj`, or, where q and k are normed, as `attn.Wqkv` and `attn.out_proj`."""
        fused = (*FUSED, *self.names)
        normed = any(".mixer.norm_q." in name for name, _ in self.named_parameters())
        return (fused, self.names) if normed else (self.names, fused)

    @classmethod
    def activated(cls, config: DiTMoEConfig) -> int:
        """How many of the numbers a model of `config` stores are used for one token: `top` of its experts."""
        with torch.device("meta"):
            model = cls(config)
        idle = sum(_idle(block.ffn) for block in model.blocks if isinstance(block.ffn, MoE))
        return sum(value.numel() for value in model.state_dict().values()) - idle


def token_macs(config: DiTMoEConfig) -> int:
    """Multiply-adds of a block with experts for each token, without the products of attention's q, k and v.

    34 d^2 + experts * d for the published sizes: 4 d^2 of attention's layers, 24 routed, 6 shared, and the router.
    """
    d, used = config.width, config.experts if config.soft else config.top
    layers = 3 if config.kind in GATED else 2
    return 4 * d * d + layers * d * (used * (config.hidden or 4 * d) + config.shared * d) + config.experts * d


def _idle(moe: MoE) -> int:
    each = sum(weight.numel() for weight in moe.experts.parameters()) // moe.experts.count
    return each * (moe.experts.count - moe.router.top)
