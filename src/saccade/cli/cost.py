"""`saccade cost`: what generated text costs, by model, length, trials and budget of keys."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from saccade.cli.checks import positive
from saccade.cli.options import AsJson
from saccade.cli.printing import console, print_json

if TYPE_CHECKING:
    from saccade.papers.kinetics import Shape


def cost(
    model: Annotated[
        list[str] | None,
        typer.Argument(help="0.6B ... 32B of Qwen3, a config.json, or a folder with one [all of Qwen3]"),
    ] = None,
    generated: Annotated[
        list[int] | None, typer.Option(help="tokens written; may be repeated [8192 32768]", callback=positive)
    ] = None,
    prompt: Annotated[int, typer.Option(help="tokens of the prompt")] = 256,
    trials: Annotated[int, typer.Option(help="texts at once, which share the prompt", callback=positive)] = 1,
    top: Annotated[
        list[int] | None, typer.Option(help="also with so many chosen keys; may be repeated", callback=positive)
    ] = None,
    block: Annotated[int | None, typer.Option(help="choose them in blocks of so many", callback=positive)] = None,
    local: Annotated[int, typer.Option(help="newest keys beside the chosen ones")] = 0,
    intensity: Annotated[float, typer.Option(help="FLOPs in the time of a byte; 0 leaves memory out")] = 562.5,
    plot: Annotated[Path | None, typer.Option(help="curves over the length, .png, .svg or .pdf")] = None,
    as_json: AsJson = False,
) -> None:
    """Cost of generated text in equivalent FLOPs, the reading of its cache included (Kinetics)."""
    from saccade.papers.kinetics.cost import Budget, check_intensity

    check_intensity(intensity)
    if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"plot='{plot}' must end in .png, .svg or .pdf")
    shapes = {name: shape for text in model or [""] for name, shape in _shapes(text).items()}
    budgets = [None, *(Budget(top=each, local=local, block=block) for each in top or ())]
    found = [
        _row(name, shape, _use(prompt, tokens, trials), budget, intensity)
        for name, shape in shapes.items()
        for tokens in generated or (8192, 32768)
        for budget in budgets
    ]
    if plot is not None:
        from saccade.papers.kinetics.drawing import cost_curves

        cost_curves(shapes, budgets, prompt=prompt, trials=trials, intensity=intensity).savefig(plot)
    print_json(found) if as_json else console().print(_table(found))


def _shapes(text: str) -> "dict[str, Shape]":
    """Of a name, or a config; all that are known where there is no text.

    Raises ValueError for a name that is neither.
    """
    from saccade.papers.kinetics.shapes import QWEN3, shape_of

    if not text:
        return QWEN3
    if text in QWEN3:
        return {text: QWEN3[text]}
    path = Path(text)
    if not path.exists():
        raise ValueError(f"model='{text}' is neither a file, a folder, nor one of {', '.join(QWEN3)}")
    return {(path.parent if path.is_file() else path).name or text: shape_of(path)}


def _use(prompt: int, generated: int, trials: int) -> Any:
    from saccade.papers.kinetics.cost import Use

    return Use(prompt=prompt, generated=generated, trials=trials)


def _row(name: str, shape: "Shape", use: Any, budget: Any, intensity: float) -> dict[str, Any]:
    from saccade.papers.kinetics.cost import TERA, cost_of, crossover

    found = cost_of(shape, use, budget)
    return {
        "model": name, "prompt": use.prompt, "generated": use.generated, "trials": use.trials,
        "keys": "all" if budget is None else str(budget.keys),
        "compute": found.compute / TERA, "memory": intensity * found.memory / TERA,
        "total": found.equivalent(intensity) / TERA,
        "cache_bytes": shape.bytes_per_token * (use.prompt + use.trials * use.generated),
        "weight_bytes": shape.weight_bytes, "crossover": crossover(shape, intensity),
    }  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> Table:
    titles = (
        "model",
        "prompt",
        "written",
        "trials",
        "keys",
        "compute",
        "memory",
        "in all",
        "cache, GiB",
        "weights, GB",
    )
    table = Table(*titles, caption="tera-FLOPs, and reading in as many as the machine could do meanwhile")
    for row in rows:
        costs = (f"{row[name]:,.1f}" for name in ("compute", "memory", "total"))
        sizes = (f"{row['cache_bytes'] / 2**30:.2f}", f"{row['weight_bytes'] / 1e9:.2f}")
        counts = (f"{row[name]:,}" for name in ("prompt", "generated", "trials"))
        table.add_row(row["model"], *counts, row["keys"], *costs, *sizes)
    return table
