"""Put the figures of docs/results/sparsed*.json into docs/papers/sparsed.md; a table without figures stays as it is.

python recipes/sparsed_page.py
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saccade.ui.markdown import markdown_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, TIMES, LM = (
    DOCS / "systems" / "sparsed.md",
    DOCS / "results" / "sparsed.json",
    DOCS / "results" / "sparsed-lm.json",
)


def main() -> None:
    """Tables between the page's marks."""
    figures = {"times": _read(TIMES), **{name: _read(LM).get(name, {}) for name in ("likeness", "arms", "switches")}}
    setting, page = _read(LM).get("setting", {}), PAGE.read_text()
    for name, found in figures.items():
        if found:
            before, _, rest = page.partition(f"<!-- figures: {name} -->\n")
            _, end, after = rest.partition("<!-- end -->")
            page = f"{before}<!-- figures: {name} -->\n{TABLES[name](found, setting)}\n{end}{after}"
    PAGE.write_text(page)


def times(found: dict[str, Any], setting: dict[str, Any]) -> str:
    """A line per length and type; whole runs with their ideal in brackets."""
    steps = [run["steps"] for run in found["rows"][0]["runs"]]
    heads = ["", "tokens", "type", "dense, ms", "best dense, ms", "finding, ms", "sparse, ms", "faster", "ideal"]
    rows = [
        [
            row["what"], row["tokens"], row["dtype"], f"{row['plain_ms']:.0f}",
            "" if row["best_ms"] is None else f"{row['best_ms']:.0f}", f"{row['find_ms']:.0f}",
            f"{row['sparse_ms']:.0f}", f"{row['speedup']:.2f} ({row['speedup_low']:.2f} to {row['speedup_high']:.2f})",
            f"{row['ideal']:.2f}", *(f"{run['speedup']:.2f} ({run['ideal']:.2f})" for run in row["runs"]),
        ]
        for row in found["rows"]
    ]  # fmt: skip
    options = ", ".join(f"{key} {value}" for key, value in found["setting"].items())
    table = markdown_table(heads + [f"{n} steps" for n in steps], rows)
    return f"{table}\n\n{options}; {found['device']}, torch {found['versions']['torch']}."


def likeness(found: dict[str, Any], setting: dict[str, Any]) -> str:
    """Three cosines."""
    names = {"next_step": "a head and itself one step later", "first_and_last": "a head at the first step and the last",
             "other_heads": "a head and another at the same step"}  # fmt: skip
    return markdown_table(["between", "cosine"], [[text, f"{found[key]:.3f}"] for key, text in names.items()])


def arms(found: dict[str, Any], setting: dict[str, Any]) -> str:
    """A line per arm; means over texts with their standard errors."""
    columns = (("kl", ".4f"), ("agreement", ".2f"), ("bound", ".2f"))
    heads = ["", "blocks kept", "KL from dense", "same characters", "surprise under dense"]
    rows = [
        [row["arm"], f"{row['density']:.2f}", *(f"{row[k]:{form}} ± {row[f'{k}_error']:{form}}" for k, form in columns)]
        for row in found["rows"]
    ]
    options = ", ".join(f"{key} {setting[key]}" for key in ("prompt", "answer", "steps", "in_turn", "block", "keep"))
    told = f"{found['prompts']} texts of {setting['source']}, {options}; {setting['device']}."
    return f"{markdown_table(heads, rows)}\n\n{told}"


TABLES: dict[str, Callable[[dict[str, Any], dict[str, Any]], str]] = {
    "times": times, "likeness": likeness, "arms": arms, "switches": arms,
}  # fmt: skip


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.exists() else {}


if __name__ == "__main__":
    main()
