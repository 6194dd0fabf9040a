"""A causal language model of any mixers and feed-forwards, with a memory for writing token by token.

    tokens -> embedding -> blocks (norm, mixer, add; norm, feed-forward, add) -> norm -> the embedding, transposed

Sources: Radford et al., GPT-2 (2019); Touvron et al., LLaMA (2023), norms without means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.models.architecture import Architecture, Prediction, check_config
from saccade.models.parts import Parts, check_parts, part
from saccade.nn.memory import Memory, check_remembers
from saccade.nn.part import Losses, TokenPositions, added
from saccade.nn.registry import make_feedforward, make_mixer
from saccade.nn.residual import NormKind, ResidualBlock, learned_norm, small_normal_
from saccade.nn.routing import name_routers


@dataclass(frozen=True, kw_only=True)
class CausalLMConfig:
    """Sizes and parts.

    vocabulary   tokens there are
    depth, width, heads   blocks, channels of a token, heads of a mixer
    mixer, ffn   one text for all blocks, or one for each: `"attention(rotary=True)"`; positions are the mixers' own
    norm         rms or layer
    tied         the logits' matrix is the embedding's
    Raises ValueError for options out of range.
    """

    vocabulary: int = 68
    depth: int = 4
    width: int = 128
    heads: int = 4
    mixer: Parts = "attention(rotary=True, bias=False)"
    ffn: Parts = "swiglu(hidden=344)"
    norm: NormKind = "rms"
    tied: bool = True

    def __post_init__(self) -> None:
        check_config(self, vocabulary=2, depth=1, width=1, heads=1)
        check_parts(self.depth, mixer=self.mixer, ffn=self.ffn)


class CausalLM(Architecture):
    """Logits of the next token after each one."""

    config_class = CausalLMConfig
    config: CausalLMConfig
    sizes: ClassVar[dict[str, Any]] = {"small": CausalLMConfig()}

    def __init__(self, config: CausalLMConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        self.embedding = nn.Embedding(c.vocabulary, c.width)
        self.blocks = nn.ModuleList(fresh_block(c, i) for i in range(c.depth))
        self.norm = learned_norm(c.norm, c.width)
        self.head = None if c.tied else nn.Linear(c.width, c.vocabulary, bias=False)
        for each in self.embedding, self.head:
            if each is not None:
                nn.init.normal_(each.weight, std=0.02)
        name_routers(self)

    def forward(
        self,
        ids: Int[Tensor, "b n"],
        memories: Sequence[Memory] | None = None,
        *,
        keep: Bool[Tensor, "b n"] | None = None,
    ) -> Prediction:
        """Logits (b, n, vocabulary) of what follows each token.

        memories   of `fresh_memories()`, when `ids` go on where those of the last call ended; they are extended
        keep       false at padding, on the left of shorter texts
        Raises ValueError for a token outside the vocabulary, and for memories of mixers that keep none.
        """
        self._check(ids)
        x, losses = self.embedding(ids), []
        for block, memory in zip(self.blocks, memories or [None] * len(self.blocks), strict=True):
            x, more, _ = block(x, TokenPositions(causal=True, keep=keep, memory=memory))
            losses.append(more)
        return self._answered(x, losses, memories)

    def _answered(
        self, x: Float[Tensor, "b n d"], losses: list[Losses], memories: Sequence[Memory] | None
    ) -> Prediction:
        """Logits of the last block's output; the memories count its tokens."""
        for memory in memories or ():
            memory.tokens += x.shape[1]
        return Prediction(self.logits(x), added(losses))

    def logits(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n v"]:
        """Of the last block's output."""
        return nn.functional.linear(self.norm(x), (self.head or self.embedding).weight)

    def fresh_memories(self) -> list[Memory]:
        """One for each block, empty.

        Raises ValueError for mixers that keep none.
        """
        check_remembers(block.mixer for block in self.blocks)  # type: ignore[misc]
        return [Memory() for _ in self.blocks]

    def _check(self, ids: Int[Tensor, "b n"]) -> None:
        if ids.device.type == "cpu" and not torch.compiler.is_compiling() and ids.numel():
            if not 0 <= int(ids.min()) <= int(ids.max()) < self.config.vocabulary:
                raise ValueError(f"ids from {ids.min()} to {ids.max()} must be 0 to {self.config.vocabulary - 1}")


def fresh_block(config: CausalLMConfig, i: int) -> ResidualBlock:
    """Block i, its linear layers normal with deviation .02; a part with a method `reset` starts as that says."""
    mixer = make_mixer(part(config.mixer, i), config.width, config.heads)
    ffn = make_feedforward(part(config.ffn, i), config.width)
    for each in (mixer, ffn):
        getattr(each, "reset", lambda each=each: small_normal_(each))()
    return ResidualBlock(config.width, mixer, ffn, norm=config.norm)
