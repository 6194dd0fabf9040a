"""Put the figures of docs/results/consistedit.json into docs/papers/consistedit.md.

python recipes/consistedit_page.py
"""

import json
from pathlib import Path
from typing import Any

from saccade.ui.markdown import fill_marks, markdown_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS, PAGE = DOCS / "results" / "consistedit.json", DOCS / "systems" / "consistedit.md"
SCORES = {
    "made": "edit made", "all": "whole caption", "iou": "outline (IoU)", "canny_ssim": "Canny-SSIM",
    "kept_psnr": "PSNR outside, dB", "kept_ssim": "SSIM outside", "colour": "colour",
}  # fmt: skip
WIDTH = {"kept_psnr": 1, "made": 2, "all": 2, "colour": 2}  # digits after the point, three otherwise
MAPS = {"heat": "single-stream blocks, cut at 0.1", "best": "all blocks, cut at 0.4"}
COLUMNS = {
    "colour": ("made", "all", "iou", "canny_ssim", "kept_psnr", "kept_ssim"),
    "shape": ("made", "colour", "iou", "canny_ssim", "kept_psnr", "kept_ssim"),
}


def main() -> None:
    """Tables between the page's marks."""
    figures = json.loads(RESULTS.read_text())
    tables = {
        kind: "\n\n".join((arms(kind, figures[kind]), orders(figures[kind]), setting(figures, kind)))
        for kind in COLUMNS
        if kind in figures
    }
    PAGE.write_text(fill_marks(PAGE.read_text(), tables))


def arms(kind: str, found: dict[str, Any]) -> str:
    """A line for each arm."""
    names = COLUMNS[kind]
    head = ("arm", *(SCORES[name] for name in names))
    rows = [
        (name, *(interval(arm["means"][score], WIDTH.get(score, 3)) for score in names))
        for name, arm in found["arms"].items()
    ]
    return markdown_table(head, rows)


def orders(found: dict[str, Any]) -> str:
    """What the paper leads to expect, and what was found."""
    rows = [
        (
            SCORES[o["score"]], o["more"], o["less"],
            interval(o["difference"], WIDTH.get(o["score"], 3)), f"**{o['verdict']}**",
        )
        for o in found["orders"]
    ]  # fmt: skip
    return markdown_table(("score", "expected higher", "expected lower", "difference, edit by edit", "order"), rows)


def setting(figures: dict[str, Any], kind: str) -> str:
    """What the figures rest on."""
    found = figures[kind]
    seen = ", ".join(f"{MAPS[name]}: {interval(x, 2)}" for name, x in found["word_map_iou"].items())
    return (
        f"{found['edits']} edits of pictures the model drew as told ({found['sources_drawn']} drawn), "
        f"{found['steps']} steps; means with 95 % intervals. Agreement of the word's maps with the exact mask (IoU): "
        f"{seen}. {found['seconds'] / 60:.0f} minutes on {figures['machine']}."
    )


def interval(x: dict[str, float], digits: int) -> str:
    """`0.91 [0.88, 0.94]`."""
    return f"{x['mid']:.{digits}f} [{x['low']:.{digits}f}, {x['high']:.{digits}f}]"


if __name__ == "__main__":
    main()
