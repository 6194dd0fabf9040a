"""A drag on one sheet: the source with the object's old and new place, and what was drawn."""

from pathlib import Path

import numpy as np

from saccade.drag.drawing import Dragged
from saccade.metrics.fidelity import Picture
from saccade.ui.outlines import outlined
from saccade.ui.sheets import write_rows


def panels(dragged: Dragged) -> dict[str, Picture]:
    """The pictures of the sheet by their captions."""
    size = dragged.before.shape[1], dragged.before.shape[2]
    asked = dragged.record.request
    places = np.stack([blobs[0].on(size).numpy() for blobs in (asked.source, asked.target)])
    return {
        "before": dragged.before,
        "from, to": outlined(dragged.before, places),
        f"{asked.target_prompt}; seed {asked.seed}": dragged.after,
    }


def write_sheet(dragged: Dragged, path: Path) -> Path:
    """One row; a page that needs nothing else where the name ends in .html, else a picture."""
    return write_rows([panels(dragged)], path, title="saccade drag")
