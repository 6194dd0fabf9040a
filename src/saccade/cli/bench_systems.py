"""`saccade bench systems`: attention under each sparse system beside dense; see `studies.speed.systems`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from saccade.cli.checks import positive, usable
from saccade.cli.printing import console
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.experiments import Row

HEAD = ("system", "tokens", "density", "dense, ms", "sparse, ms", "selecting, ms", "speed-up", "efficiency",
        "with selection", "MB")  # fmt: skip


def systems(
    json_file: Annotated[Path | None, typer.Option("--json", help="keep the figures here, and go on from them")] = None,
    system: Annotated[list[str] | None, typer.Option(help="may be repeated [all]")] = None,
    tokens: Annotated[
        list[int] | None, typer.Option(help="may be repeated [4096 16384 32768]", callback=positive)
    ] = None,
    heads: Annotated[int, typer.Option(help="attention heads", callback=positive)] = 2,
    width: Annotated[int, typer.Option(help="of a head", callback=positive)] = 64,
    rounds: Annotated[int, typer.Option(help="times every kind of step is run", callback=positive)] = 3,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; as many as torch takes without it", callback=positive)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda", callback=usable)] = "cpu",
    seconds: Annotated[float | None, typer.Option(help="begin no case after so long; no limit without it")] = None,
) -> None:
    """Attention under every sparse system at its own density: speed-up and efficiency, choosing pairs included."""
    import torch

    from saccade.experiments import BenchFile
    from saccade.ops import warm
    from saccade.studies.speed.systems import SystemCases, slope

    torch.set_num_threads(threads or torch.get_num_threads())
    usual = SystemCases()
    cases = SystemCases(
        systems=tuple(system or usual.systems), tokens=tuple(tokens or usual.tokens), heads=heads, width=width,
        rounds=rounds, device=device,
    )  # fmt: skip
    bench = BenchFile(
        file=json_file, settings=asdict(cases) | {"threads": torch.get_num_threads()}, device=device, seconds=seconds
    )
    if (reason := warm()) is not None:
        console().print(f"native: {reason}", markup=False)
    with progress_bar() as progress:
        rows = bench.run(cases.cases(), progress)
    console().print(table(rows), bench.note() or "")
    for name in dict.fromkeys(row["system"] for row in rows):
        rise = slope([row for row in rows if row["system"] == name])
        if rise is not None:
            console().print(f"{name}: time grows with tokens to the power of {rise:.2f}", highlight=False)


def table(rows: "list[Row]") -> Table:
    """A line for each system and number of tokens."""
    found = Table(*HEAD, title="attention of a step")
    for row in rows:
        found.add_row(
            row["system"], f"{row['tokens']:,}", f"{row['density']:.3f}", f"{row['dense_ms']:.1f}",
            f"{row['sparse_ms']:.1f}", f"{row['selecting_ms']:.2f}", f"{row['speedup_with_selection']:.2f}x",
            f"{row['efficiency']:.2f}", f"{row['efficiency_with_selection']:.2f}",
            "" if row["extra_bytes"] is None else f"{row['extra_bytes'] / 1e6:.0f}",
        )  # fmt: skip
    return found
