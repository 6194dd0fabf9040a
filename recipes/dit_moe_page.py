"""Put the figures of docs/results/dit-moe.json into docs/papers/dit_moe.md, and draw who served what.

python recipes/dit_moe_page.py
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from saccade.analysis.usage_plot import plot_usage
from saccade.metrics.intervals import t_interval
from saccade.ui.markdown import fill_marks, markdown_table, signed, verdict

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS, PAGE, PICTURE = (
    DOCS / "results" / "dit-moe.json",
    DOCS / "systems" / "dit-moe.md",
    DOCS / "results" / "dit-moe.png",
)
BASE = "balance 0.005"
ALL_BLOCKS = (BASE, "balance 0", "balance 0.5", "no shared expert")  # arms with experts in every block
Figures = dict[str, Any]
Value = Callable[[Figures], float]


def main() -> None:
    """What stands between the page's marks."""
    figures = json.loads(RESULTS.read_text())
    PAGE.write_text(fill_marks(PAGE.read_text(), {name: write(figures) for name, write in TABLES.items()}))
    plot_usage({name: torch.tensor(table) for name, table in figures["counts"].items()}, PICTURE)


def arms(figures: Figures) -> str:
    """A line per arm, and how far its loss lies above the first one's, seed by seed."""
    heads = ["arm", "seeds", "loss", f"above {BASE}", "variation of load"]
    rows = []
    for arm in figures["setting"]["arms"]:
        above = t_interval(_apart(figures, arm, BASE, _loss))
        rows.append(
            [arm, len(_values(figures, arm, _loss)), f"{fmean(_values(figures, arm, _loss).values()):.4f}",
             "" if arm == BASE else signed(above, 4), f"{fmean(_values(figures, arm, _load).values()):.3f}"]
        )  # fmt: skip
    told = {key: value for key, value in figures["setting"].items() if key not in ("arms", "device", "versions")}
    options = ", ".join(f"{key} {value}" for key, value in told.items())
    return f"{markdown_table(heads, rows)}\n\n{options}; {_machine(figures)}."


def information(figures: Figures) -> str:
    """A line per layer: means over the seeds and all arms with experts in every block."""
    runs = [run for name, run in figures["arms"].items() if name.rpartition(", ")[0] in ALL_BLOCKS]
    told = [run["information"] | {"class, by chance": run["shuffled"]} for run in runs]
    layers = range(figures["setting"]["depth"])
    rows = [[layer, *(f"{fmean(each[name][layer] for each in told):.4f}" for name in told[0])] for layer in layers]
    return markdown_table(["layer", *told[0]], rows)


def verdicts(figures: Figures) -> str:
    """Each claim, by how much, and whether it holds: an interval over seeds on one side of zero decides."""
    lines = []
    for claim, find, digits in CLAIMS:
        found = t_interval(find(figures))
        lines.append(f"- {claim} (by {signed(found, digits)}): **{verdict(found)}**.")
    return "\n".join(lines)


def _loss(run: Figures) -> float:
    return run["loss"]


def _load(run: Figures) -> float:
    return fmean(run["load_variation"])


def _over_class(name: str) -> Value:
    """How much more `name` tells than the class does beyond chance, if anything."""

    def value(run: Figures) -> float:
        return fmean(run["information"][name]) - max(0.0, fmean(run["information"]["class"]) - fmean(run["shuffled"]))

    return value


def _fall(run: Figures) -> float:
    """Of what the place tells, from the first layer to the last."""
    return run["information"]["place"][0] - run["information"]["place"][-1]


def _apart(figures: Figures, one: str, other: str, value: Value) -> list[float]:
    """Differences seed by seed."""
    ours, theirs = (_values(figures, arm, value) for arm in (one, other))
    return [ours[seed] - theirs[seed] for seed in ours if seed in theirs]


def _pooled(value: Value) -> Callable[[Figures], list[float]]:
    """By seed, the mean over all arms with experts in every block."""

    def find(figures: Figures) -> list[float]:
        found = [_values(figures, arm, value) for arm in ALL_BLOCKS]
        return [fmean(each[seed] for each in found) for seed in found[0] if all(seed in each for each in found)]

    return find


CLAIMS: tuple[tuple[str, Callable[[Figures], list[float]], int], ...] = (
    ("Without balance the load varies more than with 0.005", lambda f: _apart(f, "balance 0", BASE, _load), 3),
    ("and with 0.005 more than with 0.5", lambda f: _apart(f, BASE, "balance 0.5", _load), 3),
    ("A balance of 0.005 has a lower loss than none", lambda f: _apart(f, "balance 0", BASE, _loss), 4),
    ("and than one of 0.5", lambda f: _apart(f, "balance 0.5", BASE, _loss), 4),
    ("The place tells more of the expert than the class", _pooled(_over_class("place")), 4),
    ("The step tells more of the expert than the class", _pooled(_over_class("step")), 4),
    ("The place tells less in the last layer than in the first", _pooled(_fall), 4),
    ("A shared expert lowers the loss", lambda f: _apart(f, "no shared expert", BASE, _loss), 4),
    ("Experts in the deep half have a lower loss", lambda f: _apart(f, "shallow half", "deep half", _loss), 4),
)


def speed(figures: Figures) -> str:
    """A line per width."""
    rows = [
        [row["width"], f"{row['dense_ms']:.0f}", f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"]
        for row in figures["speed"]
    ]
    heads = ["width", "dense, ms", "experts take"]
    return f"{markdown_table(heads, rows)}\n\n{figures['speed'][0]['rounds']} rounds; {_machine(figures)}."


TABLES: dict[str, Callable[[Figures], str]] = {
    "arms": arms, "information": information, "verdicts": verdicts, "speed": speed,
}  # fmt: skip


def _values(figures: Figures, arm: str, value: Value) -> dict[int, float]:
    """By seed, of those that have been run."""
    runs = {seed: figures["arms"].get(f"{arm}, {seed}") for seed in figures["setting"]["seeds"]}
    return {seed: value(run) for seed, run in runs.items() if run}


def _machine(figures: Figures) -> str:
    setting = figures["setting"]
    return f"{setting['device']}, torch {setting['versions']['torch']}"


if __name__ == "__main__":
    main()
