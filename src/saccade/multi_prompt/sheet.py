"""A video of several prompts on one sheet: frames of each prompt, a row a prompt and seed."""

from math import isnan
from pathlib import Path

import numpy as np

from saccade.metrics.fidelity import Picture
from saccade.multi_prompt.verb import MultiPrompt
from saccade.ui.sheets import write_rows

FRAMES = 6  # of each prompt


def panels(made: MultiPrompt, number: int, segment: int) -> dict[str, Picture]:
    """Frames of one prompt, evenly spaced, by their captions."""
    video, span = made.videos[number], made.segments[segment]
    prompt = made.record.request.prompts[segment]
    chosen = np.unique(np.linspace(span.start, span.stop - 1, FRAMES).round().astype(int))
    names = [f"{prompt}: frame {i}" if not k else f"frame {i}" for k, i in enumerate(chosen)]
    return {name: video[i : i + 1] for name, i in zip(names, chosen, strict=True)}


def write_sheet(made: MultiPrompt, path: Path) -> Path:
    """A page that needs nothing else where the name ends in .html, else a picture."""
    rows = [panels(made, n, s) for n in range(len(made.videos)) for s in range(len(made.segments))]
    note = f"{made.windows.count} windows, {made.windows.frames} latent frames"
    note += "" if isnan(made.density) else f", {made.density:.0%} of all pairs computed"
    return write_rows(rows, path, title="saccade multi_prompt", captions=[note])
