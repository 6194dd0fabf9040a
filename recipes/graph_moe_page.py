"""Put the figures of docs/results/graph-moe.json into docs/papers/graph_moe.md.

python recipes/graph_moe_page.py
"""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib import rcParams
from matplotlib.figure import Figure

from saccade.metrics.intervals import Interval, t_interval
from saccade.ui.markdown import fill_marks, markdown_table, signed, verdict

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS, PICTURE = DOCS / "results" / "graph-moe.json", DOCS / "results" / "graph-moe.svg"
PAGE = DOCS / "systems" / "graph-moe.md"
PLAIN = "plain"
SHOWN = {  # figure: title, digits
    "loss": ("loss, nats", 3), "swapped": ("with swaps", 3), "fluctuation": ("change experts", 3),
    "entropy": ("entropy", 3), "largest_load": ("largest load", 2), "diversity": ("experts a text uses", 1),
}  # fmt: skip
CLAIMS = {  # a figure that is to be higher under the other router
    "fewer tokens change their experts": ("fluctuation", PLAIN),
    "decisions are surer": ("entropy", PLAIN),
    "the loss is lower": ("loss", PLAIN),
    "swapped characters cost less": ("cost", PLAIN),
}
Figures = dict[str, Any]
rcParams["svg.hashsalt"] = "saccade"  # the same picture from the same figures


def main() -> None:
    """What stands between the page's marks."""
    figures = json.loads(RESULTS.read_text())
    draw(figures["rows"])
    PAGE.write_text(fill_marks(PAGE.read_text(), {"arms": arms(figures)}))


def arms(figures: Figures) -> str:
    """A line an arm; then what each router is claimed to do, and whether a mean of any tokens does it too."""
    rows = figures["rows"]
    names = list(dict.fromkeys(row["arm"] for row in rows))
    lines = [
        [name, *(f"{fmean(of(rows, name, key)):.{digits}f}" for key, (_, digits) in SHOWN.items())] for name in names
    ]
    table = markdown_table(["router", *(title for title, _ in SHOWN.values())], lines)
    told = "\n".join(claim(rows, text, *pair, names) for text, pair in CLAIMS.items())
    early, late = figures["steps"]
    seeds = len({row["seed"] for row in rows})
    setting = (
        f"Between steps {early} and {late}, mean over layers, {seeds} seeds; swaps of {figures['swapped']:.0%} of the "
        f"characters; {figures['device']}, torch {figures['versions']['torch']}."
    )
    picture = "![Tokens that change their experts, and entropy of decisions, by layer](../results/graph-moe.svg)"
    return f"{picture}\n\n{table}\n\n{told}\n\n{setting}"


def draw(rows: list[Figures]) -> None:
    """Fluctuation and entropy by layer, a line a router."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    titles = {"fluctuation": "share of tokens that change experts", "entropy": "entropy of decisions, nats"}
    for axes, (key, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for name in dict.fromkeys(row["arm"] for row in rows):
            here = [row for row in rows if row["arm"] == name]
            layers = sorted({row["layer"] for row in here})
            means = [fmean(row[key] for row in here if row["layer"] == layer) for layer in layers]
            axes.plot(layers, means, "o-", markersize=3, label=name)
        axes.set(title=title, xlabel="layer", xticks=layers)
    axes.legend(fontsize=8)
    figure.savefig(PICTURE, format="svg", metadata={"Date": None})


def claim(rows: list[Figures], text: str, key: str, against: str, names: list[str]) -> str:
    """One claim for every router: the plain one's figure above its own."""
    found = {name: apart(rows, against, name, key) for name in names if name != against}
    return f"- {text} than under the plain router: " + ", ".join(
        f"{name} **{verdict(above)}** ({signed(above, 3)})" for name, above in found.items()
    )


def of(rows: list[Figures], name: str, key: str) -> list[float]:
    """A figure by seed, mean over layers; `cost`: what swapping adds to the loss."""
    seeds = sorted({row["seed"] for row in rows if row["arm"] == name})
    read = (lambda row: row["swapped"] - row["loss"]) if key == "cost" else (lambda row: row[key])
    return [fmean(read(row) for row in rows if row["arm"] == name and row["seed"] == seed) for seed in seeds]


def apart(rows: list[Figures], one: str, other: str, key: str) -> Interval:
    """How much higher the figure of one is, seed by seed."""
    return t_interval([a - b for a, b in zip(of(rows, one, key), of(rows, other, key), strict=True)])


if __name__ == "__main__":
    main()
