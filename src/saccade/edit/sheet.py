"""An edit on one sheet: before, after, where it was edited, and where the words were seen. PNG, or HTML with scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from saccade.edit.passes import Edited
from saccade.metrics.editing import EditScores
from saccade.metrics.fidelity import Picture
from saccade.ui.sheets import write_rows

SHADE = np.array((0.93, 0.2, 0.55))


def panels(edited: Edited) -> dict[str, Picture]:
    """The pictures of a sheet by their captions."""
    found = {f"before: {edited.source}": edited.before, f"after: {edited.target}": edited.after}
    if edited.mask is not None:
        found["edited"] = shaded(edited.before, edited.changed)
    return {
        **found,
        **{f"attends to '{word}'": _gray(edited, heat.cpu().numpy()) for word, heat in edited.heat.items()},
    }


def shaded(picture: Picture, where: np.ndarray) -> Picture:
    """The picture, half covered by a colour at `where`."""
    return np.where(where[None, :, :, None], (picture + SHADE) / 2, picture)


def write_sheet(edits: Sequence[Edited], path: Path, scores: list[EditScores] | None = None) -> Path:
    """One row an edit; a page that needs nothing else where the name ends in .html, else a picture."""
    captions = [_caption(number, score) for number, score in enumerate(scores or [], start=1)]
    return write_rows([panels(edited) for edited in edits], path, title="saccade edit", captions=captions)


def _caption(number: int, score: EditScores) -> str:
    return f"round {number}: edges {score.canny_ssim:.3f}, outside the mask {score.kept_psnr:.1f} dB"


def _gray(edited: Edited, heat: Float[np.ndarray, "y x"]) -> Picture:
    """A map on tokens as a picture as large as the edit."""
    height, width = edited.before.shape[1:3]
    spread = (heat - heat.min()) / max(float(np.ptp(heat)), 1e-12)
    large = np.kron(spread, np.ones((height // heat.shape[0], width // heat.shape[1])))
    return np.repeat(large[None, :, :, None], 3, axis=-1)
