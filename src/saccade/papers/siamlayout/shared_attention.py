"""One attention for image, text and layout ("m3"): a block's own, widened by the layout's tokens.

They stand behind the text, in blocks with two streams and with one; so the widened call has the tokens of a longer
text. Those of the layout pass through projections of their own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from saccade.papers.siamlayout.attention import Rotary
from saccade.seam.around import Forward

Put = Callable[[nn.Module, Callable[..., Any]], None]


class SharedAttention:
    """Of one block; it acts while a layout is held."""

    def __init__(self, branch: Any) -> None:
        self.branch = branch
        self.normed: Tensor | None = None  # of the layout, while it is held
        self.text = 0  # tokens before it
        self.rotary: Rotary | None = None
        self.seen: list[Tensor] = []
        self._before: tuple[Tensor, list[Tensor]] | None = None

    @contextmanager
    def holding(self, layout: Tensor, temb: Tensor, text: int, rotary: Rotary | None) -> Iterator[None]:
        """Widen the block's attention by a layout within; `rotary` are tables of `text` tokens, image and layout."""
        self.normed, gates = self.branch.enter(layout, temb)
        self.text, self.rotary, self._before = text, rotary, (layout, gates)
        try:
            yield
        finally:
            self.normed = self.rotary = self._before = None
            self.seen.clear()

    @property
    def left(self) -> Tensor:
        """The layout after the block."""
        assert self._before is not None and self.normed is not None
        layout, gates = self._before
        return self.branch.leave(layout, self.normed, self.seen[-1], gates)

    def put(self, block: Any, around: Put) -> None:
        """Stand around a block's attention and those of its projections that the layout has too."""
        single = "to_q" in self.branch.linear
        around(block.attn, self._one_stream if single else self._two_streams)
        for name, linear in self.branch.linear.items():
            around(getattr(block.attn, name), self._projected(linear))

    def _two_streams(self, own: Forward, **given: Any) -> Any:
        if self.normed is None:
            return own(**given)
        image, words, *more = own(**self._widened(given, "encoder_hidden_states"))
        self.seen.append(words[:, self.text :])
        return image, words[:, : self.text], *more

    def _one_stream(self, own: Forward, **given: Any) -> Any:
        if self.normed is None:
            return own(**given)
        text, layout, image = self._parted(own(**self._widened(given, "hidden_states")))
        self.seen.append(layout)
        return torch.cat((text, image), dim=1)

    def _widened(self, given: dict[str, Any], name: str) -> dict[str, Any]:
        """The arguments of the attention, the layout behind the text, its places too."""
        assert self.normed is not None
        x, t, n = given[name], self.text, self.normed.shape[1]
        wider = {**given, name: torch.cat((x[:, :t], self.normed, x[:, t:]), dim=1)}
        if self.rotary is not None:
            wider["image_rotary_emb"] = tuple(torch.cat((y[:t], y[-n:], y[t:-n])) for y in self.rotary)
        return wider

    def _parted(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Text, layout, and what stands behind."""
        assert self.normed is not None
        end = self.text + self.normed.shape[1]
        return x[:, : self.text], x[:, self.text : end], x[:, end:]

    def _projected(self, linear: nn.Module) -> Callable[..., Tensor]:
        def act(own: Forward, x: Tensor) -> Tensor:
            if self.normed is None:
                return own(x)
            text, layout, image = self._parted(x)
            behind = (own(image),) if image.shape[1] else ()
            return torch.cat((own(text), linear(layout), *behind), dim=1)

        return act
