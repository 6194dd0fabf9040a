"""The columns of the comparison's table, the same in the terminal and in the report."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from saccade.compare.comparison import Comparison
from saccade.compare.finding import outcome
from saccade.compare.summary import Summary, Timing, summarise
from saccade.ui.wording import NONE, bounds, duration, memory, middle, percent, plural, spell


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure, and beneath it how far to trust it."""

    main: str
    sub: str = ""


@dataclass(frozen=True, kw_only=True)
class Column:
    """`help` says what the figures mean."""

    title: str
    help: str
    cells: tuple[Cell, ...]


Reading = tuple[str, str, Callable[[Summary], Cell]]


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """All columns that hold a figure for some arm."""
    rows = summarise(comparison)
    made = [Column(title=title, help=help, cells=tuple(read(row) for row in rows)) for title, help, read in READINGS]
    return tuple(column for column in made if any(cell.main != NONE for cell in column.cells))


def _spent(timing: Timing | None) -> Cell:
    if timing is None:
        return Cell(main=NONE)
    return Cell(main=duration(timing.median), sub=spell(timing.low, timing.high))


def _speedup(row: Summary, timing: Timing | None) -> Cell:
    if timing is None or row.role == "reference":
        return Cell(main=NONE if timing is None else "1")
    return Cell(main=middle(timing.speedup, ".2f", " ×"), sub=bounds(timing.speedup, ".2f"))


def _efficiency(row: Summary) -> Cell:
    if row.role != "system":
        return Cell(main=NONE)
    return Cell(main=middle(row.efficiency, ".2f"), sub=bounds(row.efficiency, ".2f"))


def _psnr(row: Summary) -> Cell:
    if row.role == "reference" or (row.psnr is None and not row.same):
        return Cell(main=NONE)
    if row.psnr is None:
        return Cell(main="identical", sub="every bit")
    same = f"{row.same} identical" if row.same else ""
    return Cell(main=middle(row.psnr, ".1f", " dB"), sub=", ".join(filter(None, (bounds(row.psnr, ".1f"), same))))


def _kept(row: Summary) -> Cell:
    x = percent(row.accuracy)
    return Cell(main=middle(x, ".0f", " %"), sub=bounds(x, ".0f"))


def _change(row: Summary) -> Cell:
    x = percent(row.change)
    return Cell(main=middle(x, "+.0f", " pts"), sub=bounds(x, "+.0f"))


READINGS: tuple[Reading, ...] = (
    ("found", "Faster than dense and as good, up to 2 points of captions; or keeps more; or neither; or loses some.",
     lambda row: Cell(main=outcome(row) or NONE)),
    ("density", "Share of the query-key pairs that was computed, mean over sites and steps.",
     lambda row: Cell(main=f"{row.density:.3f}" if isfinite(row.density) else NONE)),
    ("attention", "Time in attention per batch of pictures: median over visits, quartiles beneath.",
     lambda row: _spent(row.attention)),
    ("attention speed-up", "Attention time of the dense arm over this arm's, visit by visit: median and 95 % interval.",
     lambda row: _speedup(row, row.attention)),
    ("efficiency", "Speed-up of attention x density: 1 where every pair left out saved its share of the time.",
     _efficiency),
    ("end to end", "Time of the whole pipeline call per batch of pictures: median over visits, quartiles beneath.",
     lambda row: _spent(row.total)),
    ("end-to-end speed-up", "Whole time of the dense arm over this arm's, visit by visit: median and 95 % interval.",
     lambda row: _speedup(row, row.total)),
    ("PSNR", "Peak signal-to-noise ratio to the dense arm's picture of the same prompt and seed: mean, 95 % interval.",
     _psnr),
    ("SSIM", "Structural similarity to the dense arm's picture: mean and 95 % interval.",
     lambda row: Cell(main=middle(row.ssim, ".3f"), sub=bounds(row.ssim, ".3f"))),
    ("LPIPS", "Learned perceptual distance to the dense arm's picture, 0 is equal: mean and 95 % interval.",
     lambda row: Cell(main=middle(row.lpips, ".3f"), sub=bounds(row.lpips, ".3f"))),
    ("kept", "Share of pictures that show all their prompt promises, read back by the parser: Wilson's interval.",
     _kept),
    ("change", "That share minus the dense arm's, picture by picture: mean and 95 % bootstrap interval, in points.",
     _change),
    ("peak memory", "Highest memory during a call: resident memory of the process on a CPU, the allocator's on a GPU.",
     lambda row: Cell(main=memory(row.peak_bytes))),
)  # fmt: skip


def subtitle(comparison: Comparison) -> str:
    """What was drawn, in one line."""
    given = comparison.settings
    size = f"{given.get('width')}×{given.get('height')} px" if given.get("width") and given.get("height") else ""
    steps = plural(int(str(given["steps"])), "step") if given.get("steps") else ""
    counts = plural(len(comparison.prompts), "prompt"), plural(len(comparison.seeds), "seed")
    return " · ".join(filter(None, (" × ".join(counts), size, steps)))
