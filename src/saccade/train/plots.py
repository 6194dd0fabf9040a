"""What a run looks like: loss curves, and sheets of pictures."""

import json
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from saccade.train.checkpoint import write_atomically

GAP = 2


def plot_losses(lines: Path, picture: Path) -> None:
    """Draw every loss of a JSONL log against the step, on a logarithmic axis; nothing of a single line."""
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    if len(rows) < 2:
        return
    names = [name for name in rows[0] if name not in ("step", "seconds", "rate")]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in names:
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], label=name, linewidth=1)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend()
    write_atomically(picture, lambda path: figure.savefig(path, format="png", dpi=120))


def tile(pictures: list[UInt8[np.ndarray, "h w 3"]], columns: int) -> UInt8[np.ndarray, "gh gw 3"]:
    """Pictures of one size in rows of `columns`, on white."""
    height, width = (side + GAP for side in pictures[0].shape[:2])
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height + GAP, columns * width + GAP, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = GAP + (i // columns) * height, GAP + (i % columns) * width
        sheet[y : y + height - GAP, x : x + width - GAP] = picture
    return sheet


def save_picture(path: Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Store as PNG."""
    write_atomically(path, lambda partial: Image.fromarray(picture).save(partial, format="PNG"))
