"""Carry a clean low-resolution picture through a FLUX transformer beside the picture that is being drawn.

The model's own code runs: its parts are given tokens behind those of the picture, and each part acts on them under the
conditioning of timestep 0. A block takes one conditioning for all tokens; so its norms answer with neutral gates, and
the gates are put on where their branches end, for each segment its own. Nothing is held: bitwise the host, LoRA off.

>>> stream = LowStream(pipe.transformer)  # doctest: +SKIP
>>> with stream.holding(LowTokens(tokens=latents, low=(16, 16), high=(64, 64))):  # doctest: +SKIP
...     velocity = pipe.transformer(hidden_states=..., img_ids=..., ...)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.errors import StateError
from saccade.papers.scale_dit.anchor_layout import Size, ratio_of
from saccade.papers.scale_dit.lora import lora_layers, lora_part
from saccade.seam.around import Altered, Forward

EVERYWHERE_ON = (".to_q", ".to_k", ".to_v")  # whose LoRA acts on every token while low-resolution ones are there
NTK = 10.0
MARK = "_saccade_low_stream"  # the attribute of a transformer that has one
PARTS = ("transformer_blocks", "single_transformer_blocks", "x_embedder", "time_text_embed", "pos_embed", "norm_out")


@dataclass(frozen=True, kw_only=True, eq=False)
class LowTokens:
    """The anchor: packed clean latents (b n c) of `low` tokens (down, across), for a picture of `high` tokens.

    scaled  whether its places are stretched to those of the picture; without it they are those of its own grid
    Raises ValueError where the sizes do not fit each other or the latents.
    """

    tokens: Float[Tensor, "b n c"]
    low: Size
    high: Size
    scaled: bool = True

    def __post_init__(self) -> None:
        ratio_of(self.high, self.low)
        if self.tokens.ndim != 3 or self.tokens.shape[1] != self.low[0] * self.low[1]:
            raise ValueError(
                f"tokens of shape {tuple(self.tokens.shape)} must be (batch, {self.low[0] * self.low[1]}, channels), "
                f"packed latents of low={self.low}"
            )

    def ids(self, like: Float[Tensor, "n 3"]) -> Float[Tensor, "m 3"]:
        """Places (0, y, x) for the rotary table."""
        step = ratio_of(self.high, self.low) if self.scaled else 1
        sides = [torch.arange(n, device=like.device, dtype=like.dtype) * step for n in self.low]
        return torch.cartesian_prod(torch.zeros(1, device=like.device, dtype=like.dtype), *sides)


class LowStream(Altered):
    """A FLUX transformer that can carry a low-resolution picture; also a context manager that undoes it.

    ntk         factor on the rotary base of all tokens while one is held
    lora_alone  whether LoRA acts on all tokens while none is held; the paper's first stage is without
    Sites see the layout `anchor_layout.anchored` gives: pass it to `attach(..., layout=...)`.
    Raises ValueError for another model, one that has this already, and options out of range.
    """

    def __init__(self, transformer: Any, *, ntk: float = NTK, lora_alone: bool = False) -> None:
        if not ntk > 0:
            raise ValueError(f"ntk={ntk} must be positive; 1 leaves the rotary base as it is")
        name = type(transformer).__name__
        if not all(hasattr(transformer, part) for part in PARTS):
            raise ValueError(f"{name} is no FLUX transformer; give pipe.transformer of a FluxPipeline")
        if hasattr(transformer, MARK):
            raise ValueError(f"{name} carries a low-resolution stream already; undo that one first")
        self.transformer, self.ntk, self.lora_alone = transformer, ntk, lora_alone
        self.held: LowTokens | None = None
        self.on_low = False  # within a norm that is run for the low-resolution tokens alone
        super().__init__(transformer, MARK)
        self._alter()

    @property
    def n(self) -> int:
        """Low-resolution tokens now held."""
        return 0 if self.held is None else self.held.tokens.shape[1]

    @contextmanager
    def holding(self, low: LowTokens | None) -> Iterator[Self]:
        """Carry `low` in every forward within, and in their backward, which with checkpointing belongs inside too."""
        before, self.held = self.held, low
        try:
            yield self
        finally:
            self.held = before

    def _alter(self) -> None:
        model: Any = self.transformer
        self._before(model, self._check)
        for name, layer in lora_layers(model):
            self._around(layer, self._lora(layer, everywhere=name.endswith(EVERYWHERE_ON)))
        self._around(model.x_embedder, self._embed)
        self._around(model.time_text_embed, self._times)
        self._around(model.pos_embed, self._positions)
        for block in model.transformer_blocks:
            self._double(block)
        for block in model.single_transformer_blocks:
            self._single(block)
        self._around(model.norm_out, self._leave)

    def _double(self, block: Any) -> None:
        gates: dict[str, tuple[Tensor, Tensor]] = {}

        def norm(own: Forward, x: Tensor, *args: Any, emb: Tensor, **kwargs: Any) -> Any:
            if not self._carries(emb):
                return own(x, *args, emb=emb, **kwargs)
            (x, *high), (y, *low) = self._twice(own, x, emb)
            gates.update(zip(("attention", "shift", "scale", "mlp"), zip(high, low, strict=True), strict=True))
            one, zero = torch.ones_like(high[0]), torch.zeros_like(high[0])
            return torch.cat((x, y), dim=1), one, zero, zero, one

        def attention(own: Forward, *args: Any, **kwargs: Any) -> Any:
            out = own(*args, **kwargs)
            return (self._times_gate(out[0], gates["attention"]), *out[1:]) if self.n else out

        def second(own: Forward, x: Tensor) -> Tensor:
            if not self.n:
                return own(x)
            scale, shift = gates["scale"], gates["shift"]
            return self._by_segment(own(x), lambda part, i: part * (1 + scale[i][:, None]) + shift[i][:, None])

        def mlp(own: Forward, *args: Any, **kwargs: Any) -> Tensor:
            return self._times_gate(own(*args, **kwargs), gates["mlp"]) if self.n else own(*args, **kwargs)

        self._around(block.norm1, norm)
        self._around(block.norm1_context, self._at_time)
        self._around(block.attn, attention)
        self._around(block.norm2, second)
        self._around(block.ff, mlp)

    def _single(self, block: Any) -> None:
        gates: dict[str, tuple[Tensor, Tensor]] = {}

        def norm(own: Forward, x: Tensor, emb: Tensor) -> Any:
            if not self._carries(emb):
                return own(x, emb=emb)
            (x, high), (y, low) = self._twice(own, x, emb)
            gates["out"] = high, low
            return torch.cat((x, y), dim=1), torch.ones_like(high)

        def out(own: Forward, x: Tensor) -> Tensor:
            return self._times_gate(own(x), gates["out"]) if self.n else own(x)

        self._around(block.norm, norm)
        self._around(block.proj_out, out)

    def _twice(self, own: Forward, x: Tensor, emb: Tensor) -> tuple[Any, Any]:
        """A norm at the picture's time, and for the low-resolution tokens at timestep 0, with LoRA."""
        high, low = x[:, : -self.n], x[:, -self.n :]
        first = own(high, emb=emb[:, 0])
        self.on_low = True
        try:
            return first, own(low, emb=emb[:, 1])
        finally:
            self.on_low = False

    def _at_time(self, own: Forward, x: Tensor, *args: Any, emb: Tensor, **kwargs: Any) -> Any:
        return own(x, *args, emb=emb[:, 0] if self._carries(emb) else emb, **kwargs)

    def _leave(self, own: Forward, x: Tensor, emb: Tensor) -> Tensor:
        return own(x[:, : -self.n], emb[:, 0]) if self._carries(emb) else own(x, emb)

    def _embed(self, own: Forward, x: Tensor) -> Tensor:
        if self.held is None:
            return own(x)
        low = self.held.tokens.to(x)
        return own(torch.cat((x, low.expand(len(x), -1, -1)), dim=1))

    def _times(self, own: Forward, timestep: Tensor, *rest: Tensor) -> Tensor:
        """Two conditionings (b 2 c): of the timestep, and of timestep 0."""
        now = own(timestep, *rest)
        return now if self.held is None else torch.stack((now, own(timestep * 0, *rest)), dim=1)

    def _positions(self, own: Forward, ids: Tensor) -> Any:
        if self.held is None:
            return own(ids)
        table = self.transformer.pos_embed
        stretched = type(table)(theta=table.theta * self.ntk, axes_dim=table.axes_dim)
        return stretched(torch.cat((ids, self.held.ids(ids))))

    def _lora(self, layer: Any, *, everywhere: bool) -> Callable[..., Tensor]:
        """LoRA on low-resolution tokens, and on the others where it acts on all."""

        def act(own: Forward, x: Tensor) -> Tensor:
            if self.held is None and self.lora_alone:
                return own(x)
            out = layer.base_layer(x)
            if not self.n or (x.ndim == 2 and not self.on_low):
                return out
            if everywhere or self.on_low:
                return out + lora_part(layer, x)
            return torch.cat((out[:, : -self.n], out[:, -self.n :] + lora_part(layer, x[:, -self.n :])), dim=1)

        return act

    def _by_segment(self, x: Tensor, act: Callable[[Tensor, int], Tensor]) -> Tensor:
        return torch.cat((act(x[:, : -self.n], 0), act(x[:, -self.n :], 1)), dim=1)

    def _times_gate(self, x: Tensor, gate: tuple[Tensor, Tensor]) -> Tensor:
        return self._by_segment(x, lambda part, i: part * gate[i][:, None])

    def _carries(self, emb: Tensor) -> bool:
        """Whether this forward carries low-resolution tokens; StateError where it does and they are gone."""
        if emb.ndim == 3 and self.held is None:
            raise StateError(
                "a part of a forward runs again, as gradient checkpointing has it, and its low-resolution tokens are "
                "no longer held; call backward() inside `with stream.holding(...)`"
            )
        return emb.ndim == 3

    def _check(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """ValueError for a forward that does not fit what is held."""
        if self.held is None:
            return
        x = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        wanted, batch, high = self.held.high[0] * self.held.high[1], len(self.held.tokens), self.held.high
        if x.shape[1] != wanted:
            raise ValueError(f"hidden_states have {x.shape[1]} tokens, the anchor is for high={high}, {wanted} tokens")
        if batch not in (1, len(x)):
            raise ValueError(f"the anchor has {batch} rows and hidden_states {len(x)}; give one row, or one for each")
        for name in ("controlnet_block_samples", "controlnet_single_block_samples"):
            if kwargs.get(name) is not None:
                raise ValueError(f"{name} are for the picture's tokens alone; run without a low-resolution anchor")
