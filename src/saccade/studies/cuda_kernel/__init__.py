"""The Triton kernel built ahead of time for three generations of cards, none of which need be at hand.

Expected: in half precision no build spills a register, and what a program shares fits the card.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import product
from typing import Any

from saccade.experiments import Bench, Experiment, Figures, Results, Row
from saccade.ops.triton_kernel.tiles import PASSES
from saccade.ui.markdown import markdown_table

__all__ = ["EXPERIMENT"]

HEAD = ("card", "type", "columns of q and v", "forward", "gradients of queries", "of keys and values")
CASE = ("target", "dtype", "width", "width_v")  # columns that tell a row of the page apart


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`targets` as 90 for sm_90; `widths`: columns of q and k, and of v, where 80 are 64 and 16 of a factored bias."""

    targets: tuple[int, ...] = (80, 90, 100)
    widths: tuple[tuple[int, int], ...] = ((64, 64), (80, 64), (96, 96), (128, 128), (144, 128))
    dtypes: tuple[str, ...] = ("bfloat16", "float32")


def build_table(results: Results, figures: Figures) -> str:
    """A row for each card, type and width."""
    rows = results.rows("builds")
    found = dict.fromkeys(tuple(row[name] for name in CASE) for row in rows)
    return markdown_table(HEAD, (cells(results, dict(zip(CASE, case, strict=True))) for case in found))


def cells(results: Results, case: Row) -> tuple[str, ...]:
    """What the three passes take."""
    passes = (results.rows("builds", **case, **{"pass": which})[0] for which in PASSES)
    return f"sm_{case['target']}", case["dtype"], f"{case['width']}, {case['width_v']}", *map(taken, passes)


def taken(row: Row) -> str:
    """Tile, warps, registers and shared memory of one build, and what it spills."""
    tile = f"{row['queries']} x {row['keys']}, {row['warps']}"
    if row["registers"] is None:
        return f"{tile}: not built"
    spilled = f", {row['spilled']} B spilled" if row["spilled"] else ""
    return f"{tile}: {row['registers']}, {row['shared'] / 1024:.0f} KiB{spilled}"


EXPERIMENT: Experiment[Any] = Experiment(
    name="cuda_kernel",
    settings=Settings(),
    quick=Settings(targets=(90,), widths=((16, 16),), dtypes=("bfloat16",)),
    hours=0.1,
    sections={"builds": (build_table,)},
    page="cuda_kernel.md",
    threads=None,
)


@EXPERIMENT.part()
def builds(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each target, type, pass and width; without the package triton nothing is built."""
    chosen = bench.settings
    grid = list(product(chosen.targets, chosen.dtypes, chosen.widths, PASSES))
    for done, (target, dtype, (width, width_v), which) in enumerate(grid):
        bench.progress(done, len(grid), f"sm_{target}, {which}, {width} columns")
        yield from build_row(target, dtype, width, width_v, which)


def build_row(target: int, dtype: str, width: int, width_v: int, which: Any) -> Iterator[Row]:
    """One build with the table's tile."""
    import torch

    from saccade.ops.triton_kernel.tiles import tile_for

    kind = getattr(torch, dtype)
    tile = tile_for(which, capability=divmod(target, 10), width=width, width_v=width_v, dtype=kind, size=(128, 128))
    about = {"target": target, "pass": which, "dtype": dtype, "width": width, "width_v": width_v, **asdict(tile)}
    if find_spec("triton") is None:
        yield about | dict.fromkeys(("registers", "spilled", "shared"))
        return
    from saccade.ops.triton_kernel.builds import built

    yield about | asdict(built(which, target=target, width=width, width_v=width_v, dtype=kind))
