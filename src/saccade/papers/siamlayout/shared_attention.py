"""One attention for image, text and layout ("m3"): a block's own, widened by the layout's tokens.

In a block with two streams they go behind the text, in one with one stream behind everything. Of the widened tokens the
last ones pass through projections of the layout's own.
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
        self.rotary: Rotary | None = None
        self.seen: list[Tensor] = []
        self._before: tuple[Tensor, list[Tensor]] | None = None

    @contextmanager
    def holding(self, layout: Tensor, temb: Tensor, rotary: Rotary | None) -> Iterator[None]:
        """Widen the block's attention by a layout within; `rotary` are tables of text, image and layout."""
        self.normed, gates = self.branch.enter(layout, temb)
        self.rotary, self._before = rotary, (layout, gates)
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
        text, n = given["encoder_hidden_states"], self.normed.shape[1]
        given["encoder_hidden_states"] = torch.cat((text, self.normed), dim=1)
        if self.rotary is not None:  # text, image, layout -> text, layout, image
            t = text.shape[1]
            given["image_rotary_emb"] = tuple(torch.cat((x[:t], x[-n:], x[t:-n])) for x in self.rotary)
        image, words, *more = own(**given)
        self.seen.append(words[:, -n:])
        return image, words[:, :-n], *more

    def _one_stream(self, own: Forward, **given: Any) -> Any:
        if self.normed is None:
            return own(**given)
        n = self.normed.shape[1]
        given["hidden_states"] = torch.cat((given["hidden_states"], self.normed), dim=1)
        if self.rotary is not None:
            given["image_rotary_emb"] = self.rotary
        out = own(**given)
        self.seen.append(out[:, -n:])
        return out[:, :-n]

    def _projected(self, linear: nn.Module) -> Callable[..., Tensor]:
        def act(own: Forward, x: Tensor) -> Tensor:
            if self.normed is None:
                return own(x)
            n = self.normed.shape[1]
            return torch.cat((own(x[:, :-n]), linear(x[:, -n:])), dim=1)

        return act
