"""Speed on the machine at hand: sparse kernels against dense ones, and what attaching an empty stack costs.

Expected: at 16,384 tokens the native kernel is faster than the best dense one by more than half of what the share of
pairs promises, and an empty stack costs a step of a real size less than a hundredth.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from saccade.experiments import Bench, Experiment, Figures, Results, Row
from saccade.metrics.machine import best_device
from saccade.ops.native_cost import block_costs
from saccade.studies.speed.kernels import KernelCases
from saccade.studies.speed.overhead import SIZES, measure
from saccade.studies.speed.patterns import PatternCases
from saccade.studies.speed.share_of_peak import peak_rows
from saccade.ui.markdown import markdown_table

__all__ = ["EXPERIMENT"]

KERNEL_HEAD = ("tokens", "type", "pattern", "density", "computed", "best dense, ms", "kernel", "ms", "speed-up",
               "efficiency")  # fmt: skip
PATTERN_HEAD = ("mask", "tokens", "density", "computed / allowed", "block", "order", "CPU s", "MB")
SELECTOR_HEAD = ("tokens", "queries of a block", "dense, s", "selector, s", "share", "MB")
NOT_MEASURED = "Not measured on this machine."
CASE = ("n", "dtype", "pattern", "block", "density")  # columns that tell cases apart


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`kernels`, `patterns`: cases measured; `repeats`: pairs of visits, plain and attached, at each of `sizes`."""

    kernels: KernelCases = field(default_factory=KernelCases)
    patterns: PatternCases = field(default_factory=PatternCases)
    repeats: int = 30
    sizes: tuple[str, ...] = tuple(SIZES)


def kernel_table(results: Results, figures: Figures) -> str:
    """A row for each sparse kernel of a case, beside the faster of the dense ones."""
    used = results.settings["kernels"]
    rows = [kernel_row(results, row) for row in results.rows("kernels") if row["speedup"] is not None]
    size = f"One batch row, {used['heads']} heads of {used['d']} channels."
    return f"{size}\n\n{markdown_table(KERNEL_HEAD, rows)}"


def kernel_row(results: Results, sparse: Row) -> tuple[str, ...]:
    """One kernel's cells."""
    case = results.rows("kernels", speedup=None, refused=None, **{name: sparse.get(name) for name in CASE})
    block = f", blocks of {sparse['block']}" if sparse.get("block") else ""
    best = min(case, key=lambda arm: arm["median_ms"])
    return (
        f"{sparse['n']:,}", sparse["dtype"], f"{sparse['pattern']}{block}", f"{sparse['density']:.2f}",
        f"{sparse['area']:.2f}",
        f"{milliseconds(best)} ({best['kernel']})", sparse["kernel"], milliseconds(sparse),
        f"{sparse['speedup']:.2f}x", f"{sparse['efficiency']:.2f}",
    )  # fmt: skip


def milliseconds(arm: Row) -> str:
    """Median, and half the distance between the quartiles."""
    return f"{arm['median_ms']:.1f} [{arm['spread_ms']:.1f}]"


def peak_table(results: Results, figures: Figures) -> str:
    """A row for each length."""
    if not results.tables.get("peak"):
        return NOT_MEASURED
    rows = [
        (f"{row['n']:,}", f"{row['peak_gmacs']:,.0f}", f"{row['reached']:.0%}") if row["refused"] is None
        else (f"{row['n']:,}", "", row["refused"])
        for row in results.rows("peak")
    ]  # fmt: skip
    return markdown_table(("tokens", "multiply-adds in registers, 10^9 a second", "share that full blocks reach"), rows)


def overhead_table(results: Results, figures: Figures) -> str:
    """A row for each size."""
    rows = [
        (
            f"{row['tokens']:,} tokens", f"{row['plain_ms']:.2f}", f"{row['attached_ms']:.2f}",
            f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}]",
        )
        for row in results.rows("overhead")
    ]  # fmt: skip
    return (
        f"Attached over plain, {results.settings['repeats']} pairs in turn, median and quartiles.\n\n"
        f"{markdown_table(('FLUX step of', 'plain, ms', 'attached, ms', 'ratio'), rows)}"
    )


def pattern_table(results: Results, figures: Figures) -> str:
    """A row for each mask and number of tokens."""
    rows = [
        (
            row["mask"], f"{row['tokens']:,}", f"{row['density']:.4f}", f"{row['computed']:.2f}", str(row["size"][0]),
            row["order"], f"{row['cpu_seconds']:.2f}", megabytes(row["extra_bytes"]),
        )
        for row in results.tables.get("patterns", []) if row["kind"] == "pattern"
    ]  # fmt: skip
    return markdown_table(PATTERN_HEAD, rows) if rows else NOT_MEASURED


def selector_table(results: Results, figures: Figures) -> str:
    """A row for each number of tokens."""
    rows = [
        (
            f"{row['tokens']:,}", str(row["queries"]), f"{row['dense_seconds']:.2f}", f"{row['seconds']:.3f}",
            f"{row['share']:.3f} [{row['share_low']:.3f}, {row['share_high']:.3f}]", megabytes(row["extra_bytes"]),
        )
        for row in results.tables.get("patterns", []) if row["kind"] == "selector"
    ]  # fmt: skip
    return markdown_table(SELECTOR_HEAD, rows) if rows else NOT_MEASURED


def megabytes(count: int | None) -> str:
    """Memory beyond what the process held before."""
    return "" if count is None else f"{count / 1e6:.0f}"


EXPERIMENT: Experiment[Any] = Experiment(
    name="speed",
    settings=Settings(),
    quick=Settings(
        kernels=KernelCases(n=(256,), dtype=("float32",), density=(0.25,), d=16, rounds=2, kernels=("gather",)),
        patterns=PatternCases(tokens=(4096,), masks=("ball", "sparsed"), rounds=1),
        repeats=2,
        sizes=("tiny",),
    ),
    hours=0.1,
    device="best",
    sections={
        "kernels": (kernel_table,),
        "peak": (peak_table,),
        "patterns": (pattern_table,),
        "selectors": (selector_table,),
        "overhead": (overhead_table,),
    },
    page="studies/speed.md",
    threads=None,
    dated=True,
)


@EXPERIMENT.part()
def kernels(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm of each case; a dense one has no speed-up."""
    cases = replace(bench.settings.kernels, device=best_device()).cases()
    for done, (name, rows) in enumerate(cases.items()):
        bench.progress(done, len(cases), name)
        yield from rows()


@EXPERIMENT.part()
def peak(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each length."""
    for n in bench.settings.kernels.n:
        yield from peak_rows(n, bench.settings.kernels.rounds)


@EXPERIMENT.part()
def patterns(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each mask or selector at each number of tokens, by the block costs of `native`."""
    cases = bench.settings.patterns.cases(block_costs(torch.float32))
    for done, (name, rows) in enumerate(cases.items()):
        bench.progress(done, len(cases), name)
        yield from rows()


@EXPERIMENT.part()
def overhead(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each size."""
    for done, size in enumerate(bench.settings.sizes):
        bench.progress(done, len(bench.settings.sizes), f"{size}: {bench.settings.repeats} pairs")
        yield asdict(measure(size, *SIZES[size], bench.settings.repeats, best_device()))
