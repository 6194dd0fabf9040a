"""The bundled picture model: what of its captions it keeps, as it measured itself when it was trained.

The figures are those of `measured.json` beside its weights; `saccade train scenes-flux` makes both.
"""

import json
from dataclasses import dataclass
from typing import Any

from saccade.experiments import Experiment, Figures, Results
from saccade.models import path
from saccade.ui.markdown import markdown_table

MODEL = "scenes-flux"
KINDS = ("all", "count", "colour", "shape", "size", "place", "relation", "background")
HEAD = ("pixels", "image tokens", "sampling", "guidance", "padded to", "captions", *KINDS)
COUNTS = {1: "one", 2: "two", 3: "three"}  # objects of a caption


@dataclass(frozen=True, kw_only=True)
class Settings:
    """There is nothing to set."""


def samples(results: Results, figures: Figures) -> str:
    """The sheet of pictures that lies beside the weights."""
    return figures.copy("samples", path(MODEL) / "samples.png", "Held-out captions of one, two and three objects")


def table(objects: int) -> str:
    """What is kept of captions of so many objects, a row for each way of sampling."""
    runs = json.loads((path(MODEL) / "measured.json").read_text())["measured"]
    return markdown_table(HEAD, (row(run, run[f"things={objects}"]) for run in runs))


def row(run: dict[str, Any], found: dict[str, Any]) -> tuple[str, ...]:
    """How it was sampled, and what was kept."""
    sampling = f"stochastic, shift {run['shift']:g}" if run["stochastic_sampling"] else "deterministic"
    tokens = (run["side"] // 8) ** 2
    sampled = (run["side"], f"{tokens:,}", sampling, f"{run['guidance']:g}", run["text_tokens"], found["captions"])
    kept = ("-" if found[kind] is None else f"{100 * found[kind]:.1f} %" for kind in KINDS)
    return (*map(str, sampled), *kept)


EXPERIMENT = Experiment(
    name="scenes_flux",
    settings=Settings(),
    quick=Settings(),
    hours=0,
    sections={
        "samples": (samples,),
        **{word: (lambda results, figures, objects=objects: table(objects),) for objects, word in COUNTS.items()},
    },
    page="studies/scenes_flux.md",
)
