"""`saccade bench kernels`: sparse kernels against the best dense one; see `studies.speed.kernels`."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saccade.cli.checks import positive, usable
from saccade.cli.printing import console

if TYPE_CHECKING:
    from saccade.experiments import Row
    from saccade.experiments.bench_file import Case
    from saccade.studies.speed.kernels import KernelCases

LINE = "{:>8} {:<9} {:<16} {:>7} {:>8} {:<8} {:>11} {:>7} {:>8} {}"
HEAD = ("tokens", "type", "pattern", "density", "computed", "kernel", "median", "", "speed-up", "")


def kernels(
    json_file: Annotated[Path | None, typer.Option("--json", help="keep the figures here, and go on from them")] = None,
    n: Annotated[list[int] | None, typer.Option(help="tokens; may be repeated [4096 16384]", callback=positive)] = None,
    density: Annotated[list[float] | None, typer.Option(help="shares of pairs kept [0.25 0.1]")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32, bfloat16, float16 [the first two]")] = None,
    pattern: Annotated[list[str] | None, typer.Option(help="random, disc [both]")] = None,
    block: Annotated[list[int] | None, typer.Option(help="tokens of random blocks [128 64]", callback=positive)] = None,
    heads: Annotated[int, typer.Option(help="attention heads", callback=positive)] = 2,
    d: Annotated[int, typer.Option(help="width of a head", callback=positive)] = 64,
    rounds: Annotated[int, typer.Option(help="times every arm is run", callback=positive)] = 3,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; as many as torch takes without it", callback=positive)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda", callback=usable)] = "cpu",
    kernel: Annotated[
        list[str] | None, typer.Option(help="may be repeated; flex compiles for minutes [native gather]")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="begin no case after so long")] = 270,
    costs: Annotated[
        bool, typer.Option(help="keep what blocks cost here, for the choice of kernels and sizes")
    ] = False,
) -> None:
    """Time the sparse kernels against the best dense one, and the native one against the processor's peak."""
    import torch

    from saccade.experiments import BenchFile
    from saccade.studies.speed.kernels import KernelCases

    torch.set_num_threads(threads or torch.get_num_threads())
    usual = KernelCases()
    chosen = KernelCases(
        n=tuple(n or usual.n), density=tuple(density or usual.density), dtype=tuple(dtype or usual.dtype),
        pattern=tuple(pattern or usual.pattern), block=tuple(block or usual.block), heads=heads, d=d, rounds=rounds,
        device=device, kernels=tuple(kernel or usual.kernels),
    )  # fmt: skip
    settings = asdict(chosen) | {"threads": torch.get_num_threads()}
    bench = BenchFile(file=json_file, settings=settings, device=device, seconds=seconds)
    console().print(LINE.format(*HEAD), highlight=False)
    _show(bench.rows)
    bench.run({name: partial(_shown, case) for name, case in cases(chosen, costs=costs).items()})
    console().print(bench.note() or "")


def cases(chosen: "KernelCases", *, costs: bool) -> "dict[str, Case]":
    """What blocks cost where that is asked, on the CPU the share of the peak, and every case of the kernels."""
    from saccade.studies.speed.share_of_peak import peak_rows

    found: dict[str, Case] = {"costs": partial(_costs, chosen.rounds)} if costs else {}
    if chosen.device == "cpu":
        found |= {f"{n} peak": partial(peak_rows, n, chosen.rounds) for n in chosen.n}
    return found | chosen.cases()


def _costs(rounds: int) -> "list[Row]":
    from saccade.ops import native, native_measure

    native.warm()
    found = native_measure.measure_costs(rounds)
    return [{"dtype": str(dtype)} | asdict(cost) for dtype, costs in found.items() for cost in costs]


def _shown(case: "Case") -> "list[Row]":
    rows = list(case())
    _show(rows)
    return rows


def _show(rows: "list[Row]") -> None:
    for row in rows:
        if cells := _cells(row):
            console().print(LINE.format(*cells), highlight=False, soft_wrap=True)


def _cells(row: "Row") -> tuple[str, ...]:
    """One arm, the share of the peak, or one cost."""
    if "full" in row:
        pattern = "blocks of {} x {}".format(*row["size"])
        return "", row["dtype"], pattern, "", "", "costs", "", "", f"{row['full']:.2f}", f"mixed {row['mixed']:.2f}"
    if "peak_gmacs" in row:
        reached = row["refused"] or f"{row['reached']:.0%} of {row['peak_gmacs']:.0f} GMAC/s"
        return f"{row['n']:,}", "float32", "full blocks", "1.000", "1.000", "native", "", "", "", reached
    pattern = f"{row['pattern']} {row['block'] or ''}"
    head = (f"{row['n']:,}", row["dtype"], pattern, f"{row['density']:.3f}", f"{row['area']:.3f}", row["kernel"])
    if row["refused"] is not None:
        return *head, "", "", "", row["refused"]
    times = (f"{row['median_ms']:.1f} ms", f"±{row['spread_ms']:.1f}")
    if row["speedup"] is None:
        return *head, *times, "", ""
    return *head, *times, f"{row['speedup']:.2f}x", f"efficiency {row['efficiency']:.2f}"
