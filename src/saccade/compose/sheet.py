"""A composition on one sheet: its reference pictures, the places of its entities, and what was drawn."""

from pathlib import Path

from saccade.compose.verb import Composed
from saccade.metrics.fidelity import Picture
from saccade.ui.outlines import outlined
from saccade.ui.sheets import write_rows


def panels(composed: Composed, number: int) -> dict[str, Picture]:
    """The pictures of one row by their captions."""
    asked = composed.record.request
    shown = {
        f"reference {i}: {text}": picture
        for i, (text, picture) in enumerate(zip(asked.texts, asked.references, strict=True))
        if picture is not None
    }
    drawn = composed.pictures[number : number + 1]
    return {**shown, "; ".join(asked.texts): outlined(drawn, composed.regions), f"seed {asked.seeds[number]}": drawn}


def write_sheet(composed: Composed, path: Path) -> Path:
    """One row a picture; a page that needs nothing else where the name ends in .html, else a picture."""
    rows = [panels(composed, number) for number in range(len(composed.pictures))]
    return write_rows(rows, path, title="saccade compose", captions=[f"{composed.density:.0%} of all pairs computed"])
