"""The comparison as a table for the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from saccade.compare.comparison import ArmResult, Comparison
from saccade.compare.finding import finding
from saccade.ui.columns import Cell, columns, subtitle

TONE = {"floor": "dim", "reference": "bold", "system": ""}


def table(comparison: Comparison) -> RenderableType:
    """One row per arm, intervals beneath the figures, what was found, then what fell back and why."""
    found = columns(comparison)
    title = f"{comparison.model}: {subtitle(comparison)}"
    grid = Table(title=title, caption=comparison.device, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column("arm", overflow="fold", min_width=14)
    for column in found:
        grid.add_column(column.title, justify="right", overflow="fold")
    for i, arm in enumerate(comparison.arms):
        cells = [_cell(column.cells[i]) for column in found]
        grid.add_row(Text(arm.label, style=TONE[arm.role]), *cells)
    return Group(
        grid, Text(finding(comparison), style="bold"), *(Text(line, style="dim") for line in remarks(comparison))
    )


def remarks(comparison: Comparison) -> tuple[str, ...]:
    """What ran otherwise than asked, and why: per arm, then for the whole comparison."""
    return (*(line for arm in comparison.arms for line in fallbacks(arm)), *comparison.remarks)


def fallbacks(arm: ArmResult) -> tuple[str, ...]:
    """`clear(radius=8): ran sdpa; gather: ... (3 sites)`, each reason once."""
    reasons = [(reason, site.kernel) for site in arm.sites if site.calls for reason in site.reasons]
    counted = {pair: reasons.count(pair) for pair in dict.fromkeys(reasons)}
    return tuple(f"{arm.label}: ran {kernel}; {why} ({n} sites)" for (why, kernel), n in counted.items())


def _cell(cell: Cell) -> Text:
    return Text.assemble(cell.main, *((("\n" + cell.sub, "dim"),) if cell.sub else ()))
