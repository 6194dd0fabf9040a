"""An insertion on one sheet: the subject, the picture with the place for it, and what was drawn."""

from pathlib import Path

from saccade.insert.verb import Inserted
from saccade.metrics.fidelity import Picture
from saccade.ui.outlines import outlined
from saccade.ui.sheets import write_rows


def panels(inserted: Inserted, number: int) -> dict[str, Picture]:
    """The pictures of one row by their captions."""
    asked, shown = inserted.record.request, inserted.shown
    place = shown.mask[None, shown.half :] > 0
    return {
        "subject": shown.picture[:, : shown.half],
        "into": outlined(shown.lower(shown.picture), place),
        f"{asked.prompt}; seed {asked.seeds[number]}": inserted.pictures[number : number + 1],
    }


def write_sheet(inserted: Inserted, path: Path) -> Path:
    """One row a picture; a page that needs nothing else where the name ends in .html, else a picture."""
    rows = [panels(inserted, number) for number in range(len(inserted.pictures))]
    return write_rows(rows, path, title="saccade insert", captions=[f"{inserted.density:.0%} of all pairs computed"])
