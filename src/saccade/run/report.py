"""What ran where, in plain values: one line per site."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class SiteReport:
    """One attention site over a run.

    calls     forwards in which its plan ran, counted from plans
    kernel    what ran there, "host" where the host's own attention did
    refused   kernel -> why it was not taken
    density   share of query-key pairs computed, in [0, 1], None where a selector decides inside the call
    seconds   attention time, None unless timing was asked for
    note      why the site was left alone
    """

    name: str
    kind: str
    calls: int = 0
    systems: tuple[str, ...] = ()
    kernel: str = "host"
    refused: dict[str, list[str]] = field(default_factory=dict)
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
        """Mean density over the sites' calls; 1 where nothing ran sparse."""
        weighed = [(s.calls, 1.0 if s.density is None else s.density) for s in self.sites if s.calls]
        return sum(c * d for c, d in weighed) / sum(c for c, _ in weighed) if weighed else 1.0


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
