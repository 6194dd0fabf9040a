"""A causal language model in which some layers lack one principle of attention.

    h <- embedding;  x <- the fixed stream, one row;  e <- embedding
    every block:  q and k of `static_emb_qk` are made of norm(e), those of `rnd_emb_qk` and `fixed_seq_qk` of norm(x),
                  v of norm(h);  x goes through the same block, attending by its own q and k, in standard layers too

Source: the paper's section 3; layers without a variant keep attention, as `layouts` says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.core.text_calls import read_call
from saccade.models.architecture import Prediction
from saccade.models.causal_lm import CausalLM, CausalLMConfig, fresh_block
from saccade.models.parts import part
from saccade.nn.memory import Memory
from saccade.nn.part import TokenPositions
from saccade.nn.registry import mixers
from saccade.papers.deconstructing_attention.layouts import kinds, standard_layers
from saccade.papers.deconstructing_attention.mixers import SOURCED, STREAMS, map_of

VARIANTS = ("mlp", "approx", "nonapprox", *SOURCED)
PYTHIA = 50304  # tokens of the paper's vocabulary


@dataclass(frozen=True, kw_only=True)
class DeconstructedLMConfig(CausalLMConfig):
    """As `CausalLMConfig`, whose `mixer` is what standard layers have.

    variant    a mixer's name, with options: mlp, approx, nonapprox, rnd_emb_qk, fixed_seq_qk, static_emb_qk
    layout     which layers stay standard: a name of `layouts.LAYOUTS`, or the layers, counted from one
    context    tokens of the random stream's table
    deviation  of its entries
    sequence   tokens of the fixed sequence
    Raises ValueError for options out of range.
    """

    variant: str = "nonapprox"
    layout: str | tuple[int, ...] = "even"
    context: int = 2048
    deviation: float = 0.02
    sequence: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        standard_layers(self.layout, self.depth)
        if self.name not in VARIANTS:
            raise ValueError(f"variant='{self.variant}' is unknown; choose one of {', '.join(VARIANTS)}")
        if self.name == "fixed_seq_qk" and not self.sequence:
            raise ValueError(
                "sequence=() holds no token; variant='fixed_seq_qk' needs the tokens of its fixed sequence"
            )
        if any(not 0 <= token < self.vocabulary for token in self.sequence):
            raise ValueError(f"sequence has a token outside 0 to {self.vocabulary - 1}")
        if self.context < 1 or self.deviation <= 0:
            raise ValueError(f"context={self.context} must be at least 1 and deviation={self.deviation} positive")

    @property
    def name(self) -> str:
        """The variant without its options."""
        return read_call(self.variant, "variant")[0]

    @property
    def replaced(self) -> tuple[bool, ...]:
        """For each block, whether it has the variant."""
        return tuple(kind != "standard" for kind in kinds(self.name, self.layout, self.depth))


def _size(width: int, hidden: int, depth: int, heads: int) -> DeconstructedLMConfig:
    ffn = f"swiglu(hidden={hidden})"
    return DeconstructedLMConfig(
        vocabulary=PYTHIA, width=width, ffn=ffn, depth=depth, heads=heads, tied=False, variant="nonapprox"
    )


class DeconstructedLM(CausalLM):
    """Logits of the next token after each one."""

    config_class = DeconstructedLMConfig
    config: DeconstructedLMConfig
    sizes: ClassVar[dict[str, Any]] = {
        "70M": _size(512, 2048, 6, 8),
        "160M": _size(768, 3072, 12, 12),
        "500M": _size(896, 4864, 24, 14),
        "1.7B": _size(2048, 6144, 28, 16),
    }

    def __init__(self, config: DeconstructedLMConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        assert c.name in mixers()  # registers them
        for i, replaced in enumerate(c.replaced):
            if replaced:
                own = replace(c, mixer=tuple(c.variant if i == j else part(c.mixer, j) for j in range(c.depth)))
                self.blocks[i] = fresh_block(own, i)
        if c.name == "rnd_emb_qk":
            self.register_buffer("table", c.deviation * torch.randn(1, c.context, c.width))

    @property
    def streams(self) -> bool:
        """Whether a fixed stream goes through the blocks."""
        return self.config.name in STREAMS and any(self.config.replaced)

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
        Raises ValueError for a token outside the vocabulary, for more tokens than the fixed stream has, and for padding
        where there is one: its tokens stand at the places of those of the text.
        """
        self._check(ids)
        h, losses = self.embedding(ids), []
        text, stream = self._parted(memories)
        x = self._stream(ids.shape[1], 0 if text[0] is None else text[0].tokens, keep) if self.streams else None
        embedded, sourced = h, [replaced and self.config.name in SOURCED for replaced in self.config.replaced]
        for i, (block, own, other) in enumerate(zip(self.blocks, text, stream, strict=True)):
            place = TokenPositions(causal=True, keep=keep, memory=own)
            if sourced[i]:
                place = replace(place, source=block.norm1(embedded if x is None else x))  # type: ignore[operator]
            h, more, _ = block(h, place)
            losses.append(more)
            if x is not None and any(sourced[i + 1 :]):  # later blocks look at it
                x = block(x, replace(place, memory=other)).out
        return self._answered(h, losses, memories)

    def fresh_memories(self) -> list[Memory]:
        """One for each block, empty; behind them those of the fixed stream, where there is one."""
        found = super().fresh_memories()
        return found + [Memory() for _ in found] if self.streams else found

    def _parted(self, memories: Sequence[Memory] | None) -> tuple[Sequence[Memory | None], Sequence[Memory | None]]:
        """Memories of the text, and of the stream."""
        none: list[Memory | None] = [None] * len(self.blocks)
        wanted = len(self.blocks) * (2 if self.streams else 1)
        if memories is None:
            return none, none
        if len(memories) != wanted:
            raise ValueError(
                f"memories holds {len(memories)}, not {wanted}; make them by this model's fresh_memories()"
            )
        return memories[: len(none)], memories[len(none) :] or none

    def _stream(self, tokens: int, before: int, keep: Tensor | None) -> Float[Tensor, "1 n d"]:
        """What the fixed stream starts as, at the places of these tokens."""
        c = self.config
        there = c.context if c.name == "rnd_emb_qk" else len(c.sequence)
        if before + tokens > there:
            what = "context" if c.name == "rnd_emb_qk" else "the fixed sequence"
            raise ValueError(f"{before + tokens} tokens are more than the {there} of {what}; give a longer one")
        if keep is not None:
            raise ValueError("keep marks padding, where the fixed stream is not padded; pad on the right, without keep")
        if c.name == "rnd_emb_qk":
            return self.get_buffer("table")[:, before : before + tokens]
        fixed = torch.tensor(c.sequence[before : before + tokens], device=self.embedding.weight.device)
        return self.embedding(fixed)[None]


def skipped(model: DeconstructedLM) -> CausalLM:
    """The model without its replaced blocks, attention and feed-forward, the others as they are: weights are shared.

    Raises ValueError where no standard block would be left.
    """
    c = model.config
    kept = [i for i, replaced in enumerate(c.replaced) if not replaced]
    if not kept:
        raise ValueError(f"layout={c.layout!r} leaves no standard layer, so that skip would leave none at all")
    options: dict[str, Any] = {name: getattr(c, name) for name in CausalLMConfig.__dataclass_fields__}
    options |= {each: tuple(part(getattr(c, each), i) for i in kept) for each in ("mixer", "ffn")}
    options["depth"] = len(kept)
    with torch.device("meta"):
        found = CausalLM(**options)
    found.embedding, found.norm, found.head = model.embedding, model.norm, model.head
    found.blocks = nn.ModuleList(model.blocks[i] for i in kept)
    return found.train(model.training)


@torch.no_grad()
def maps(model: CausalLM, ids: Int[Tensor, "b n"]) -> list[Float[Tensor, "_ h n n"] | None]:
    """Every block's map on a text: one row for each, or one for all where q and k are of the fixed stream.

    None for `mlp`.
    """
    found: list[Tensor | None] = []
    seen: set[nn.Module] = set()

    def note(mixer: nn.Module, given: tuple[Any, ...]) -> None:
        if mixer not in seen:  # the text goes through a block before the stream does
            seen.add(mixer)
            found.append(map_of(mixer, *given))

    handles = [block.mixer.register_forward_pre_hook(note) for block in model.blocks]  # type: ignore[union-attr]
    try:
        model(ids)
    finally:
        for handle in handles:
            handle.remove()
    return found
