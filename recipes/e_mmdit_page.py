"""Put the figures of docs/results/e-mmdit.json into docs/papers/e_mmdit.md.

python recipes/e_mmdit_page.py
"""

import json
from pathlib import Path
from typing import Any

from saccade.metrics.intervals import Interval, bootstrap, paired_difference, paired_ratio, share, t_interval
from saccade.ui.markdown import fill_marks, markdown_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURES = DOCS / "systems" / "e-mmdit.md", DOCS / "results" / "e-mmdit.json"
PARTS = ("full", "+ compression", "+ subregions", "+ positions")
MODULATIONS = {
    "+ positions": "AdaLN-affine",
    "the same, adaLN-single": "adaLN-single",
    "the same, a linear layer per block": "a linear layer per block",
}
OTHERS = {arm: name for arm, name in MODULATIONS.items() if arm not in PARTS}
FASTER = 1.5  # what compression is expected to reach at least
LITTLE = 0.05  # share of a loss by which another may differ


def main() -> None:
    """Tables and verdicts between the page's marks."""
    figures = json.loads(FIGURES.read_text())
    rows = {row["arm"]: row for row in figures["rows"] if row["seed"] == 0}
    if missing := [arm for arm in (*PARTS, *OTHERS) if arm not in rows]:
        raise SystemExit(f"{FIGURES.name} lacks {missing}; let recipes/e_mmdit.py run to its end")
    made = {make.__name__: make(rows, figures) for make in (parts, modulation, verdicts)}
    PAGE.write_text(fill_marks(PAGE.read_text(), made))


def parts(rows: dict[str, Any], figures: dict[str, Any]) -> str:
    """A line for each part that is added."""
    heads = ["", "weights", "pairs a head", "step, ms", "faster", "loss", "more than full", "overlap", "place kept"]
    full, times = rows["full"], figures["times"]
    table = [
        [
            arm, f"{row['parameters']:,}", f"{row['pairs']:,}", scaled(bootstrap(times[arm]), 1000),
            "" if row is full else paired_ratio(times["full"], times[arm]), t_interval(row["losses"]),
            "" if row is full else paired_difference(row["losses"], full["losses"]),
            t_interval(row["outlines"]), share([kept == 1 for kept in row["verdicts"]["place"]]),
        ]
        for arm, row in ((arm, rows[arm]) for arm in PARTS)
    ]  # fmt: skip
    setting, steps = figures["setting"], full["steps"]
    told = ", ".join(f"{key.replace('_', ' ')} {setting[key]}" for key in ("width", "blocks", "batch"))
    minutes = sum(row["cpu_s"] for row in rows.values()) / 60
    return (
        f"{markdown_table(heads, table)}\n\n{steps} steps, {told}; {setting['held_out']} held-out pictures, "
        f"{setting['drawn']} drawn ones; {minutes:.0f} minutes in all on one thread of {setting['device']}."
    )


def modulation(rows: dict[str, Any], figures: dict[str, Any]) -> str:
    """A line for each way to make the modulation."""
    affine = rows["+ positions"]
    table = [
        [
            name, f"{rows[arm]['modulation']:,}", t_interval(rows[arm]["losses"]),
            "" if rows[arm] is affine else paired_difference(rows[arm]["losses"], affine["losses"]),
        ]
        for arm, name in MODULATIONS.items()
    ]  # fmt: skip
    return markdown_table(["", "weights a block and stream", "loss", "more than AdaLN-affine"], table)


def verdicts(rows: dict[str, Any], figures: dict[str, Any]) -> str:
    """What was expected, and what the intervals say."""
    faster = paired_ratio(figures["times"]["full"], figures["times"]["+ compression"])
    placed = paired_difference(rows["+ positions"]["outlines"], rows["+ subregions"]["outlines"])
    pairs = rows["+ subregions"]["pairs"] / rows["+ compression"]["pairs"]
    lines = [
        f"compression makes a step more than {FASTER} times as fast: {faster}, {above(faster, FASTER)}",
        f"it costs little loss: {changed(rows, '+ compression', 'full')}",
        f"subregions, {pairs:.2f} of the pairs, cost little loss: {changed(rows, '+ subregions', '+ compression')}",
        f"positions added again improve the overlap: by {placed}, {above(placed, 0.0)}",
        *(
            f"{name} differs little from AdaLN-affine: {changed(rows, arm, '+ positions')}"
            for arm, name in OTHERS.items()
        ),
    ]
    return "\n".join(f"- {line}" for line in lines) + f"\n\nLittle: {LITTLE:.0%} of the loss compared with."


def above(found: Interval, least: float) -> str:
    """The word for an interval that should lie above `least`."""
    return "**confirmed**" if found.low > least else "**refuted**" if found.high < least else "**undecided**"


def changed(rows: dict[str, Any], arm: str, base: str) -> str:
    """The loss of an arm against another's, and the word for a change that should be little."""
    found = paired_difference(rows[arm]["losses"], rows[base]["losses"])
    bound = LITTLE * t_interval(rows[base]["losses"]).mid
    if found.low > bound or found.high < -bound:
        word = "refuted"
    else:
        word = "confirmed" if max(abs(found.low), abs(found.high)) < bound else "undecided"
    return f"by {found} of {t_interval(rows[base]['losses']).mid:.3g}, **{word}**"


def scaled(found: Interval, factor: float) -> Interval:
    """The same in another unit."""
    return Interval(low=found.low * factor, mid=found.mid * factor, high=found.high * factor, n=found.n)


if __name__ == "__main__":
    main()
