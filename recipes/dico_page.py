"""Put the figures of docs/results/dico.json into docs/papers/dico.md.

python recipes/dico_page.py
"""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from saccade.metrics.intervals import Interval, t_interval
from saccade.ui.markdown import fill_marks, markdown_table, signed, verdict

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS, PAGE = DOCS / "results" / "dico.json", DOCS / "systems" / "dico.md"
ARMS = {"gate": "gate", "no gate": "no gate, wider feed-forwards", "attention": "attention in its place"}
CLAIMS = (
    ("the gate lowers the loss", "no gate", "loss"),
    ("the gate leaves fewer channels idle", "no gate", "redundancy"),
    ("the Conv Module has a lower loss than attention", "attention", "loss"),
)
Figures = dict[str, Any]


def main() -> None:
    """What stands between the page's marks."""
    figures = json.loads(RESULTS.read_text())
    PAGE.write_text(fill_marks(PAGE.read_text(), {"arms": arms(figures), "speed": speed(figures)}))


def arms(figures: Figures) -> str:
    """A line per arm; then the verdicts."""
    heads = [
        "arm",
        "parameters",
        "million multiply-adds",
        "loss",
        "above the gate's",
        "idle channels",
        "above the gate's",
    ]
    told = "\n".join(f"- {claim}: **{verdict(_apart(figures, arm, name))}**." for claim, arm, name in CLAIMS)
    setting = ", ".join(f"{key} {value}" for key, value in figures["setting"].items())
    count = len(_values(figures, "gate", "loss"))
    table = markdown_table(heads, [_arm(figures, arm) for arm in ARMS])
    return f"{table}\n\n{told}\n\n{count} seeds; {setting}; {_machine(figures)}."


def _arm(figures: Figures, arm: str) -> list[str]:
    """Means over seeds, and the distance from the gate, seed by seed."""
    means = {key: fmean(_values(figures, arm, key)) for key in ("parameters", "macs", "loss", "redundancy")}
    cells = [ARMS[arm], f"{means['parameters']:,.0f}", f"{means['macs'] / 1e6:.1f}"]
    for key, digits in (("loss", 4), ("redundancy", 2)):
        cells += [f"{means[key]:.{digits}f}", "" if arm == "gate" else signed(_apart(figures, arm, key), digits)]
    return cells


def speed(figures: Figures) -> str:
    """A line per side."""
    found = figures["speed"]
    rows = [
        [
            f"{row['side']} x {row['side']}", f"{row['dico_macs'] / 1e6:,.0f}", f"{row['dit_macs'] / 1e6:,.0f}",
            f"{row['dico_ms']:.0f}", f"{row['dit_ms']:.0f}",
            f"{row['faster']:.2f} ({row['faster_low']:.2f} to {row['faster_high']:.2f})",
        ]
        for row in found["rows"]
    ]  # fmt: skip
    heads = ["input", "DiCo, million multiply-adds", "DiT", "DiCo, ms", "DiT, ms", "DiCo is faster by"]
    small, large = found["rows"][0], found["rows"][-1]
    grows = "confirmed" if large["faster_low"] > small["faster_high"] else "undecided"
    models = (
        f"DiCo of width {found['dico']['width']}; DiT/2 of width {found['dit']['width']}, depth {found['dit']['depth']}"
    )
    told = f"The ratio grows with the picture: **{grows}**."
    return (
        f"{markdown_table(heads, rows)}\n\n{told} {models}; medians of {found['rounds']} rounds; {_machine(figures)}."
    )


def _values(figures: Figures, arm: str, name: str) -> list[float]:
    return [run[name] for run in sorted(figures["runs"], key=lambda run: run["seed"]) if run["arm"] == arm]


def _apart(figures: Figures, arm: str, name: str) -> Interval:
    pairs = zip(_values(figures, arm, name), _values(figures, "gate", name), strict=True)
    return t_interval([a - b for a, b in pairs])


def _machine(figures: Figures) -> str:
    return f"{figures['device']}, torch {figures['versions']['torch']}"


if __name__ == "__main__":
    main()
