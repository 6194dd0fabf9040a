"""The page of `saccade bench clear`: tables and plots from its figures, nothing typed by hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saccade.core.layout import Layout
from saccade.ops.orders import Order, Tiles, tokens
from saccade.papers.clear import Clear
from saccade.ui.markdown import markdown_table

Cell = Callable[[dict[str, Any]], str]
STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "saccade",
}
BLUE, ORANGE, GREEN, GREY, RED, PURPLE = "#2f6fb0", "#d9822b", "#3f8f5b", "#8a8f98", "#b5403c", "#7d5ba6"
FAMILIES = {
    "disc": BLUE,
    "disc with pooled keys": GREEN,
    "windows": ORANGE,
    "pooled only": RED,
    "linear": PURPLE,
    "dense": GREY,
}


def write_page(figures: dict[str, Any], page: Path) -> None:
    """Write the page and, beside it, its plots and a picture of the mask, `<page>-*.svg`."""
    page.parent.mkdir(parents=True, exist_ok=True)
    name = page.stem
    plot_mask(page.with_name(f"{name}-mask.svg"))
    parts = [_head(figures)]
    if "losses" in figures:
        plot_losses(figures["losses"], page.with_name(f"{name}-losses.svg"))
        parts += [
            "## Loss and distance to the teacher, by radius",
            f"![By radius]({name}-losses.svg)",
            *_losses(figures),
        ]
    if "samples" in figures:
        parts += ["## Pictures", *_samples(figures)]
    if "times" in figures:
        plot_times(figures["times"], page.with_name(f"{name}-times.svg"))
        parts += ["## Time by area", f"![By area]({name}-times.svg)", *_times(figures["times"])]
    if "touched" in figures:
        plot_blocks(page.with_name(f"{name}-blocks.svg"))
        parts += [
            "## Blocks touched",
            f"![In raster order and in tiles]({name}-blocks.svg)",
            *_touched(figures["touched"]),
        ]
    if "counts" in figures:
        parts += ["## Pairs of a FLUX.1 layer", _counts(figures["counts"])]
    page.write_text("\n\n".join(parts) + "\n")


def plot_losses(blocks: list[dict[str, Any]], file: Path) -> None:
    """Teacher MSE over the share of pairs, one panel per grid, by kind of attention."""
    with _axes(file, len(blocks)) as axes:
        for ax, block in zip(axes, blocks, strict=True):
            for (family, scaled), rows in _grouped(block["rows"]).items():
                label = family + (", proportional scale" if scaled else "")
                x, y = ([row[key] for row in rows] for key in ("pairs", "relative_teacher_mse"))
                line = "--" if scaled else "-"
                ax.plot(
                    x, y, marker="o", ms=4, ls=line, color=FAMILIES[family], alpha=0.55 if scaled else 1, label=label
                )
            ax.set(xlabel="share of pairs", yscale="log", title=f"{block['grid']} x {block['grid']} image tokens")
            ax.legend(frameon=False, fontsize=8)
        axes[0].set_ylabel("teacher MSE, relative")


def plot_times(times: dict[str, Any], file: Path) -> None:
    """Milliseconds over image tokens, both logarithmic."""
    with _axes(file, 1) as (ax,):
        for arm, tint in (("disc", BLUE), ("dense", GREY)):
            x, y = ([row[key] for row in times["rows"]] for key in ("image_tokens", f"{arm}_cpu_ms"))
            slope = times["slope"][arm]
            told = "" if slope is None else f", slope {slope:.2f} from 4,096 tokens on"
            ax.loglog(x, y, marker="o", ms=4, color=tint, label=f"{arm}{told}")
        ax.set(xlabel="image tokens", ylabel="ms of processor time per attention")
        ax.legend(frameon=False, fontsize=8)


def plot_mask(file: Path, *, grid: int = 12, text: int = 6, radius: float = 4, pool: int = 4) -> None:
    """The mask on a toy grid, and the keys of one image token seen as a picture."""
    layout = Layout.joint(text=text, grid=(1, grid, grid))
    seen = Clear(radius=radius)._disc.materialize(layout, layout)[0, 0]
    coarse = seen.new_zeros(layout.n, (grid // pool) ** 2)
    coarse[text:] = True
    middle = text + grid * (grid // 2) + grid // 2
    with _axes(file, 2, height=3.4) as (left, right):
        left.imshow(torch.cat((seen, coarse), dim=1).numpy(), cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
        left.axvline(layout.n - 0.5, color=ORANGE, lw=1)
        left.set(
            title=f"queries by keys: text {text}, image {grid} x {grid}, pooled {pool} x {pool}",
            xlabel="key",
            ylabel="query",
        )
        right.imshow(seen[middle, text:].reshape(grid, grid).numpy(), cmap="Blues", vmin=0, vmax=1.4)
        right.plot(grid // 2, grid // 2, marker="x", color=RED)
        right.set(title=f"image keys of one token, r = {radius:g}", xticks=[], yticks=[])


def plot_blocks(file: Path, *, side: int = 128, text: int = 512, radius: float = 8, block: int = 128) -> None:
    """Blocks touched in raster order and with the image in tiles: white none, light some pairs, dark all pairs."""
    layout = Layout.joint(text=text, grid=(1, side, side))
    bound = Clear(radius=radius)._disc.bind(layout, layout)
    orders: dict[str, Order | None] = {"raster": None, "tiles of 8 x 16": Tiles(1, 8, block // 8)}
    with _axes(file, 2, height=3.4) as axes:
        for ax, (name, order) in zip(axes, orders.items(), strict=True):
            at = tokens(order, layout)
            map_ = bound.block_map(block, block, at, at)[0, 0]
            ax.imshow(map_.numpy(), cmap="Blues", vmin=0, vmax=2.4, interpolation="nearest")
            ax.set(title=f"{name}: {float((map_ > 0).float().mean()):.3f} of the blocks", xlabel="block of keys")
        axes[0].set_ylabel("block of queries")


def _head(figures: dict[str, Any]) -> str:
    setting, machine = figures["setting"], figures["machine"]
    return "\n\n".join((
        "# CLEAR, measured",
        "Made by `saccade bench clear --page`; the same figures are in [clear.json](clear.json). Everything here is "
        "zero-shot: the model has never seen the mask, and no distillation was done. What it is: "
        "[CLEAR](../systems/clear.md).",
        f"Model `{setting['model']}`, captions padded to {setting['text_tokens']} tokens, proportional scale for "
        f"{setting['trained_tokens']} trained keys. {machine['device']}; torch {machine['torch']}.",
    ))  # fmt: skip


def _losses(figures: dict[str, Any]) -> Iterator[str]:
    columns: dict[str, Cell] = {
        "attention": lambda r: r["arm"],
        "pairs": lambda r: f"{r['pairs']:.3f}",
        "flow loss": lambda r: f"{r['flow_loss']:.4f}",
        "more than dense": lambda r: _span(r["extra_loss"]),
        "teacher MSE": lambda r: f"{r['teacher_mse']:.4f}",
        "relative": lambda r: f"{r['relative_teacher_mse']:.4f}",
    }
    for block in figures["losses"]:
        yield (
            f"{block['grid']} x {block['grid']} image tokens, {block['pictures']} held-out pictures, times spread "
            f"evenly, the same noise for all; weights {block['weights']}. Pairs are a share "
            "of dense attention's. Brackets: 95 % over pictures."
        )
        yield _by(columns, block["rows"])


def _samples(figures: dict[str, Any]) -> Iterator[str]:
    columns: dict[str, Cell] = {
        "attention": lambda r: r["arm"],
        "pairs": lambda r: f"{r['pairs']:.3f}",
        "PSNR to dense": lambda r: "same" if r["psnr"] is None else f"{r['psnr']:.1f} dB",
        "SSIM": lambda r: f"{r['ssim']:.3f}",
        "captions kept": lambda r: f"{r['kept']['mid']:.2f} [{r['kept']['low']:.2f}, {r['kept']['high']:.2f}]",
        "colour": lambda r: _rate(r, "colour"),
        "shape": lambda r: _rate(r, "shape"),
    }
    for block in figures["samples"]:
        yield (
            f"{block['grid']} x {block['grid']} image tokens, {block['captions']} held-out captions of one thing, "
            f"{block['steps']} steps, the same noise for all; judged by the scene parser; weights {block['weights']}."
        )
        yield _by(columns, block["rows"])


def _times(times: dict[str, Any]) -> Iterator[str]:
    columns: dict[str, Cell] = {
        "image tokens": lambda r: f"{r['image_tokens']:,}",
        "kernel": lambda r: r["kernel"],
        "pairs": lambda r: f"{r['share']:.4f}",
        "disc ms": lambda r: f"{r['disc_ms']:.1f}",
        "dense ms": lambda r: f"{r['dense_ms']:.1f}",
        "disc, processor ms": lambda r: f"{r['disc_cpu_ms']:.1f}",
        "dense, processor ms": lambda r: f"{r['dense_cpu_ms']:.1f}",
        "less work": lambda r: f"{r['dense_cpu_ms'] / r['disc_cpu_ms']:.2f}x",
    }
    yield (
        f"One attention of {times['heads']} heads of {times['channels']} channels, radius {times['radius']:g}, "
        f"{times['text']} text tokens, float32, best of {times['repeats']}, disc and dense in turn. Processor time is "
        "summed over threads, and others on the machine do not lengthen it."
    )
    yield _by(columns, times["rows"])


def _touched(rows: list[dict[str, Any]]) -> Iterator[str]:
    columns: dict[str, Cell] = {
        "pixels": lambda r: f"{r['side']} x {r['side']}",
        "radius": lambda r: str(r["radius"]),
        "pairs": lambda r: f"{r['pairs']:.3f}",
        "blocks, raster": lambda r: f"{r['raster']:.3f}",
        "blocks, tiles": lambda r: f"{r['tiles']:.3f}",
    }
    yield "Share of 128 x 128 blocks a kernel must touch on FLUX.1's tokens, and the share of pairs that is needed."
    yield _by(columns, rows)


def _counts(rows: list[dict[str, Any]]) -> str:
    columns: dict[str, Cell] = {
        "pixels": lambda r: f"{r['side']} x {r['side']}",
        "attention": lambda r: r["variant"],
        "pairs": lambda r: f"{r['pairs']:,}",
        "GFLOP": lambda r: f"{r['gflop']:,.2f}",
        "share": lambda r: f"{100 * r['share']:.3f} %",
    }
    return _by(columns, rows)


def _by(columns: dict[str, Cell], rows: list[dict[str, Any]]) -> str:
    return markdown_table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def _span(x: dict[str, float | None]) -> str:
    if x["low"] is None or x["high"] is None:
        return f"{x['mid']:.4f}"
    return f"{x['mid']:.4f} [{x['low']:.4f}, {x['high']:.4f}]"


def _rate(row: dict[str, Any], name: str) -> str:
    return f"{row['attributes'][name]:.2f}" if name in row["attributes"] else ""


def _grouped(rows: list[dict[str, Any]]) -> dict[tuple[str, bool], list[dict[str, Any]]]:
    """Rows that differ from the teacher, by family and scale, in order of cost."""
    shown = sorted((row for row in rows if row["teacher_mse"] > 0), key=lambda row: row["pairs"])
    keys = dict.fromkeys((row["family"], row["scaled"]) for row in shown)
    return {key: [row for row in shown if (row["family"], row["scaled"]) == key] for key in keys}


@contextmanager
def _axes(file: Path, columns: int, height: float = 3.0) -> "Iterator[np.ndarray]":
    """Axes side by side, saved as SVG when left."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * columns, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.subplots(1, columns, squeeze=False)[0]
        figure.savefig(file, format="svg", metadata={"Date": None})
