"""Speed of the sparse systems on the machine at hand: attention at each one's own density beside dense attention.

Expected: from 16,384 tokens on, systems whose blocks are those of the kernel take little more than their share of the
pairs, choosing them included; round windows lose to the pairs that blocks compute in vain.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from saccade.experiments import Bench, Experiment, Figures, Results, Row
from saccade.ops import warm
from saccade.studies.speed import megabytes
from saccade.studies.speed.systems import SYSTEMS, SystemCases, slope
from saccade.ui.markdown import markdown_table

__all__ = ["EXPERIMENT"]

HEAD = ("system", "tokens", "density", "dense, ms", "sparse, ms", "selecting, ms", "speed-up", "efficiency",
        "with selection", "MB", "dense, MB")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`rounds`: times every kind of step is run by number of tokens, after one uncounted; the rest as `SystemCases`.

    most  tokens of a system that takes minutes to time beyond
    """

    rounds: dict[int, int] = field(default_factory=lambda: {4096: 5, 16384: 3, 32768: 1})
    most: dict[str, int] = field(default_factory=lambda: {"adaspa": 16384})
    heads: int = 2
    width: int = 64
    steps: int = 50


def system_table(results: Results, figures: Figures) -> str:
    """A row for each system and number of tokens."""
    rows = [row for table in results.tables.values() for row in table]
    used = results.settings
    size = f"One batch row, {used['heads']} heads of {used['width']} channels, {used['steps']} steps."
    cells = [
        (
            row["system"], f"{row['tokens']:,}", f"{row['density']:.3f}", f"{row['dense_ms']:.1f}",
            f"{row['sparse_ms']:.1f}", f"{row['selecting_ms']:.1f}", f"{row['speedup_with_selection']:.2f}x",
            f"{row['efficiency']:.2f}", f"{row['efficiency_with_selection']:.2f}", megabytes(row["extra_bytes"]),
            megabytes(row["dense_bytes"]),
        )
        for row in sorted(rows, key=lambda row: (row["tokens"], [*SYSTEMS].index(row["system"])))
    ]  # fmt: skip
    lacks = "".join(f" Without the compiled kernel: {why}." for why in {row.get("lacks") for row in rows} if why)
    return f"{size}{lacks}\n\n{markdown_table(HEAD, cells)}"


def slope_line(results: Results, figures: Figures) -> str:
    """How time grows with tokens, system by system."""
    slopes = {name: slope(rows) for name, rows in results.tables.items()}
    found = ", ".join(f"{name} {rise:.2f}" for name, rise in slopes.items() if rise is not None)
    return f"Time of a sparse step grows with tokens to the power of: {found}." if found else ""


EXPERIMENT: Experiment[Any] = Experiment(
    name="speed_systems",
    settings=Settings(),
    quick=Settings(rounds={4096: 1}, heads=1, width=16, steps=8),
    hours=0.1,
    sections={"systems": (system_table, slope_line)},
    page="studies/speed.md",
    threads=None,
    dated=True,
)


def _rows(name: str, bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each number of tokens."""
    lacks, used = warm(), bench.settings
    for done, (tokens, rounds) in enumerate(used.rounds.items()):
        if tokens > used.most.get(name, tokens):
            continue
        bench.progress(done, len(used.rounds), f"{tokens:,} tokens")
        cases = SystemCases(
            systems=(name,), tokens=(tokens,), rounds=rounds, heads=used.heads, width=used.width, steps=used.steps
        )
        for case in cases.cases().values():
            yield from ({k: x for k, x in row.items() if k != "options"} | {"lacks": lacks} for row in case())


def _part(name: str) -> None:
    @EXPERIMENT.part(name=name)
    def rows(bench: Bench[Settings]) -> Iterable[Row]:
        return _rows(name, bench)


for _name in SYSTEMS:
    _part(_name)
