"""Write docs/results/speed.md from the benches of the kernels and of the interception.

saccade bench kernels --json docs/results/kernels.json
saccade bench overhead --json docs/results/overhead.json
python recipes/speed_page.py
"""

import json
from pathlib import Path
from typing import Any

from saccade.ui.markdown import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
HEAD = """# Speed, measured

Made by `recipes/speed_page.py` from [kernels.json](kernels.json) and [overhead.json](overhead.json): {device}, torch
{torch}. All arms of a row ran in turn in one process. `saccade bench kernels` and `saccade bench overhead` measure the
same on your machine.

## Kernels

One batch row, {heads} heads of {d} channels. Density: the share of pairs the mask allows; computed: the share that
blocks of 128 make of it. Efficiency is speed-up times density, against the faster of two dense kernels: 1 means that no
pair was wasted; above 1, the dense kernel itself is slow on that machine. Brackets: half the distance between the
quartiles.
"""


def main() -> None:
    """Both tables."""
    kernels, overhead = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("kernels", "overhead"))
    cases = kernels["cases"]
    head = HEAD.format(device=kernels["device"], torch=kernels["versions"]["torch"], **_size(cases[0]))
    columns = (
        "tokens",
        "type",
        "pattern",
        "density",
        "computed",
        "best dense, ms",
        "kernel",
        "ms",
        "speed-up",
        "efficiency",
    )
    rows = [row for case in cases for row in _rows(case)]
    attached = [_attached(row) for row in overhead["rows"]]
    parts = [
        head,
        markdown_table(columns, rows),
        "## An empty stack",
        f"Attached over plain, {overhead['rows'][0]['repeats']} pairs in turn, median and quartiles.",
        markdown_table(("FLUX step of", "plain, ms", "attached, ms", "ratio"), attached),
    ]
    (RESULTS / "speed.md").write_text("\n\n".join(part.strip() for part in parts) + "\n")


def _size(case: dict[str, Any]) -> dict[str, int]:
    return {name: case[name] for name in ("heads", "d")}


def _rows(case: dict[str, Any]) -> list[tuple[str, ...]]:
    best = min(case["dense"], key=lambda arm: arm["median_ms"])
    told = (f"{case['n']:,}", case["dtype"], case["pattern"], f"{case['density']:.2f}", f"{case['area']:.2f}")
    dense = f"{_ms(best)} ({best['kernel']})"
    return [
        (*told, dense, arm["kernel"], _ms(arm), f"{arm['speedup']:.2f}x", f"{arm['efficiency']:.2f}")
        for arm in case["sparse"]
    ]


def _ms(arm: dict[str, Any]) -> str:
    return f"{arm['median_ms']:.1f} [{arm['spread_ms']:.1f}]"


def _attached(row: dict[str, Any]) -> tuple[str, ...]:
    ratio = f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}]"
    return f"{row['tokens']:,} tokens", f"{row['plain_ms']:.2f}", f"{row['attached_ms']:.2f}", ratio


if __name__ == "__main__":
    main()
