"""What ran where, in plain values: one line per site."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import nan


@dataclass(frozen=True, kw_only=True)
class SiteReport:
    """One attention site over a run.

    calls     forwards in which its plan ran, counted from plans
    kernel    what ran there, "host" where the host's own attention did
    refused   kernel -> why it was not taken
    forwards  of its model, with or without a plan
    density   share of query-key pairs computed over these forwards, in [0, 1]; None where a selector decides inside the
              call and does not say
    seconds   attention time, None unless timing was asked for
    note      why the site was left alone
    """

    name: str
    kind: str
    calls: int = 0
    systems: tuple[str, ...] = ()
    kernel: str = "host"
    refused: dict[str, list[str]] = field(default_factory=dict)
    forwards: int = 0
    density: float | None = 1.0
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All sites of a run, and how many forwards it saw."""

    host: str
    forwards: int
    steps: int
    sites: tuple[SiteReport, ...]

    def __str__(self) -> str:
        head = f"{self.host}: {self.forwards} forwards, {self.steps} steps"
        return "\n".join((head, *_table([_cells(s) for s in self.sites])))

    @property
    def density(self) -> float:
        """Mean density over the forwards of all attached sites; nan where a site's is not known."""
        return mean_density((site.forwards, site.density) for site in self.sites)


def mean_density(found: Iterable[tuple[int, float | None]]) -> float:
    """Mean of densities, each with its number of forwards: 1 without any, nan where one is not known."""
    weighed = [(n, nan if density is None else density) for n, density in found if n]
    return sum(n * density for n, density in weighed) / sum(n for n, _ in weighed) if weighed else 1.0


def _cells(site: SiteReport) -> tuple[str, ...]:
    density = "chosen" if site.density is None else f"{site.density:.3f}"
    seconds = "" if site.seconds is None else f"{1e3 * site.seconds:.1f} ms"
    why = "; ".join(f"{name}: {', '.join(reasons)}" for name, reasons in site.refused.items())
    return (
        site.name,
        site.kind,
        str(site.calls),
        " + ".join(site.systems) or "-",
        site.kernel,
        density,
        seconds,
        site.note or why,
    )


def _table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = [("site", "kind", "calls", "systems", "kernel", "density", "time", "note"), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
