"""Put the figures of docs/results/moh.json into docs/papers/moh.md.

python recipes/moh_page.py
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from saccade.metrics.intervals import Interval, paired_difference, t_interval
from saccade.ui.markdown import fill_marks, markdown_table, signed, verdict

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS, PAGE = DOCS / "results" / "moh.json", DOCS / "systems" / "moh.md"
SIX, FOUR, MOH, RANDOM, FREE = (
    "six heads",
    "four heads",
    "two shared, two routed",
    "two shared, two random",
    "two shared, two routed, no balance",
)
RECOVERED = 0.95
Figures = dict[str, Any]
Rows = list[dict[str, Any]]


def main() -> None:
    """What stands between the page's marks."""
    figures = json.loads(RESULTS.read_text())
    PAGE.write_text(fill_marks(PAGE.read_text(), {name: write(figures) for name, write in TABLES.items()}))


def arms(figures: Figures) -> str:
    """A line per arm; losses against six heads, seed by seed; then the verdicts."""
    rows: Rows = figures["arms"]["rows"]
    cells = [
        [
            arm, f"{fmean(_of(rows, 'parameters', arm=arm)):,.0f}", f"{fmean(_of(rows, 'loss', arm=arm)):.4f}",
            "" if arm == SIX else signed(_above(rows, arm, SIX, "loss"), 4),
            f"{fmean(_of(rows, 'accuracy', arm=arm)):.0%}",
        ]
        for arm in (SIX, FOUR, MOH, RANDOM)
    ]  # fmt: skip
    claims = {
        "picked heads do better than all six": _above(rows, SIX, MOH, "loss"),
        "picked heads do better than four for all": _above(rows, FOUR, MOH, "loss"),
        "picked heads do better than random ones": _above(rows, RANDOM, MOH, "loss"),
    }
    table = markdown_table(["heads", "parameters", "loss", "above six heads", "right colour"], cells)
    return f"{table}\n\n{_told(claims)}\n\n{_setting(figures)}"


def usage(figures: Figures) -> str:
    """Entropies by time and colour, how far usage lies apart, and what the loss of balance does."""
    rows: Rows = [row for row in figures["arms"]["rows"] if "entropy" in row]
    cells = [
        [
            arm, f"{fmean(_of(rows, 'entropy', arm=arm)):.3f}", _range(rows, arm, "entropy_by_time"),
            _range(rows, arm, "entropy_by_colour"), f"{fmean(_of(rows, 'largest_share', arm=arm)):.2f}",
            *(f"{fmean(_of(rows, f'apart_by_{what}', arm=arm)):.3f}" for what in ("time", "colour", "chance")),
        ]
        for arm in (MOH, FREE)
    ]  # fmt: skip
    heads = ["heads", "entropy", "by time", "by colour", "largest share", "apart by time", "by colour", "by chance"]
    claims = {
        "heads are used differently at different times": _beyond(rows, "time"),
        "heads are used differently for different colours": _beyond(rows, "colour"),
        "without the loss one head takes a larger share": _above(rows, FREE, MOH, "largest_share"),
        "without the loss of balance the other loss is lower": _above(rows, MOH, FREE, "loss"),
    }
    return f"{markdown_table(heads, cells)}\n\n{_told(claims)}"


def conversion(figures: Figures) -> str:
    """Losses before, after and after tuning, and how much of what was lost came back."""
    rows: Rows = figures["conversion"]["rows"]
    dense = _of(rows, "loss", what=SIX, stage="tuned")
    cells = [[SIX, *(f"{fmean(_of(rows, 'loss', what=SIX, stage=s)):.4f}" for s in ("before", "tuned")), ""]]
    claims = {}
    for what in dict.fromkeys(row["what"] for row in rows if row["what"] != SIX):
        converted, tuned = (_of(rows, "loss", what=what, stage=stage) for stage in ("converted", "tuned"))
        back = t_interval([(c - t) / (c - d) for c, t, d in zip(converted, tuned, dense, strict=True)])
        cells.append([what, f"{fmean(converted):.4f}", f"{fmean(tuned):.4f}", _plain(back)])
        kept = t_interval([d / t for d, t in zip(dense, tuned, strict=True)])
        claims[f"{what}: conversion raises the loss"] = t_interval(
            [c - b for c, b in zip(converted, _of(rows, "loss", what=SIX, stage="before"), strict=True)]
        )
        claims[f"{what}: tuning brings over {RECOVERED:.0%} of the difference back"] = _less(back, RECOVERED)
        claims[f"{what}, tuned: over {RECOVERED:.0%} of the quality of six, as a ratio of losses"] = _less(
            kept, RECOVERED
        )
    table = markdown_table(["heads", "loss, untuned", "tuned", "share of the difference that came back"], cells)
    return f"{table}\n\n{_told(claims)}"


def language(figures: Figures) -> str:
    """Bounds of the same texts, text by text."""
    found = {(row["what"], row["stage"]): row["bounds"] for row in figures["language"]["rows"]}
    dense, fewer = "eight heads", "six of eight"
    stages = ("converted", "tuned")
    cells = [[what, *(f"{fmean(found[what, stage]):.3f}" for stage in stages)] for what in (dense, fewer)]
    gaps = [paired_difference(found[fewer, stage], found[dense, stage]) for stage in stages]
    cells.append(["apart", *(signed(gap, 3) for gap in gaps)])
    ratios = [d / f for d, f in zip(found[dense, "tuned"], found[fewer, "tuned"], strict=True)]
    claims = {
        "conversion raises the bound": gaps[0],
        f"tuned: over {RECOVERED:.0%} of the quality of eight, as a ratio of bounds": _less(
            t_interval(ratios), RECOVERED
        ),
    }
    s, back = figures["setting"], 1 - gaps[1].mid / gaps[0].mid
    told = f"Of what the conversion lost {back:.0%} came back in {s['language_steps']} steps."
    setting = f"{s['texts']} texts of {s['text']} characters, source {s['source']}."
    return f"{markdown_table(['heads', 'untuned', 'tuned'], cells)}\n\n{_told(claims)}\n\n{told} {setting}"


TABLES: dict[str, Callable[[Figures], str]] = {
    "arms": arms,
    "usage": usage,
    "conversion": conversion,
    "language": language,
}


def _of(rows: Rows, name: str, **which: Any) -> list[Any]:
    """One figure by seed."""
    chosen = [row for row in rows if all(row[key] == value for key, value in which.items())]
    return [row[name] for row in sorted(chosen, key=lambda row: row["seed"])]


def _above(rows: Rows, arm: str, other: str, name: str) -> Interval:
    pairs = zip(_of(rows, name, arm=arm), _of(rows, name, arm=other), strict=True)
    return t_interval([a - b for a, b in pairs])


def _beyond(rows: Rows, what: str) -> Interval:
    """How much further usage lies apart than random groups of pictures do."""
    pairs = zip(_of(rows, f"apart_by_{what}", arm=MOH), _of(rows, "apart_by_chance", arm=MOH), strict=True)
    return t_interval([a - b for a, b in pairs])


def _range(rows: Rows, arm: str, name: str) -> str:
    means = [fmean(each) for each in zip(*_of(rows, name, arm=arm), strict=True)]
    return f"{min(means):.3f} to {max(means):.3f}"


def _less(found: Interval, by: float) -> Interval:
    return Interval(low=found.low - by, mid=found.mid - by, high=found.high - by, n=found.n)


def _told(claims: dict[str, Interval]) -> str:
    return "\n".join(f"- {claim}: **{verdict(found)}** ({signed(found, 4)})." for claim, found in claims.items())


def _plain(found: Interval) -> str:
    return f"{found.mid:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _setting(figures: Figures) -> str:
    s = figures["setting"]
    model = (
        f"DiT of depth {s['depth']}, width {s['width']}, side {s['side']}, {s['steps']} steps of {s['batch']} pictures"
    )
    judged = f"{s['pictures']} held-out pictures, {s['samples']} samples"
    return f"{s['seeds']} seeds; {model}; {judged}; {s['device']}, torch {s['torch']}."


if __name__ == "__main__":
    main()
