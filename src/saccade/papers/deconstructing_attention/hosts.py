"""Variants in the decoders of transformers: Llama, Qwen2, Qwen3, GPT-2.

>>> found = deconstruct(model, "nonapprox", layout="even")
>>> optimiser = torch.optim.AdamW(model.parameters())
>>> found.undo()

Projections, norms and rotary positions stay the host's, `mlp` brings three matrices of its own; the model has to be
trained on. A fixed stream is a pass of its own, of one row, through the whole decoder, before that of the text, whose
replaced layers then make q and k of what theirs read. Caches are those of `generate`: `StateLayer`s in a DynamicCache.
"""

from collections.abc import Sequence
from typing import Any, Self
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache

from saccade.core.text_calls import check_options, read_call
from saccade.papers.deconstructing_attention.host_mixer import HostMixer, Sources
from saccade.papers.deconstructing_attention.host_sides import sides_of
from saccade.papers.deconstructing_attention.layouts import Layout, kinds
from saccade.papers.deconstructing_attention.mixers import STREAMS
from saccade.papers.deconstructing_attention.model import VARIANTS
from saccade.papers.deconstructing_attention.operators import check_reading


class Deconstructed:
    """What `deconstruct` did; also a context manager that undoes it. `mixers`: the replaced attentions, in order."""

    def __init__(self, decoder: Any, replaced: dict[str, nn.Module], sources: Sources, fixed: Tensor | None) -> None:
        self.decoder, self.replaced, self.sources, self.fixed = decoder, replaced, sources, fixed
        self.mixers = nn.ModuleList(decoder.get_submodule(name) for name in replaced)
        self._caches: WeakKeyDictionary[Cache, Cache] = WeakKeyDictionary()  # of streams, by their text's
        first = layers_of(decoder)[0]
        self._handles = [
            decoder.register_forward_pre_hook(self._before, with_kwargs=True),
            first.register_forward_pre_hook(self._enter),
            decoder.register_forward_hook(self._after, always_call=True),
        ]

    def undo(self) -> None:
        """Put back what stood there."""
        for handle in self._handles:
            handle.remove()
        for name, module in self.replaced.items():
            self.decoder.set_submodule(name, module)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def _before(self, decoder: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Refuse what cannot be; let the stream go first."""
        if self.sources.reading:
            return None
        if given:
            named, given = {"input_ids": given[0]} | named, given[1:]
        check_padding(named.get("attention_mask"))
        if self.sources.streams:
            use = named.get("use_cache")
            if named.get("past_key_values") is None and (decoder.config.use_cache if use is None else use):
                named["past_key_values"] = DynamicCache(config=decoder.config)
            self._stream(named)
        return given, named

    def _stream(self, named: dict[str, Any]) -> None:
        """The pass of the stream beside these tokens."""
        tokens = next(named[name] for name in ("input_ids", "inputs_embeds") if named.get(name) is not None).shape[1]
        cache = named.get("past_key_values")
        before = 0 if cache is None else cache.get_seq_length()
        assert self.fixed is not None
        if before + tokens > self.fixed.shape[1]:
            raise ValueError(
                f"{before + tokens} tokens are more than the {self.fixed.shape[1]} of the fixed stream; give "
                "deconstruct a longer context or sequence"
            )
        check_positions(named.get("position_ids"), before, tokens)
        own = None if cache is None else self._caches.get(cache)
        if cache is not None and (own is None or own.get_seq_length() != before):
            self._caches[cache] = own = DynamicCache(config=self.decoder.config)
            if before:  # a cache that was copied: its stream is read again
                self._read(own, 0, before)
        self._read(own, before, before + tokens)

    def _read(self, cache: Cache | None, start: int, end: int) -> None:
        """The stream through the decoder."""
        assert self.fixed is not None
        self._now = self.fixed[:, start:end]
        ids = self._now if self._now.ndim == 2 else self._now.new_zeros(1, end - start, dtype=torch.long)
        self.sources.reading = True
        try:
            self.decoder(input_ids=ids, past_key_values=cache, use_cache=cache is not None)
        finally:
            self.sources.reading = False

    def _enter(self, layer: nn.Module, given: tuple[Any, ...]) -> Any:
        """What goes into the first layer: the text's embeddings, which are noted, or a random stream, put in."""
        if self.sources.reading:
            return (self._now.to(given[0]), *given[1:]) if self._now.ndim == 3 else None
        self.sources.embedded = None if self.sources.streams else given[0]
        return None

    def _after(self, *_: object) -> None:
        if not self.sources.reading:
            self.sources.clear()


def deconstruct(
    model: nn.Module,
    variant: str,
    *,
    layout: Layout = "even",
    context: int = 2048,
    deviation: float = 0.02,
    sequence: Sequence[int] | Int[Tensor, " n"] | None = None,
    generator: torch.Generator | None = None,
) -> Deconstructed:
    """Take a principle of attention out of some layers of a causal decoder, on this instance only.

    variant    mlp, approx (or approx(reading='per_order')), nonapprox, rnd_emb_qk, fixed_seq_qk or static_emb_qk
    layout     which layers stay: a name of `LAYOUTS`, or the layers, counted from one
    context, deviation, generator   of the random stream's table, in tokens
    sequence   tokens of the fixed sequence
    Raises ValueError for an unknown variant or layout, for attention it does not know, with dropout or a window, and
    where a fixed sequence is missing.
    """
    name, options = read_call(variant, "variant")
    if name not in VARIANTS:
        raise ValueError(f"variant='{variant}' is unknown; choose one of {', '.join(VARIANTS)}")
    check_options(f"variant '{name}'", options, ("reading",) if name == "approx" else ())
    check_reading(reading := options.get("reading", "taylor"))
    decoder: Any = getattr(model, getattr(model, "base_model_prefix", ""), model)
    layers, place = layers_of(decoder), place_of(decoder)
    chosen = [i for i, kind in enumerate(kinds(name, layout, len(layers))) if kind != "standard"]
    sides = {i: sides_of(getattr(layers[i], place[1]), i + 1) for i in chosen}
    norms = {i: getattr(layers[i], each.entry) for i, each in sides.items()}
    sources = Sources(norms, name in STREAMS and bool(chosen))
    fixed = stream_of(name, decoder, context, deviation, sequence, generator) if sources.streams else None
    replaced: dict[str, nn.Module] = {}
    for i, each in sides.items():
        replaced[path := f"{place[0]}.{i}.{place[1]}"] = each.attention
        made = HostMixer(each.attention, each, name, reading, sources).train(model.training)
        decoder.set_submodule(path, made)
    return Deconstructed(decoder, replaced, sources, fixed)


def stream_of(
    name: str,
    decoder: Any,
    context: int,
    deviation: float,
    sequence: Sequence[int] | Tensor | None,
    generator: torch.Generator | None,
) -> Tensor:
    """A random table (1 n d), or the tokens of a fixed sequence (1 n).

    Raises ValueError for a sequence without tokens.
    """
    weight: Tensor = decoder.get_input_embeddings().weight
    if name == "rnd_emb_qk":
        noise = torch.randn(1, context, decoder.config.hidden_size, generator=generator)
        return (deviation * noise).to(weight)
    if sequence is None or not len(sequence):
        raise ValueError("sequence=None holds no token; variant='fixed_seq_qk' needs the tokens of its fixed sequence")
    return torch.as_tensor(sequence, device=weight.device)[None]


def place_of(decoder: Any) -> tuple[str, str]:
    """Names of the list of layers, and of the attention in one.

    Raises ValueError for a decoder of another make.
    """
    for layers, attention in (("layers", "self_attn"), ("h", "attn")):
        if hasattr(getattr(decoder, layers, [None])[0], attention):
            return layers, attention
    raise ValueError(
        f"{type(decoder).__name__} is no decoder of Llama's or GPT-2's make; give LlamaForCausalLM or its kin"
    )


def layers_of(decoder: Any) -> nn.ModuleList:
    """The layers of a decoder."""
    return getattr(decoder, place_of(decoder)[0])


def check_padding(mask: Any) -> None:
    """Raise ValueError for padding before tokens, or for a mask that does not say where it is."""
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        raise ValueError("attention_mask must be (batch, tokens) for a deconstructed model, or be left out")
    if bool((mask.long().diff(dim=1) > 0).any()):
        raise ValueError("attention_mask has padding on the left, which moves tokens; pad on the right")


def check_positions(position_ids: Tensor | None, before: int, tokens: int) -> None:
    """Raise ValueError for positions that are not those of the fixed stream."""
    if position_ids is None:
        return
    wanted = torch.arange(before, before + tokens, device=position_ids.device)
    if not torch.equal(position_ids, wanted.expand_as(position_ids)):
        raise ValueError(
            f"position_ids must be {before} to {before + tokens - 1}, where the fixed stream's tokens stand"
        )
