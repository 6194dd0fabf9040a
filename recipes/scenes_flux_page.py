"""Write docs/results/scenes-flux.md from what the model in the box measured of itself when it was made.

python recipes/scenes_flux_page.py
"""

import json
import shutil
from pathlib import Path
from typing import Any

import saccade
from saccade.ui.markdown import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
KINDS = ("all", "count", "colour", "shape", "size", "place", "relation", "background")
HEAD = """# The model in the box, measured

`scenes-flux` is a real diffusers `FluxPipeline` of a few million parameters, made by `saccade train scenes-flux` for
the pictures and captions of `saccade.data.scenes`. Made by `recipes/scenes_flux_page.py` from the `measured.json` that
lies beside the weights.

![Held-out captions of one, two and three things](scenes-flux.png)

Held-out captions, {steps} steps, the scene parser as judge. A picture counts under `all` where everything its caption
promises is kept; the other columns are shares of promises. Stochastic sampling draws fresh noise after every step.
Guidance runs the empty caption too, `true_cfg_scale` in the pipeline's words.
"""


def main() -> None:
    """The page and its picture."""
    folder = Path(saccade.models.path("scenes-flux"))
    runs = json.loads((folder / "measured.json").read_text())["measured"]
    shutil.copyfile(folder / "samples.png", RESULTS / "scenes-flux.png")
    parts = [HEAD.format(steps=runs[0]["steps"]), *(part for n in (1, 2, 3) for part in section(runs, n))]
    (RESULTS / "scenes-flux.md").write_text("\n\n".join(part.strip() for part in parts) + "\n")


def section(runs: list[dict[str, Any]], things: int) -> tuple[str, str]:
    """Heading and table of the captions of so many things."""
    head = ("pixels", "image tokens", "sampling", "guidance", "padded to", "captions", *KINDS)
    rows = [row(run, run[f"things={things}"]) for run in runs]
    return f"## {things} thing{'s' if things > 1 else ''}", markdown_table(head, rows)


def row(run: dict[str, Any], found: dict[str, Any]) -> tuple[str, ...]:
    """How it was drawn, and what was kept."""
    sampling = f"stochastic, shift {run['shift']:g}" if run["stochastic_sampling"] else "deterministic"
    tokens = (run["side"] // 8) ** 2
    drawn = (run["side"], f"{tokens:,}", sampling, f"{run['guidance']:g}", run["text_tokens"], found["captions"])
    kept = ("-" if found[kind] is None else f"{100 * found[kind]:.1f} %" for kind in KINDS)
    return (*map(str, drawn), *kept)


if __name__ == "__main__":
    main()
