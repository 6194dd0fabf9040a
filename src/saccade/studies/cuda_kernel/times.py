"""Times on the card: torch's dense kernels, this one by share of blocks, open or mixed, and by tile; whole calls."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from saccade.experiments import Row
from saccade.metrics.stopwatch import in_turn
from saccade.ops import dispatch, flex
from saccade.ops.triton_kernel.lists import KernelLists, listed, packed
from saccade.ops.triton_kernel.tiles import Tile
from saccade.studies.cuda_kernel.exact import TYPES, Form

BLOCK = 128
LONG = 1 << 16  # tokens, from which fewer rounds do and no mask is made
DENSE = {
    "default": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
TILES = tuple(Tile(*each) for each in (
    (128, 64, 8, 2), (128, 64, 8, 3), (128, 128, 8, 2), (128, 32, 8, 3), (64, 64, 4, 3), (128, 64, 4, 3),
))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shape:
    """q, k and v: one batch row, `heads` of `width` columns, `n` tokens; run `rounds` times."""

    n: int
    heads: int = 24
    width: int = 128
    dtype: str = "bfloat16"
    rounds: int = 10
    device: str = "cuda"

    def operands(self) -> tuple[Tensor, Tensor, Tensor]:
        """Drawn on the device."""
        size, dtype = (1, self.heads, self.n, self.width), TYPES[self.dtype]
        return tuple(torch.randn(size, device=self.device, dtype=dtype) for _ in "qkv")  # type: ignore[return-value]

    def median_ms(self, work: Callable[[], object]) -> float:
        """Median of the rounds, after one that is not counted."""
        rounds = self.rounds if self.n < LONG else min(self.rounds, 3)
        return 1e3 * statistics.median(in_turn({"": work}, rounds, device=self.device)[""])


def dense(shape: Shape) -> Iterator[Row]:
    """A row for each of torch's kernels, without a mask and with an additive one; those that refuse say why."""
    q, k, v = shape.operands()
    masks: dict[bool, Tensor | None] = {False: None}
    if shape.n < LONG:
        columns = -(-shape.n // 16) * 16  # a row of a mask begins at a multiple of 16
        masks[True] = q.new_zeros(1, 1, shape.n, columns)[..., : shape.n]
    for masked, mask in masks.items():
        for name, backend in DENSE.items():
            about = {"n": shape.n, "kernel": name, "masked": masked}
            try:
                with nullcontext() if backend is None else sdpa_kernel(backend):
                    work = lambda mask=mask: scaled_dot_product_attention(q, k, v, attn_mask=mask)  # noqa: E731
                    yield about | {"ms": shape.median_ms(work)}
            except RuntimeError as refused:
                yield about | {"refused": str(refused).splitlines()[0]}


def own(shape: Shape, shares: tuple[float, ...]) -> Iterator[Row]:
    """A row for each share of the blocks, all open and all mixed."""
    for share in shares:
        for mixed in (False, True):
            yield from timed(shape, lists_of(shape, share, mixed=mixed), {"share": share, "mixed": mixed})


def by_tile(shape: Shape, tiles: tuple[Tile, ...] = TILES, share: float = 0.25) -> Iterator[Row]:
    """A row for each tile, all blocks open and all mixed."""
    for mixed in (False, True):
        lists = lists_of(shape, share, mixed=mixed)
        for tile in tiles:
            about = {"share": share, "mixed": mixed, "tile": " ".join(map(str, astuple(tile)))}
            try:
                yield from timed(shape, lists, about, tile)
            except Exception as refused:  # Triton's own: a tile may be too large for a card
                yield about | {"refused": str(refused).splitlines()[0]}


def timed(shape: Shape, lists: KernelLists, about: Row, tile: Tile | None = None) -> Iterator[Row]:
    """One row."""
    from saccade.ops.triton_kernel.operator import attend_blocks

    q, k, v = shape.operands()
    work = lambda: attend_blocks(q, k, v, None, lists, None, shape.width**-0.5, tile)  # noqa: E731
    blocks = int(lists.forward.spans[..., 1:].sum())
    yield {"n": shape.n, "blocks": blocks, **about, "ms": shape.median_ms(work)}


def lists_of(shape: Shape, share: float, *, mixed: bool) -> KernelLists:
    """For each query block as many key blocks as the share asks for, chosen anew; a short last block is mixed."""
    g, side, rest = torch.Generator().manual_seed(0), -(-shape.n // BLOCK), shape.n % BLOCK
    chosen = torch.rand(side, side, generator=g).argsort(-1) < max(round(share * side), 1)
    rows, cols = chosen.nonzero(as_tuple=True)
    which = torch.full_like(cols, int(mixed))
    if rest:
        which[cols == side - 1] = 2
    whole, real = torch.ones(BLOCK, BLOCK, dtype=torch.bool), torch.arange(BLOCK) < (rest or BLOCK)
    tiles = torch.stack((whole, torch.rand(BLOCK, BLOCK, generator=g) < 0.9, real.expand(BLOCK, -1)))
    rows, cols, which, bits = (x.to(shape.device) for x in (rows, cols, which, packed(tiles)))
    return KernelLists(
        size=(BLOCK, BLOCK), heads_of=(1, 1), forward=listed(rows, cols, which, (1, side)), bits=bits, order_q=None,
        order_k=None,
    )  # fmt: skip


def whole_call(shape: Shape, kernel: str, side: int) -> Row:
    """One of the library's kernels on a disc over side x 2 side tokens, from the call on; flex is compiled before."""
    form = Form(
        dtype=shape.dtype, width=shape.width, factors=0, width_v=shape.width, form="ordered", side=side,
        device=shape.device,
    )  # fmt: skip
    call, module = form.call(), dispatch.KERNELS[kernel]
    about: dict[str, Any] = {"n": call.q.shape[2], "width": shape.width, "kernel": kernel}
    with torch.no_grad():
        if kernel == "flex" and call.q.device.type == "cuda":
            flex.warm(call)
        if refused := module.refuses(call):
            return about | {"refused": "; ".join(refused)}
        module.ready(call)
        return about | {"ms": shape.median_ms(lambda: module.run(call))}
