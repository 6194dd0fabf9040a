"""Rows of pictures with captions on one sheet: a PNG, or a page of HTML that needs nothing else."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from textwrap import fill

from saccade.metrics.fidelity import Picture
from saccade.ui.gallery import data_url

PIXELS = 320  # of a panel's side in a PNG
WRAP = 42  # characters of a caption's line


def write_rows(rows: Sequence[dict[str, Picture]], path: Path, *, title: str, captions: Sequence[str] = ()) -> Path:
    """Pictures by their captions, a row each; a page where the name ends in .html, with `captions` below."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        path.write_text(_page(rows, title, captions), encoding="utf-8")
    else:
        _draw(rows, path)
    return path.resolve()


def _draw(rows: Sequence[dict[str, Picture]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across, dots = max(map(len, rows)), 100
    side = PIXELS / dots
    titles = 0.2 + 0.15 * max(fill(caption, WRAP).count("\n") + 1 for row in rows for caption in row)
    figure = Figure(figsize=(side * across, (side + titles) * len(rows)), dpi=dots, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), across, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for line, row in zip(axes, rows, strict=True):
        for ax, (caption, picture) in zip(line, row.items(), strict=False):
            ax.imshow(picture[0], interpolation="nearest" if picture.shape[1] < PIXELS else None)
            ax.set_title(fill(caption, WRAP), fontsize=8)
    figure.savefig(path)


def _page(rows: Sequence[dict[str, Picture]], title: str, captions: Sequence[str]) -> str:
    style = (files("saccade.ui") / "page" / "page.css").read_text(encoding="utf-8")
    cells = "".join(f"<tr>{''.join(map(_cell, row.items()))}</tr>" for row in rows)
    below = "".join(f"<p>{escape(caption)}</p>" for caption in captions)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{style} td img {{ width: 16rem }}</style>'
    body = f"<main><table>{cells}</table>{below}</main>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'


def _cell(panel: tuple[str, Picture]) -> str:
    caption, picture = panel
    image = f'<img class="small" alt="{escape(caption)}" src="{data_url(picture)}">'
    return f"<td><figure>{image}<figcaption>{escape(caption)}</figcaption></figure></td>"
