"""Pictures of CLEAR's page: the mask, the blocks it touches, loss and time."""

import numpy as np
import torch
from matplotlib.figure import Figure

from saccade.core.layout import Layout
from saccade.experiments import Figures, Results, Row
from saccade.ops.orders import Order, Tiles, tokens
from saccade.papers.clear.costs import slope
from saccade.papers.clear.system import Clear

BLUE, ORANGE, GREEN, GREY, RED, PURPLE = "#2f6fb0", "#d9822b", "#3f8f5b", "#8a8f98", "#b5403c", "#7d5ba6"
FAMILIES = {
    "disc": BLUE,
    "disc with pooled keys": GREEN,
    "windows": ORANGE,
    "pooled only": RED,
    "linear": PURPLE,
    "dense": GREY,
}


def plot_losses(results: Results, figures: Figures) -> str:
    """Teacher MSE over the share of pairs, one panel per grid, by kind of attention."""
    grids = results.distinct("losses.grid")
    figure, panels = axes(len(grids))
    for panel, grid in zip(panels, grids, strict=True):
        for (family, scaled), rows in grouped(results.rows("losses", grid=grid)).items():
            x, y = ([row[key] for row in rows] for key in ("pairs", "relative"))
            label = family + (", proportional scale" if scaled else "")
            line, alpha = ("--", 0.55) if scaled else ("-", 1.0)
            panel.plot(x, y, marker="o", ms=4, ls=line, color=FAMILIES[family], alpha=alpha, label=label)
        panel.set(xlabel="share of pairs", yscale="log", title=f"{grid} x {grid} image tokens")
        panel.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("teacher MSE, relative")
    return figures.save("losses", figure, "By radius")


def plot_times(results: Results, figures: Figures) -> str:
    """Milliseconds over image tokens, both logarithmic."""
    figure, (panel,) = axes(1)
    rows = results.rows("times")
    for arm, tint in (("disc", BLUE), ("dense", GREY)):
        x, y = ([row[key] for row in rows] for key in ("image_tokens", f"{arm}_cpu_ms"))
        found = slope(rows, arm)
        label = arm + ("" if found is None else f", slope {found:.2f} from 4,096 tokens on")
        panel.loglog(x, y, marker="o", ms=4, color=tint, label=label)
    panel.set(xlabel="image tokens", ylabel="ms of processor time per attention")
    panel.legend(frameon=False, fontsize=8)
    return figures.save("times", figure, "By area")


def plot_mask(results: Results, figures: Figures, *, grid: int = 12, text: int = 6, pool: int = 4) -> str:
    """The mask on a toy grid, and the keys of one image token seen as a picture."""
    layout, radius = Layout.joint(text=text, grid=(1, grid, grid)), 4
    seen = Clear(radius=radius)._disc.materialize(layout, layout)[0, 0]
    coarse = seen.new_zeros(layout.n, (grid // pool) ** 2)
    coarse[text:] = True
    middle = text + grid * (grid // 2) + grid // 2
    figure, (left, right) = axes(2, height=3.4)
    left.imshow(torch.cat((seen, coarse), dim=1).numpy(), cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
    left.axvline(layout.n - 0.5, color=ORANGE, lw=1)
    title = f"queries by keys: text {text}, image {grid} x {grid}, pooled {pool} x {pool}"
    left.set(title=title, xlabel="key", ylabel="query")
    right.imshow(seen[middle, text:].reshape(grid, grid).numpy(), cmap="Blues", vmin=0, vmax=1.4)
    right.plot(grid // 2, grid // 2, marker="x", color=RED)
    right.set(title=f"image keys of one token, r = {radius:g}", xticks=[], yticks=[])
    return figures.save("mask", figure, "The mask on a toy grid, and the keys of one token")


def plot_blocks(results: Results, figures: Figures, *, side: int = 128, text: int = 512, block: int = 128) -> str:
    """Blocks touched in raster order and with the image in tiles: white none, light some pairs, dark all pairs."""
    layout = Layout.joint(text=text, grid=(1, side, side))
    bound = Clear(radius=8)._disc.bind(layout, layout)
    orders: dict[str, Order | None] = {"raster": None, "tiles of 8 x 16": Tiles(1, 8, block // 8)}
    figure, panels = axes(2, height=3.4)
    for panel, (name, order) in zip(panels, orders.items(), strict=True):
        at = tokens(order, layout)
        touched = bound.block_map(block, block, at, at)[0, 0]
        panel.imshow(touched.numpy(), cmap="Blues", vmin=0, vmax=2.4, interpolation="nearest")
        panel.set(title=f"{name}: {float((touched > 0).float().mean()):.3f} of the blocks", xlabel="block of keys")
    panels[0].set_ylabel("block of queries")
    return figures.save("blocks", figure, "Blocks touched in raster order and in tiles")


def grouped(rows: list[Row]) -> dict[tuple[str, bool], list[Row]]:
    """Rows that differ from the teacher, by family and scale, in order of cost."""
    shown = sorted((row for row in rows if row["teacher_mse"] > 0), key=lambda row: row["pairs"])
    keys = dict.fromkeys((row["family"], row["scaled"]) for row in shown)
    return {key: [row for row in shown if (row["family"], row["scaled"]) == key] for key in keys}


def axes(columns: int, height: float = 3.0) -> tuple[Figure, np.ndarray]:
    """A figure and its panels side by side."""
    figure = Figure(figsize=(4.4 * columns, height), layout="constrained")
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
        panel.title.set_fontsize(10)
    return figure, panels
