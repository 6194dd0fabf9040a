"""Carry layout tokens through an SD3 or FLUX transformer beside image and text.

The model's own code runs. Layout tokens travel behind those of the text from block to block, as an input and an output
of each, so gradient checkpointing runs a block again as it was; around a block they are cut off, and the block itself
sees image and text alone. What a branch adds to the image goes in before the block, whose norm answers with what it
made of the image without it. Nothing is held, or scale 0: bitwise the host.

>>> stream = LayoutStream(pipe.transformer, adapter)  # doctest: +SKIP
>>> with stream.holding(layout):  # doctest: +SKIP
...     velocity = pipe.transformer(hidden_states=..., ...)
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.papers.siamlayout.adapter import LayoutAdapter
from saccade.papers.siamlayout.attention import Rotary
from saccade.papers.siamlayout.boxes import LayoutBatch
from saccade.papers.siamlayout.branches import Around
from saccade.papers.siamlayout.carried import (
    HOST_ARGUMENTS,
    KEY,
    Carried,
    argument_names,
    check_fit,
    check_rows,
    check_scale,
    taken,
)
from saccade.papers.siamlayout.shared_attention import SharedAttention
from saccade.seam.around import Altered, Forward

MARK = "_saccade_layout_stream"  # the attribute of a transformer that has one
MOST_HALF = 65504.0


class LayoutStream(Altered):
    """A transformer that carries a layout; also a context manager that undoes it.

    scale         on what the branches add to the image
    mask_padding  padded slots are no keys; as released they are
    blocks        paths of the blocks with a branch; None for all
    Raises ValueError for another model, one that has a stream already, and options out of range.
    """

    def __init__(
        self,
        transformer: Any,
        adapter: LayoutAdapter,
        *,
        scale: float = 1.0,
        mask_padding: bool = False,
        blocks: Collection[str] | None = None,
    ) -> None:
        check_scale(scale)
        check_fit(transformer, adapter)
        if mask_padding and adapter.config.variant == "m3":
            raise ValueError("mask_padding=True is not for variant='m3', whose keys are the block's own; leave it out")
        if hasattr(transformer, MARK):
            raise ValueError(f"{type(transformer).__name__} carries a layout already; undo that first")
        self.transformer, self.adapter = transformer, adapter
        self.scale, self.mask_padding = scale, mask_padding
        self.held: LayoutBatch | None = None
        self.zeros = False  # layout tokens of zeros in the place of the held one's, as the released code without boxes
        self._entered: LayoutBatch | None = None
        super().__init__(transformer, MARK)
        self._alter(blocks)

    @contextmanager
    def holding(self, layout: LayoutBatch | None) -> Iterator[Self]:
        """Carry a layout, of one row or of as many as the batch, in every forward within; None carries none."""
        before, self.held = self.held, layout
        try:
            yield self
        finally:
            self.held = before

    def _alter(self, blocks: Collection[str] | None) -> None:
        model: Any = self.transformer
        self._undos.append(model.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
        self._around(model.context_embedder, self._embed)
        for stack, branches in (
            ("transformer_blocks", self.adapter.double_blocks),
            ("single_transformer_blocks", self.adapter.single_blocks),
        ):
            for number, branch in enumerate(branches):
                path = f"{stack}.{number}"
                acts = blocks is None or path in blocks
                self._block(model.get_submodule(path), branch if acts else None, single=stack.startswith("single"))

    def _enter(
        self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self._entered = None
        if self.held is None or self.scale == 0:
            return None
        given = dict(zip(argument_names(model), args, strict=False)) | kwargs
        check_rows(self.held, given["hidden_states"], self.adapter, model)
        rows = len(given["hidden_states"])
        held = self.held if self.held.rows == rows else self.held.chosen([0] * rows)
        held = held if held.mask.device == model.device else held.to(model.device)
        self._entered = held
        words = held.text.shape[2] if held.text.ndim == 4 else 1
        keep = held.mask.repeat_interleave(words, dim=1) if self.mask_padding else None
        live = Carried(n=held.mask.shape[1] * words, keep=keep, place=self._place(given))
        given[HOST_ARGUMENTS] = {**(given.get(HOST_ARGUMENTS) or {}), KEY: live}
        return (), given

    def _place(self, given: dict[str, Any]) -> Rotary | None:
        """The table of the one place, (-1, -1, -1), that all layout tokens have under rotary positions."""
        if self.adapter.config.host != "flux":
            return None
        return self.transformer.pos_embed(-torch.ones_like(given["img_ids"].reshape(-1, 3)[:1]))

    def _embed(self, own: Forward, text: Tensor) -> Tensor:
        if self._entered is None:
            return own(text)
        tokens = self.adapter.tokens(self._entered, lambda x: own(x.to(text)))
        tokens = torch.zeros_like(tokens) if self.zeros else tokens
        words = own(text)
        return torch.cat((words, tokens.to(words)), dim=1)

    def _block(self, block: Any, branch: nn.Module | None, *, single: bool) -> None:
        handed, names = list[Any](), argument_names(block)
        shared = SharedAttention(branch) if branch is not None and self.adapter.config.variant == "m3" else None

        def norm(own: Forward, x: Tensor, *args: Any, **kwargs: Any) -> Any:
            return handed.pop() if handed else own(x, *args, **kwargs)

        def act(own: Forward, *args: Any, **kwargs: Any) -> tuple[Tensor | None, Tensor]:
            given = dict(zip(names, args, strict=False)) | kwargs
            live = taken(given)
            if live is None:
                return own(*args, **kwargs)
            text, layout = (given["encoder_hidden_states"][:, part] for part in (slice(-live.n), slice(-live.n, None)))
            given["encoder_hidden_states"] = text
            if branch is None:
                return _behind(own(**given), layout)
            if shared is not None:
                tables = live.rotary(given.get("image_rotary_emb"), 0, image=False)
                with shared.holding(layout, given["temb"], text.shape[1], tables):
                    return _behind(own(**given), shared.left)
            around = Around(
                block=block, temb=given["temb"], keep=live.keep,
                rotary=live.rotary(given.get("image_rotary_emb"), text.shape[1]),
            )  # fmt: skip
            image = given["hidden_states"]
            if single:
                added, layout = branch(image, layout, around)
                text, image = own(**given)
                return _behind((text, _finite(image + self.scale * added)), layout)
            normed = block.norm1(image, emb=given["temb"])
            added, layout = branch(normed[0], layout, around)
            handed.append(normed)
            try:
                return _behind(own(**given | {"hidden_states": image + self.scale * added}), layout)
            finally:
                handed.clear()

        if shared is not None:
            shared.put(block, self._around)
        elif not single:
            self._around(block.norm1, norm)
        self._around(block, act)


def _behind(out: tuple[Tensor | None, Tensor], layout: Float[Tensor, "b m d"]) -> tuple[Tensor | None, Tensor]:
    text, image = out
    return (None if text is None else torch.cat((text, layout), dim=1)), image


def _finite(x: Tensor) -> Tensor:
    """As the host clips the single-stream blocks' output in half precision."""
    return x.clip(-MOST_HALF, MOST_HALF) if x.dtype == torch.float16 else x
