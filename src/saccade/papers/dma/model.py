"""Doge: the paper's language model, in the published sizes and under the official names.

x = r1 x + attention(norm x),    x = r2 x + feed-forward(norm x),    r1, r2 learned for each channel, 1 at first
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.causal_lm import CausalLM, CausalLMConfig
from saccade.models.checkpoint_names import Names
from saccade.models.unwrapping import State
from saccade.nn.part import MixerOutput, TokenPositions, added
from saccade.nn.residual import ResidualBlock

BLOCK, THEIRS = "blocks.{}.", "model.layers.{}."


@dataclass(frozen=True, kw_only=True)
class DogeConfig(CausalLMConfig):
    """A causal language model whose mixers are "dma(...)"; any others work too.

    Raises ValueError for options out of range.
    """

    mixer: str | tuple[str, ...] = "dma"


def size(width: int, depth: int, hidden: int, vocabulary: int, **mixer: Any) -> DogeConfig:
    """A published size: heads of 128 channels, two query heads for each key head."""
    heads = width // 128
    options = ", ".join(f"{name}={value!r}" for name, value in {"kv_heads": heads // 2, **mixer}.items())
    return DogeConfig(
        vocabulary=vocabulary, depth=depth, width=width, heads=heads, mixer=f"dma({options})",
        ffn=f"swiglu(hidden={hidden})",
    )  # fmt: skip


class WeighedBlock(nn.Module):
    """A residual block whose residuals are weighed channel by channel: `block` with two weights more."""

    def __init__(self, width: int, block: ResidualBlock) -> None:
        super().__init__()
        self.norm1, self.mixer, self.norm2, self.ffn = block.norm1, block.mixer, block.norm2, block.ffn
        self.weight1, self.weight2 = (nn.Parameter(torch.ones(width)) for _ in range(2))

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        mixed: MixerOutput = self.mixer(self.norm1(x), place)
        x = self.weight1 * x + mixed.out
        fed: MixerOutput = self.ffn(self.norm2(x), place)
        return MixerOutput(self.weight2 * x + fed.out, added((mixed.losses, fed.losses)))


class Doge(CausalLM):
    """Logits of the next token, from attention to the keys that score highest."""

    config_class = DogeConfig
    config: DogeConfig
    sizes: ClassVar[dict[str, Any]] = {
        "40M": size(256, 8, 1024, 128256, window=4096, base=40000.0),
        "100M": size(512, 16, 1536, 128256),
        "260M": size(768, 24, 2304, 128256),
        "320M": size(1024, 32, 2048, 32768),
    }
    names: ClassVar[Names] = (
        ("embedding.", "model.embed_tokens."),
        (BLOCK + "norm1.", THEIRS + "input_layernorm."),
        (BLOCK + "norm2.", THEIRS + "post_attention_layernorm."),
        (BLOCK + "weight1", THEIRS + "input_residual"),
        (BLOCK + "weight2", THEIRS + "post_attention_residual"),
        (BLOCK + "mixer.", THEIRS + "self_attn."),
        (BLOCK + "ffn.gate.", THEIRS + "mlp.gate_proj."),
        (BLOCK + "ffn.up.", THEIRS + "mlp.up_proj."),
        (BLOCK + "ffn.down.", THEIRS + "mlp.down_proj."),
        ("norm.", "model.norm."),
        ("head.", "lm_head."),
    )

    def __init__(self, config: DogeConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        self.blocks = nn.ModuleList(WeighedBlock(self.config.width, block) for block in self.blocks)  # type: ignore[arg-type]

    def from_official(self, state: State) -> State:
        """Without the logits' matrix where it is the embedding's: some files hold that twice."""
        head, embedding = (state.get(name) for name in ("lm_head.weight", "model.embed_tokens.weight"))
        twice = self.head is None and head is not None and embedding is not None and torch.equal(head, embedding)
        return {name: value for name, value in state.items() if not twice or name != "lm_head.weight"}
