"""Write docs/results/quality.md from docs/results/quality.json.

python recipes/quality_page.py
"""

import json
from pathlib import Path
from typing import Any

from saccade.metrics import Spread
from saccade.ui.markdown import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
SHARES = ("precision", "recall", "density", "coverage")
HEAD = """# Offline judges, measured

How often the classifiers of [quality offline](../quality.md) are right, and what each score says of scenes that fail in
a known way. Made by `recipes/quality.py` and `recipes/quality_page.py`.
"""


def main() -> None:
    """The page."""
    figures = json.loads((RESULTS / "quality.json").read_text())
    parts = (HEAD.strip(), accuracy_table(figures), failings_table(figures))
    (RESULTS / "quality.md").write_text("\n\n".join(parts) + "\n")


def accuracy_table(figures: dict[str, Any]) -> str:
    """One line per source."""
    head = ("source", "side", "classes", "told on held-out pictures", "of", "steps", "CPU, s", "weights")
    rows = [
        (
            name, f["side"], len(f["names"]), f"{100 * f['accuracy']['mid']:.1f} %", f"{f['pictures']:,}",
            f"{f['steps']:,} of {f['batch']}", f"{f['train_cpu_s']:.0f}", f"{f['parameters']:,}",
        )
        for name, f in figures.items()
    ]  # fmt: skip
    machine = next(iter(figures.values()))["machine"]
    return f"{markdown_table(head, rows)}\n\n{machine['device']}, torch {machine['torch']}."


def failings_table(figures: dict[str, Any]) -> str:
    """One line per way of failing."""
    found = figures["scenes"]
    head = ("pictures", "frechet", "kernel", "layout", *SHARES, "accuracy")
    rows = [
        (
            row["pictures"],
            *(Spread(**row[name]) for name in ("frechet", "kernel", "layout")),
            *(f"{row[name]:.2f}" for name in SHARES),
            f"{100 * row['accuracy']['mid']:.1f} %",
        )
        for row in found["failings"]
    ]
    return f"{markdown_table(head, rows)}\n\n{found['judged']:,} pictures against as many real ones."


if __name__ == "__main__":
    main()
