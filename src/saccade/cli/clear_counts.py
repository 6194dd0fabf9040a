"""What CLEAR costs, without a model: exact pair counts, blocks a kernel touches, and time against the image's area."""

import time
from typing import Any

import numpy as np
import torch

from saccade.core.call import AttentionCall, plain_call
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import Lowered
from saccade.core.site import Site
from saccade.core.stack import make_plan
from saccade.ops import attend, choose
from saccade.ops.orders import Tiles, tokens
from saccade.papers.clear import Clear

FLUX_TEXT, FLUX_WIDTH, BLOCK = 512, 3072, 128
RELEASED = tuple(Clear(radius=r, pool=d) for r, d in ((8, None), (16, None), (32, None), (8, 4), (16, 4)))
PATCH = 16  # pixels per image token of FLUX, along a side


def counts(sides: tuple[int, ...] = (1024, 2048, 4096, 8192)) -> list[dict[str, Any]]:
    """Pairs and GFLOP of one FLUX.1 layer by picture side, for dense attention and the released variants."""
    rows = []
    for side in sides:
        layout = flux(side)
        found = {"dense": layout.n**2, **{_named(c): c.pairs(layout) for c in RELEASED}}
        rows += [
            {"side": side, "variant": name, "pairs": n, "gflop": 4 * FLUX_WIDTH * n / 1e9, "share": n / layout.n**2}
            for name, n in found.items()
        ]
    return rows


def touched(sides: tuple[int, ...] = (1024, 2048, 4096), radii: tuple[int, ...] = (8, 16)) -> list[dict[str, Any]]:
    """Share of 128 x 128 blocks a kernel must touch, in raster order and with the image in tiles, beside the pairs'."""
    rows = []
    for side in sides:
        layout = flux(side)
        order = tokens(Tiles(1, 8, BLOCK // 8), layout)
        for radius in radii:
            bound = Clear(radius=radius)._disc.bind(layout, layout)
            raster, tiled = (float((bound.block_map(BLOCK, BLOCK, o, o) > 0).float().mean()) for o in (None, order))
            rows.append({"side": side, "radius": radius, "pairs": bound.density(), "raster": raster, "tiles": tiled})
    return rows


def times(
    sides: tuple[int, ...] = (32, 64, 96, 128), *, radius: float = 8, heads: int = 2, text: int = 64, repeats: int = 3
) -> dict[str, Any]:
    """Milliseconds of one attention by grid side, and the slope of log time over log area from 4,096 tokens on.

    Disc and dense in turn on the same inputs, best of `repeats` after one that is not counted, on the clock and as time
    of the processor, which others on the machine do not lengthen: the slope is of that. The mask is prepared
    beforehand, as in a run.
    """
    rows = [_timed(Layout.joint(text=text, grid=(1, s, s)), radius, heads, repeats) for s in sides]
    late = [row for row in rows if row["image_tokens"] >= 4096]
    return {
        "radius": radius, "heads": heads, "text": text, "channels": CHANNELS, "repeats": repeats, "rows": rows,
        "slope": {arm: _slope(late, arm) for arm in ("disc", "dense")},
    }  # fmt: skip


CHANNELS = 64
CLOCKS = ("ms", "cpu_ms")


def flux(side: int) -> Layout:
    """The tokens of a FLUX.1 picture of `side` pixels."""
    return Layout.joint(text=FLUX_TEXT, grid=(1, side // PATCH, side // PATCH))


def _timed(layout: Layout, radius: float, heads: int, repeats: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, layout.n, CHANNELS, generator=generator) for _ in range(3))
    mask = _mask(layout, radius)
    calls = {"disc": plain_call(q, k, v, layout=layout, mask=mask), "dense": plain_call(q, k, v, layout=layout)}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    with torch.no_grad():
        kernel = choose(calls["disc"]).kernel
        for _ in range(repeats + 1):
            for name, call in calls.items():
                seconds[name].append(_once(call))
    best = {name: [1e3 * min(column) for column in zip(*found[1:], strict=True)] for name, found in seconds.items()}
    taken = {f"{name}_{what}": ms for name, pair in best.items() for what, ms in zip(CLOCKS, pair, strict=True)}
    share = 1.0 if mask is None else mask.bound.density()
    return {"image_tokens": layout.image.n, "kernel": kernel, "share": share, **taken}


def _mask(layout: Layout, radius: float) -> Lowered | None:
    clear, site = Clear(radius=radius), Site(name="bench", kind="joint")
    return make_plan({"clear": clear.plan(site, Clock())}, site, layout, layout, torch.device("cpu")).mask


def _once(call: AttentionCall) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    start = time.perf_counter(), time.process_time()
    attend(call)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def _slope(rows: list[dict[str, Any]], arm: str) -> float | None:
    if len(rows) < 2:
        return None
    x, y = (np.log([row[key] for row in rows]) for key in ("image_tokens", f"{arm}_cpu_ms"))
    return float(np.polyfit(x, y, 1)[0])


def _named(clear: Clear) -> str:
    return f"r={clear.radius:g}" + (f", d={clear.pool}" if clear.pool else "")
