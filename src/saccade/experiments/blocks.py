"""Pieces of a page that most experiments need: a table of arms or of rows, verdicts on claims, lines over a column."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from saccade.experiments.claims import Claim, difference, ratio
from saccade.experiments.page import Figures
from saccade.experiments.results import Results, Row
from saccade.metrics.intervals import t_interval
from saccade.ui.markdown import markdown_table, signed


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table of arms.

    source   `table.column` of the results
    title    of the column
    show     a format of its mean over rows, as ".4f", or a function; the first row's value where `first`
    against  show instead, with its interval, how much it lies above this arm's; where `ratio`, how many times it is
    interval show the 95 % interval over `pair` too, another column: what is compared one by one
    """

    source: str
    title: str
    show: str | Callable[[Any], str] = ".4f"
    against: str = ""
    ratio: bool = False
    interval: bool = False
    first: bool = False
    pair: str = "seed"

    def cell(self, results: Results, arm: str) -> str:
        """Of one arm."""
        if self.against and self.ratio:
            return "" if arm == self.against else str(ratio(results, self.source, arm, self.against, self.pair))
        if self.against:
            digits = int(str(self.show).strip(".f"))
            found = difference(results, self.source, arm, self.against, self.pair)
            return "" if arm == self.against else signed(found, digits)
        values = results.values(self.source, arm=arm)
        if not values:
            return ""
        if self.interval:
            found = t_interval(list(results.by(self.source, self.pair, arm=arm).values()))
            return f"{self._shown(found.mid)} [{self._shown(found.low)}, {self._shown(found.high)}]"
        return self._shown(values[0] if self.first else fmean(values))

    def _shown(self, value: Any) -> str:
        return self.show(value) if callable(self.show) else format(value, self.show)


@dataclass(frozen=True, kw_only=True)
class ArmTable:
    """A line for each arm, in order of appearance in `of`, a `table.column`."""

    columns: tuple[Column, ...]
    of: str = "runs.arm"
    title: str = "arm"

    def __call__(self, results: Results, figures: Figures) -> str:
        heads = [self.title, *(column.title for column in self.columns)]
        arms = results.distinct(self.of)
        return markdown_table(heads, ([arm, *(column.cell(results, arm) for column in self.columns)] for arm in arms))


@dataclass(frozen=True, kw_only=True)
class RowTable:
    """A line for each row of a table of the results.

    cells  by title, as a format of the row's values, "{loss:.4f}", or a function of the row
    where  only rows whose columns have these values
    """

    table: str
    cells: Mapping[str, str | Callable[[Row], object]]
    where: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, results: Results, figures: Figures) -> str:
        rows = results.rows(self.table, **self.where)
        return markdown_table(list(self.cells), ([_cell(show, row) for show in self.cells.values()] for row in rows))


def _cell(show: str | Callable[[Row], object], row: Row) -> object:
    return show.format(**row) if isinstance(show, str) else show(row)


@dataclass(frozen=True)
class Verdicts:
    """A line for each claim: what the results say of it, and its evidence.

    Where `differences`, the difference that decides stands beside a claim that names no evidence.
    """

    claims: tuple[Claim, ...]
    differences: bool = False

    def __call__(self, results: Results, figures: Figures) -> str:
        lines = (f"- {each.text}: **{each.verdict(results)}**{self._by(each, results)}." for each in self.claims)
        return "\n".join(lines)

    def _by(self, claim: Claim, results: Results) -> str:
        if claim.evidence is not None:
            return f" ({claim.evidence(results)})"
        return f" ({signed(claim.measure(results), claim.digits)})" if self.differences else ""


@dataclass(frozen=True)
class Note:
    """A sentence with settings in braces, as "{steps} steps of {batch} pictures."."""

    text: str

    def __call__(self, results: Results, figures: Figures) -> str:
        return self.text.format_map(results.settings)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Means of columns of one table over another column, a line for each arm.

    source   `table.column`, one or several: a panel each
    x        column on the axis
    panels   column that gives a panel for each of its values, where there is one source
    titles   of the panels of several sources; `label` of the vertical axis
    """

    source: str | tuple[str, ...]
    x: str
    about: str
    name: str = ""
    panels: str = ""
    titles: tuple[str, ...] = ()
    label: str = ""
    scale: Literal["linear", "log"] = "linear"

    def __call__(self, results: Results, figures: Figures) -> str:
        panels = list(self._panels(results))
        figure = Figure(figsize=(max(4.8, 3.4 * len(panels)), 3.4), layout="constrained")
        grid = figure.subplots(1, len(panels), sharey=bool(self.panels), squeeze=False)[0]
        lines: dict[str, Line2D] = {}  # an arm has one colour in all panels, and one line in the legend
        for axes, (title, source, where) in zip(grid, panels, strict=True):
            table = source.partition(".")[0]
            for arm in results.distinct(f"{table}.arm", **where):
                means = results.by(source, self.x, arm=arm, **where)
                colour = lines[arm].get_color() if arm in lines else f"C{len(lines) % 10}"
                (line,) = axes.plot(list(means), list(means.values()), "o-", markersize=3, color=colour)
                lines.setdefault(arm, line)
            axes.set(title=title, xlabel=self.x, yscale=self.scale)
            if all(isinstance(value, int) for value in results.distinct(f"{table}.{self.x}", **where)):
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # no layer 0.5
        grid[0].set_ylabel(self.label)
        grid[-1].legend(list(lines.values()), list(lines), fontsize=7)
        return figures.save(self.name, figure, self.about)

    def _panels(self, results: Results) -> list[tuple[str, str, dict[str, Any]]]:
        """Title, `table.column` and rows of each."""
        sources = (self.source,) if isinstance(self.source, str) else self.source
        if not self.panels:
            titles = self.titles or ("",) * len(sources)
            return [(title, source, {}) for title, source in zip(titles, sources, strict=True)]
        table = sources[0].partition(".")[0]
        values = sorted(results.distinct(f"{table}.{self.panels}"))
        return [(f"{self.panels} = {value}", sources[0], {self.panels: value}) for value in values]
