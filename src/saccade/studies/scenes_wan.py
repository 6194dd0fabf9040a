"""The bundled video model: what of its captions it keeps, as it measured itself when it was trained.

The figures are those of `measured.json` beside its weights; `saccade train scenes-wan` makes both.
"""

import json
from dataclasses import dataclass
from typing import Any

from saccade.experiments import Experiment, Figures, Results
from saccade.models import path
from saccade.ui.markdown import markdown_table

MODEL = "scenes-wan"
KINDS = (
    "all",
    "start",
    "end",
    "motion",
    "steady",
    "count",
    "colour",
    "shape",
    "size",
    "place",
    "relation",
    "background",
)
HEAD = ("frames", "guidance", "captions", *KINDS)
COUNTS = {1: "one", 2: "two"}  # objects of a caption


@dataclass(frozen=True, kw_only=True)
class Settings:
    """There is nothing to set."""


def samples(results: Results, figures: Figures) -> str:
    """The sheet of videos that lies beside the weights."""
    return figures.copy("samples", path(MODEL) / "samples.png", "Held-out captions, a video a row")


def table(objects: int) -> str:
    """What is kept of captions of so many objects: a row for each length and guidance, the last for the autoencoder."""
    found = json.loads((path(MODEL) / "measured.json").read_text())
    runs = [*found["measured"], found["autoencoder"] | {"guidance": "rendered, through the autoencoder"}]
    return markdown_table(HEAD, (row(run, run[f"things={objects}"]) for run in runs))


def row(run: dict[str, Any], found: dict[str, Any]) -> tuple[str, ...]:
    """How it was sampled, and what was kept."""
    kept = ("-" if found[kind] is None else f"{100 * found[kind]:.1f} %" for kind in KINDS)
    return (str(run["frames"]), str(run["guidance"]), str(run["captions"]), *kept)


EXPERIMENT = Experiment(
    name="scenes_wan",
    settings=Settings(),
    quick=Settings(),
    hours=0,
    sections={
        "samples": (samples,),
        **{word: (lambda results, figures, objects=objects: table(objects),) for objects, word in COUNTS.items()},
    },
    page="studies/scenes_wan.md",
)
