"""What CLEAR costs, without a model: exact pair counts, blocks a kernel touches, and time against the image's area."""

import time
from collections.abc import Callable, Iterable

import numpy as np
import torch

from saccade.core.call import AttentionCall, plain_call
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import Lowered
from saccade.core.site import Site
from saccade.core.stack import make_plan
from saccade.experiments import Row
from saccade.metrics.stopwatch import in_turn
from saccade.ops import attend, choose
from saccade.ops.orders import Tiles, tokens
from saccade.papers.clear.system import Clear

FLUX_TEXT, FLUX_WIDTH, BLOCK = 512, 3072, 128
RELEASED = tuple(Clear(radius=r, pool=d) for r, d in ((8, None), (16, None), (32, None), (8, 4), (16, 4)))
PATCH = 16  # pixels per image token of FLUX, along a side
RADIUS, HEADS, CHANNELS, TEXT = 8, 2, 64, 64  # of the attention that is timed
LATE = 4096  # image tokens from which on the slope is reported


def pairs_by_side(sides: Iterable[int]) -> Iterable[Row]:
    """Pairs of one FLUX.1 layer by picture side, for dense attention and the released variants."""
    for side in sides:
        layout = flux(side)
        yield {"side": side, "variant": "dense", "pairs": layout.n**2}
        for clear in RELEASED:
            yield {"side": side, "variant": _named(clear), "pairs": clear.pairs(layout)}


def gflop(pairs: int) -> float:
    """Of one FLUX.1 layer: q k^T and the sum over v, in all heads."""
    return 4 * FLUX_WIDTH * pairs / 1e9


def blocks_touched(sides: Iterable[int], radii: Iterable[int] = (8, 16)) -> Iterable[Row]:
    """Share of 128 x 128 blocks a kernel must touch, in raster order and with the image in tiles, beside the pairs'."""
    for side in sides:
        layout = flux(side)
        order = tokens(Tiles(1, 8, BLOCK // 8), layout)
        for radius in radii:
            bound = Clear(radius=radius)._disc.bind(layout, layout)
            raster, tiled = (float((bound.block_map(BLOCK, BLOCK, o, o) > 0).float().mean()) for o in (None, order))
            yield {"side": side, "radius": radius, "pairs": bound.density(), "raster": raster, "tiles": tiled}


def time_of(side: int, *, repeats: int, heads: int = HEADS) -> Row:
    """Milliseconds of one attention on a grid of `side` tokens, dense and in a disc, in turn on the same inputs.

    The best of `repeats` on the clock, and of the processor's time, which others on the machine do not lengthen. The
    mask is prepared beforehand, as in a run.
    """
    layout = Layout.joint(text=TEXT, grid=(1, side, side))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, layout.n, CHANNELS, generator=generator) for _ in range(3))
    mask = _mask(layout)
    calls = {"disc": plain_call(q, k, v, layout=layout, mask=mask), "dense": plain_call(q, k, v, layout=layout)}
    processor: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        kernel = choose(calls["disc"]).kernel
        work = {name: _counted(call, processor[name]) for name, call in calls.items()}
        clock = in_turn(work, repeats)
    row: Row = {
        "image_tokens": layout.image.n,
        "kernel": kernel,
        "share": 1.0 if mask is None else mask.bound.density(),
    }
    for name in calls:
        row |= {f"{name}_ms": 1e3 * min(clock[name]), f"{name}_cpu_ms": 1e3 * min(processor[name][-repeats:])}
    return row


def slope(rows: Iterable[Row], arm: str) -> float | None:
    """Of the logarithm of the processor's time over that of the area, from 4,096 tokens on; None of one size."""
    late = [row for row in rows if row["image_tokens"] >= LATE]
    if len(late) < 2:
        return None
    x, y = (np.log([row[key] for row in late]) for key in ("image_tokens", f"{arm}_cpu_ms"))
    return float(np.polyfit(x, y, 1)[0])


def flux(side: int) -> Layout:
    """The tokens of a FLUX.1 picture of `side` pixels."""
    return Layout.joint(text=FLUX_TEXT, grid=(1, side // PATCH, side // PATCH))


def _counted(call: AttentionCall, spent: list[float]) -> Callable[[], None]:
    """One attention, which also notes the seconds that the processor spent on it."""

    def work() -> None:
        start = time.process_time()
        attend(call)
        spent.append(time.process_time() - start)

    return work


def _mask(layout: Layout) -> Lowered | None:
    clear, site = Clear(radius=RADIUS), Site(name="bench", kind="joint")
    return make_plan({"clear": clear.plan(site, Clock())}, site, layout, layout, torch.device("cpu")).mask


def _named(clear: Clear) -> str:
    return f"r={clear.radius:g}" + (f", d={clear.pool}" if clear.pool else "")
