"""An edit on one sheet: before, after, where it was edited, and where the words were seen. PNG, or HTML with scores."""

from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Float

from saccade.edit.verb import Edited
from saccade.metrics.editing import EditScores
from saccade.metrics.fidelity import Picture
from saccade.ui.gallery import data_url
from saccade.ui.panels import draw_panels

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
    """The picture, half covered by a colour outside `where`."""
    return np.where(where[None, :, :, None], picture, (picture + SHADE) / 2)


def write_sheet(edits: list[Edited], path: Path, scores: list[EditScores] | None = None) -> Path:
    """One row an edit; a page that needs nothing else where the name ends in .html, else a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        path.write_text(_page(edits, scores or []), encoding="utf-8")
    else:
        draw_panels([panels(edited) for edited in edits], path)
    return path.resolve()


def _page(edits: list[Edited], scores: list[EditScores]) -> str:
    style = (files("saccade.ui") / "page" / "page.css").read_text(encoding="utf-8")
    rows = "".join(f"<tr>{''.join(map(_cell, panels(edited).items()))}</tr>" for edited in edits)
    captions = "".join(f"<p>{escape(_caption(number, score))}</p>" for number, score in enumerate(scores, start=1))
    head = f'<meta charset="utf-8"><title>saccade edit</title><style>{style} td img {{ width: 16rem }}</style>'
    body = f"<main><table>{rows}</table>{captions}</main>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'


def _cell(panel: tuple[str, Picture]) -> str:
    caption, picture = panel
    image = f'<img class="small" alt="{escape(caption)}" src="{data_url(picture)}">'
    return f"<td><figure>{image}<figcaption>{escape(caption)}</figcaption></figure></td>"


def _caption(number: int, score: EditScores) -> str:
    return f"round {number}: edges {score.canny_ssim:.3f}, outside the mask {score.kept_psnr:.1f} dB"


def _gray(edited: Edited, heat: Float[np.ndarray, "y x"]) -> Picture:
    """A map on tokens as a picture as large as the edit."""
    height, width = edited.before.shape[1:3]
    spread = (heat - heat.min()) / max(float(np.ptp(heat)), 1e-12)
    large = np.kron(spread, np.ones((height // heat.shape[0], width // heat.shape[1])))
    return np.repeat(large[None, :, :, None], 3, axis=-1)
