"""`saccade bench languages`: causal language models of any mixers at one budget, on the same text and steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from saccade.cli.bench_arms import TIMES, run_arms
from saccade.cli.checks import positive
from saccade.cli.printing import console

if TYPE_CHECKING:
    from saccade.experiments import BenchFile, Row

PLOT = "loss.svg"


def languages(
    out: Annotated[Path, typer.Option(help="folder of every run: weights, losses, result; and a plot of all")],
    arm: Annotated[
        list[str] | None,
        typer.Option(help="only this arm, or name=MIXER, or name=MODEL; may be given several times"),
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="path=value, such as budget=parameters")] = None,
    rounds: Annotated[int, typer.Option(help="of timing, all arms in turn; 0: none")] = 9,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; the bits of a result depend on them", callback=positive)
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="keep the figures here, and go on from them")] = None,
    seconds: Annotated[float | None, typer.Option(help="begin no run after so long; no limit without it")] = None,
) -> None:
    """Train language models at one budget and compare loss, compute, cache and speed. Repeating the command goes on."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    bench = run(out, arm or [], setting or [], rounds=rounds, file=json_file, seconds=seconds)
    console().print(table(bench.rows), bench.note() or "")


def run(
    out: Path,
    arms: list[str],
    settings: list[str],
    *,
    rounds: int = 9,
    file: Path | None = None,
    seconds: float | None = None,
) -> "BenchFile":
    """See `run_arms`; also draws held-out loss over multiply-adds into the folder."""
    from saccade.train.language_comparison import LanguageComparison

    usual = LanguageComparison()
    bench = run_arms(usual, out, arms, settings, rounds=rounds, file=file, seconds=seconds, model=as_model)
    if any(row["case"] != TIMES for row in bench.rows):
        draw(bench.rows, out / PLOT)
    return bench


def as_model(text: str) -> str:
    """A model's text: itself, or `CausalLM` of the mixer it names.

    Raises ValueError for a text that is neither's.
    """
    from saccade.core.text_calls import read_call
    from saccade.models.architecture import Architecture
    from saccade.nn.registry import mixers

    name = read_call(text, "mixer or model")[0]
    if name in mixers():
        return f"CausalLM(mixer={text!r})"
    if name in Architecture.kinds():
        return text
    raise ValueError(
        f"'{name}' is neither a mixer ({', '.join(mixers())}) nor a model ({', '.join(Architecture.kinds())})"
    )


def draw(rows: "list[Row]", file: Path) -> None:
    """Held-out loss over multiply-adds of training, a line for each arm, mean over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    runs = [row for row in rows if row["case"] != TIMES]
    for name in dict.fromkeys(run["arm"] for run in runs):
        points = zip(*(run["curve"] for run in runs if run["arm"] == name), strict=True)
        means = [(at[0][1], sum(loss for *_, loss in at) / len(at)) for at in points]
        axes.plot(*zip(*means, strict=True), "o-", markersize=3, linewidth=1.2, label=name)
    axes.set(xlabel="multiply-adds of training", ylabel="held-out loss, nats a token")
    axes.legend(fontsize=7)
    figure.savefig(file)


def table(rows: "list[Row]") -> Table:
    """A row an arm, its mean over seeds with the 95 % interval where there are three or more."""
    shown = Table(box=None, padding=(0, 2, 0, 0), caption="mean over seeds [95 %]; times are ratios to the first arm")
    titles = ("arm", "width", "parameters", "kMACs a token", "loss", "cache B a token", "seconds", "forward", "step")
    for title in (*titles, "decode"):
        shown.add_column(title, justify="left" if title == "arm" else "right")
    runs, times = [each for each in rows if each["case"] != TIMES], {r["arm"]: r for r in rows if r["case"] == TIMES}
    for name in dict.fromkeys(run["arm"] for run in runs):
        shown.add_row(*row(name, [run for run in runs if run["arm"] == name], times.get(name)))
    return shown


def row(name: str, runs: list[dict[str, Any]], times: dict[str, Any] | None) -> tuple[str, ...]:
    """One arm's cells."""
    from saccade.metrics.intervals import t_interval

    first = runs[0]
    kept = first["cache_bytes"]
    ratio = (f"{times[kind][1]:.2f}" if times else "" for kind in ("forward", "step", "decode"))
    return (
        name, str(first["scaled"]), f"{first['parameters']:,}", f"{first['macs'] / 1e3:,.0f}",
        str(t_interval([run["loss"] for run in runs])), "none kept" if kept is None else f"{kept:,.0f}",
        f"{sum(run['seconds'] for run in runs) / len(runs):.0f}", *ratio,
    )  # fmt: skip
