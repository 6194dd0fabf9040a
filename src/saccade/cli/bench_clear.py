"""`saccade bench clear`: CLEAR without distillation, in counts, in time, and on the model in the box.

counts     exact pairs and GFLOP of the released variants on FLUX.1, up to 8192 x 8192 pixels
touched    blocks a kernel must touch, in raster order and in tiles
times      one attention by image area, and the slope of its logarithm
losses     per radius: flow-matching loss and distance to the teacher, zero-shot, the same noise for all arms; beside
           them windows that do not overlap and pooled keys alone, at like cost, and linear attention
samples    per radius: fidelity to the dense pictures, and how many pictures keep what their caption promises
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from saccade.cli import clear_counts, clear_model
from saccade.cli.clear_arms import DENSE, LINEAR, Arm, disc, pooled_only, proportional, windows
from saccade.cli.printing import console
from saccade.metrics.machine import device_name, versions
from saccade.ui.progress import ProgressCallback as ProgressCallback
from saccade.ui.progress import progress_bar

PARTS = ("counts", "touched", "times", "losses", "samples")
SMALL, LARGE = 16, 32  # grids: 256 and 1,024 image tokens
TRAINED = 64 + clear_model.TEXT  # keys at the model's first training size: 8 x 8 and the caption
COVERING = 22.0  # beyond the diagonal of 16 x 16


def arms(grid: int) -> tuple[Arm, ...]:
    """What is compared on a grid."""
    if grid <= SMALL:
        discs = (*(disc(r) for r in (1, 2, 3, 4, 5, 6, 8, 12, COVERING)), disc(3, pool=4), disc(5, pool=4))
        return (DENSE, *discs, windows(5), windows(8), pooled_only(4), pooled_only(2), LINEAR)
    pairs = ((disc(r), disc(r, trained=TRAINED)) for r in (3, 4, 6, 8, 12, 16))
    return (DENSE, proportional(TRAINED), *(arm for pair in pairs for arm in pair))


def drawn(grid: int) -> tuple[Arm, ...]:
    """What draws pictures on a grid."""
    if grid <= SMALL:
        return (DENSE, *(disc(r) for r in (2, 3, 4, 6, 8)), windows(5), pooled_only(4), LINEAR)
    return (DENSE, proportional(TRAINED), disc(4), disc(4, trained=TRAINED), disc(8), disc(8, trained=TRAINED))


def run(
    *,
    model: str = "scenes-flux",
    parts: tuple[str, ...] = PARTS,
    pictures: tuple[int, int] = (16, 4),
    captions: tuple[int, int] = (12, 3),
    steps: int = 16,
    repeats: int = 3,
    told: Told = lambda done, total, what: None,
) -> dict[str, Any]:
    """All figures, by part; `pictures` and `captions` for the small and the large grid.

    Raises ValueError for parts that are not known. Cost: minutes on two cores, nearly all of it in the samples.
    """
    if bad := [part for part in parts if part not in PARTS]:
        raise ValueError(f"parts={','.join(bad)} must be among {', '.join(PARTS)}")
    say = _Counted(told, _total(parts))
    figures: dict[str, Any] = {}
    for part, make in (
        ("counts", clear_counts.counts),
        ("touched", clear_counts.touched),
        ("times", lambda: clear_counts.times(repeats=repeats)),
    ):
        if part in parts:
            say(part)
            figures[part] = make()
    pipe = _pipeline(model) if {"losses", "samples"} & set(parts) else None
    weights = {} if pipe is None else {"weights": clear_model.digest(pipe.transformer)}
    for grid, shown, texts in zip((SMALL, LARGE), pictures, captions, strict=True):
        if "losses" in parts:
            found = clear_model.losses(pipe, grid, arms(grid), pictures=shown, say=say)
            figures.setdefault("losses", []).append({"grid": grid, "pictures": shown, **weights, "rows": found})
        if "samples" in parts:
            found = clear_model.samples(pipe, grid, drawn(grid), captions=texts, steps=steps, say=say)
            drawing = {"grid": grid, "captions": texts, "steps": steps, **weights, "rows": found}
            figures.setdefault("samples", []).append(drawing)
    return {
        **figures,
        "setting": {
            "model": model,
            "text_tokens": clear_model.TEXT,
            "trained_tokens": TRAINED,
            "seed": clear_model.SEED,
        },
        "machine": {"device": device_name("cpu"), **versions()},
    }


def clear(
    model: Annotated[str, typer.Option(help="a pipeline of the scenes: a directory, or scenes-flux")] = "scenes-flux",
    parts: Annotated[str, typer.Option(help="what to measure")] = ",".join(PARTS),
    pictures: Annotated[str, typer.Option(help="pictures for losses, small and large grid")] = "16,4",
    captions: Annotated[str, typer.Option(help="captions to draw, small and large grid")] = "12,3",
    steps: Annotated[int, typer.Option(help="denoising steps")] = 16,
    repeats: Annotated[int, typer.Option(help="runs per timing")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
    page: Annotated[Path | None, typer.Option(help="write a page of them here, its plots beside it")] = None,
) -> None:
    """CLEAR without distillation: pairs, time, loss and pictures by radius."""
    shown, texts = _two(pictures, "pictures"), _two(captions, "captions")
    wanted = tuple(parts.split(","))
    with progress_bar() as told:
        figures = run(
            model=model, parts=wanted, pictures=shown, captions=texts, steps=steps, repeats=repeats, told=told
        )
    for table in tables(figures):
        console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    if page is not None:
        from saccade.cli.clear_page import write_page

        write_page(figures, page)


def tables(figures: dict[str, Any]) -> list[Table]:
    """The model's figures, for the terminal."""
    found = []
    for block in figures.get("losses", []):
        table = Table("attention", "pairs", "flow loss", "teacher MSE", "relative", title=_title("Zero-shot", block))
        for row in block["rows"]:
            numbers = (row["pairs"], row["flow_loss"], row["teacher_mse"], row["relative_teacher_mse"])
            table.add_row(row["arm"], *(f"{x:.4f}" for x in numbers))
        found.append(table)
    for block in figures.get("samples", []):
        table = Table("attention", "pairs", "PSNR", "SSIM", "prompts kept", title=_title("Pictures", block))
        for row in block["rows"]:
            psnr = "same" if row["psnr"] is None else f"{row['psnr']:.1f}"
            table.add_row(row["arm"], f"{row['pairs']:.3f}", psnr, f"{row['ssim']:.3f}", f"{row['kept']['mid']:.0%}")
        found.append(table)
    return found


def _title(what: str, block: dict[str, Any]) -> str:
    return f"{what}, {block['grid']} x {block['grid']} image tokens"


def _pipeline(model: str) -> Any:
    from saccade.pipelines.loading import load_pipeline

    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _two(text: str, name: str) -> tuple[int, int]:
    values = [int(n) if n.strip().isdecimal() else 0 for n in text.split(",")]
    if len(values) != 2 or min(values) < 1:
        raise ValueError(f"{name}={text} must be two numbers of at least 1, as 24,8: for the small and the large grid")
    return values[0], values[1]


def _total(parts: tuple[str, ...]) -> int:
    plain = sum(part in parts for part in PARTS[:3])
    losses, samples = (sum(len(f(grid)) for grid in (SMALL, LARGE)) for f in (arms, drawn))
    return plain + losses * ("losses" in parts) + samples * ("samples" in parts)


class _Counted:
    """Counts what `told` is told."""

    def __init__(self, told: Told, total: int) -> None:
        self.told, self.total, self.done = told, total, 0

    def __call__(self, what: str) -> None:
        self.told(self.done, self.total, what)
        self.done += 1
