"""Put the figures of docs/results/pt-dit.json, and the cost of mixing, into docs/papers/pt_dit.md.

python recipes/pt_dit_page.py
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.pt_dit.proxies import mixing_pairs
from saccade.ui.markdown import fill_marks, markdown_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS, PAGE = DOCS / "results" / "pt-dit.json", DOCS / "systems" / "pt-dit.md"
FULL, OURS, ALONE, RIGID = "full attention", "PT-DiT", "without proxies", "without shifted windows"
FEW = 0.05  # "a few per cent" of full attention's loss
Figures = dict[str, Any]


def main() -> None:
    """What stands between the page's marks."""
    figures = json.loads(RESULTS.read_text())
    PAGE.write_text(fill_marks(PAGE.read_text(), {name: write(figures) for name, write in TABLES.items()}))


def cost(figures: Figures) -> str:
    """Pairs of a block beside full attention's, with 64 windows."""
    rows = []
    for side in (16, 32, 64, 128):
        tokens, edge = side**2, side // 8
        pairs = mixing_pairs((side, side), (edge, edge))
        rows.append([f"{tokens:,}", f"{edge} x {edge}", f"{pairs:,}", f"{tokens**2:,}", f"{pairs / tokens**2:.2%}"])
    return markdown_table(["tokens", "window", "pairs", "pairs of full attention", "share"], rows)


def arms(figures: Figures) -> str:
    """A line per arm; then the verdicts."""
    keys = ("mixing_macs", "macs", "parameters", "loss", "blockiness", "one_thing")
    heads = [
        "",
        "mixing, million multiply-adds",
        "all",
        "parameters",
        "loss",
        "of full attention's",
        "blockiness",
        "one thing",
    ]
    rows = []
    for arm in (FULL, OURS, ALONE, RIGID):
        mean = {key: fmean(_values(figures, arm, key)) for key in keys}
        rows.append([
            arm, f"{mean['mixing_macs'] / 1e6:.1f}", f"{mean['macs'] / 1e6:.1f}", f"{mean['parameters']:,.0f}",
            f"{mean['loss']:.4f}", "" if arm == FULL else str(_beside(figures, arm, FULL)),
            f"{mean['blockiness']:.5f}", f"{mean['one_thing']:.2f}",
        ])  # fmt: skip
    keys = ("side", "grid", "window", "width", "depth", "steps", "batch", "held_out", "samples", "device")
    setting = ", ".join(f"{key} {figures['setting'][key]}" for key in keys)
    real = f"Blockiness of real pictures: {figures['real']['blockiness']:.5f}."
    told = f"{len(_seeds(figures))} seeds; brackets: 95 % intervals; {setting}."
    return "\n\n".join([markdown_table(heads, rows), _verdicts(figures), real, told])


def _verdicts(figures: Figures) -> str:
    near, grid = _beside(figures, OURS, FULL), _apart(figures, RIGID, OURS, "blockiness")
    layout, worse = _apart(figures, OURS, ALONE, "one_thing"), _apart(figures, ALONE, OURS, "loss")
    told = {
        "PT-DiT comes within 5 % of full attention's loss": _said(near.high <= 1 + FEW, near.low > 1 + FEW),
        "without proxies the loss is higher": _sign(worse),
        "without proxies fewer samples show one thing": _sign(layout),
        "without shifted windows the borders show": _sign(grid),
    }
    return "\n".join(f"- {claim}: **{verdict}**" for claim, verdict in told.items())


def likeness(figures: Figures) -> str:
    """Cosines by layer, means over seeds, and within a window by distance of the keys."""
    rings = figures["setting"]["rings"]
    heads = ["layer", "one window", "different windows", "neighbours in one", "neighbours across a border"]
    heads += [f"keys {low} to {high} away" for low, high in zip(rings, rings[1:], strict=False)]
    layers = list(zip(*(each["layers"] for each in figures["likeness"]), strict=True))
    keys = ("within", "across", "neighbours_within", "neighbours_across")
    rows, within, grows = [], [], []
    for i, found in enumerate(layers):
        values = [fmean(row[key] for row in found) for key in keys]
        far = [fmean(row["by_distance"][j] for row in found) for j in range(len(rings) - 1)]
        within += [row["within"] - row["across"] for row in found]
        grows += [row["by_distance"][-1] - row["by_distance"][0] for row in found]
        rows.append([i + 1, *(f"{value:.3f}" for value in values + far)])
    told = [f"- tokens of one window attend more alike than others: **{_said(min(within) > 0, max(within) <= 0)}**",
            f"- the more so the further the keys: **{_said(min(grows) > 0, max(grows) <= 0)}**"]  # fmt: skip
    return (
        f"{markdown_table(heads, rows)}\n\n"
        + "\n".join(told)
        + "\n\nVerdicts ask for the same sign in every layer and seed."
    )


def _values(figures: Figures, arm: str, key: str) -> list[float]:
    """By seed, of seeds that all arms have."""
    return [run[key] for seed in _seeds(figures) for run in figures["runs"] if (run["arm"], run["seed"]) == (arm, seed)]


def _seeds(figures: Figures) -> list[int]:
    have = [{run["seed"] for run in figures["runs"] if run["arm"] == arm} for arm in (FULL, OURS, ALONE, RIGID)]
    return sorted(set.intersection(*have))


def _apart(figures: Figures, arm: str, other: str, key: str) -> Interval:
    pairs = zip(_values(figures, arm, key), _values(figures, other, key), strict=True)
    return t_interval([a - b for a, b in pairs])


def _beside(figures: Figures, arm: str, other: str) -> Interval:
    return t_interval(
        [a / b for a, b in zip(_values(figures, arm, "loss"), _values(figures, other, "loss"), strict=True)]
    )


def _sign(apart: Interval) -> str:
    return _said(apart.low > 0, apart.high < 0)


def _said(yes: bool, no: bool) -> str:
    return "confirmed" if yes else "refuted" if no else "undecided"


TABLES: dict[str, Callable[[Figures], str]] = {"cost": cost, "arms": arms, "likeness": likeness}


if __name__ == "__main__":
    main()
