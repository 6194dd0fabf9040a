"""What a mechanism may ask of the place its call comes from: `call.host`, lazy, computed only when asked.

hidden      (b n c)  what the attention module received of the queries' tokens, in layout order, all streams
stream      (b n c)  the residual stream before norm and modulation, likewise
enter(x)    (b p c)  stream tokens taken through this site's norm and modulation (image stream)
project(x)  (b h p d) twice: k and v of the image stream, normalised, unrotated
rotary      ids, base, `angles` and `turn`, a further rotation
raw(q)      q or k before rotary
An item a host does not offer is a `Missing` error with the mend.
"""

from typing import Any

import torch
from torch import Tensor, nn

from saccade.core.errors import MissingError, StateError
from saccade.core.site import Site
from saccade.seam.family import Family
from saccade.seam.rotary import Rotary
from saccade.seam.token_order import TokenOrder


class HostView:
    """One site's view of its host.

    `entered` and `block_entered` are what hooks caught in the running forward; `heads` counts all heads, `chosen` holds
    those a run chose, if not all; `order` is that of the host's tokens, where it is not the layout's; `noisiest` is the
    token of each row with the latest time, where each has its own.
    """

    def __init__(self, family: Family, site: Site, module: nn.Module, block: nn.Module) -> None:
        self.family, self.site, self.module, self.block, self.heads = family, site, module, block, site.heads
        self.chosen: Tensor | None = None
        self.entered: tuple[Tensor, Tensor | None] | None = None
        self.block_entered: tuple[Tensor, Tensor | None, Tensor | None] | None = None
        self.table: Rotary | None = None
        self.order: TokenOrder | None = None
        self.noisiest: Tensor | None = None

    @property
    def hidden(self) -> Tensor:
        """(b n c) what entered the attention module, in layout order."""
        self._offer("hidden")
        hidden, encoder = self._caught("hidden", self.entered)
        tokens = self._ordered(hidden, encoder)
        return tokens if self.order is None else self.order.taken(tokens, 1)

    @property
    def stream(self) -> Tensor:
        """(b n c) the residual stream before norm and modulation, in layout order."""
        self._offer("stream")
        hidden, encoder, _ = self._caught("stream", self.block_entered)
        return self._ordered(hidden, encoder)

    def enter(self, tokens: Tensor) -> Tensor:
        """Stream tokens (b p c) through this site's own norm and modulation of the image stream.

        Where the host's tokens have a time each, these have that of the noisiest of their row.
        Raises ValueError where there are more rows than times, as with weak rows.
        """
        self._offer("enter")
        _, _, condition = self._caught("enter", self.block_entered)
        assert self.family.enter is not None
        if self.noisiest is not None:
            condition = self._at_noisiest(condition, self.noisiest)
        return self.family.enter(self.block, self.site, tokens, condition)

    def _at_noisiest(self, condition: Tensor, noisiest: Tensor) -> Tensor:
        """(b 1 ...) of conditioning by token (b n ...)."""
        if len(condition) != len(noisiest):
            raise ValueError(
                f"site '{self.site.name}' has {len(condition)} rows and times by token for {len(noisiest)}; "
                "give one time for all tokens, or leave out what adds weak rows"
            )
        at = noisiest.to(condition.device).reshape(-1, 1, *[1] * (condition.ndim - 2))
        return condition.take_along_dim(at, dim=1)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """k and v (b h p d) of tokens x (b p c) as the image stream makes them, normalised, unrotated."""
        self._offer("project")
        assert self.family.project is not None
        k, v = self.family.project(self.module, x)
        return (k, v) if self.chosen is None else (k.index_select(1, self.chosen), v.index_select(1, self.chosen))

    @property
    def rotary(self) -> Rotary:
        """The host's rotary table for the tokens of this call.

        Raises StateError where no mechanism asked for it.
        """
        self._offer("rotary")
        if self.table is None:
            raise StateError(
                f"the rotary table of '{self.site.name}' was not read; put 'host.rotary' in the mechanism's `needs`"
            )
        return self.table

    def raw(self, x: Tensor) -> Tensor:
        """q or k (b h n d) before rotary: the rotation undone; x itself where the host rotates nothing."""
        self._offer("raw")
        return x if "rotary" in self.family.unsupported else self.rotary.turn(x, -self.rotary.angles())

    def placed(self, x: Tensor, taken: Tensor) -> Tensor:
        """q or k (b h n d) whose token i is token taken[i] of x, rotated on to place i where the host rotates."""
        moved = x.index_select(2, taken)
        if "rotary" in self.family.unsupported:
            return moved
        ids = self.rotary.ids
        return self.rotary.turn(moved, self.rotary.angles(ids - ids[taken]))

    def catch_entered(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the attention module."""
        self.entered = _streams(args, kwargs)[:2]

    def release_entered(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        """Forward hook of the attention module."""
        self.entered = None

    def catch_block(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the block."""
        self.block_entered = _streams(args, kwargs)

    def release_block(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        """Forward hook of the block."""
        self.block_entered = None

    def forget(self) -> None:
        """Drop what was caught."""
        self.entered = self.block_entered = None

    def _offer(self, item: str) -> None:
        if mend := self.family.missing(item, self.site.kind):
            raise MissingError(host=self.family.name, site=self.site.name, item=item, mend=mend)

    def _caught(self, item: str, value: Any) -> Any:
        if value is None:
            raise StateError(
                f"'{item}' of '{self.site.name}' was not caught; put 'host.{item}' in the mechanism's `needs`"
            )
        return value

    def _ordered(self, hidden: Tensor, encoder: Tensor | None) -> Tensor:
        if hidden.ndim == 4:  # (b c h w), as between convolutions
            hidden = hidden.flatten(2).mT
        if not isinstance(encoder, Tensor) or encoder is hidden:  # a module may take something else second
            return hidden
        if self.site.kind != "joint" or self.family.image_asks or self.family.text == "apart":
            return hidden
        return torch.cat((encoder, hidden) if self.family.text_first else (hidden, encoder), dim=1)


def _streams(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """hidden_states, encoder_hidden_states and temb, by name or by place, as diffusers' blocks order them."""
    given: tuple[Any, ...] = (*args, None, None, None)
    return (
        kwargs.get("hidden_states", given[0]),
        kwargs.get("encoder_hidden_states", given[1]),
        kwargs.get("temb", given[2]),
    )
