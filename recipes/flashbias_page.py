"""Put the figures of docs/results/flashbias.json into docs/papers/flashbias.md, and draw its pictures.

python recipes/flashbias_page.py
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import torch

from saccade.core.layout import Layout
from saccade.papers.flashbias import SpatialDistance, factorize

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from saccade.ui.markdown import markdown_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS, PAGE, IMAGES = DOCS / "results" / "flashbias.json", DOCS / "systems" / "flashbias.md", DOCS / "images"
STRENGTHS, SIDE, QUERY = (0.0, 8.0, 32.0, 128.0), 32, (10, 20)


def main() -> None:
    """Tables between the page's marks, and both pictures."""
    figures = json.loads(RESULTS.read_text())
    page = PAGE.read_text()
    for name, table in TABLES.items():
        source = figures.get("timing" if name == "exactness" else name)
        if source is not None:
            before, _, rest = page.partition(f"<!-- figures: {name} -->\n")
            _, end, after = rest.partition("<!-- end -->")
            page = f"{before}<!-- figures: {name} -->\n{table(source)}\n{end}{after}"
    PAGE.write_text(page)
    IMAGES.mkdir(exist_ok=True)
    draw_prior(IMAGES / "flashbias-prior.png")
    if "timing" in figures:
        draw_cost(figures["timing"]["rows"], IMAGES / "flashbias-cost.png")


def timing_table(found: dict[str, Any]) -> str:
    """One line per prior, type, pass and length; then where the factors begin to win."""
    rows = [
        (
            r["prior"], r["dtype"], r["part"], r["n"], f"{r['plain_ms']:.1f}",
            _with_spread(r, "dense"), _with_spread(r, "factors"), f"{r['time_ratio']:.2f}",
            f"{r['dense_bytes'] / 1e6:.1f}", f"{r['factors_bytes'] / 1e6:.1f}", f"{r['memory_ratio']:.1f}",
        )
        for r in found["rows"]
    ]  # fmt: skip
    heads = (
        "prior", "type", "pass", "tokens", "no bias, ms", "dense, ms", "factors, ms", "faster",
        "dense, MB", "factors, MB", "smaller",
    )  # fmt: skip
    won = (f"{key}: {'not up to here' if n is None else f'from {n} tokens'}" for key, n in found["crossover"].items())
    setting = ", ".join(f"{key} {value}" for key, value in found["setting"].items())
    return f"{markdown_table(heads, rows)}\n\nFactors are faster: {'; '.join(won)}.\n\n{setting}; {_machine(found)}."


def exactness_table(found: dict[str, Any]) -> str:
    """Largest differences to dense softmax attention."""
    rows = [
        (name, case["rank"], f"{case['output_gap']:.1e}", f"{case['gradient_gap']:.1e}")
        for name, case in found["exactness"].items()
    ]
    return markdown_table(("case", "columns", "largest difference, output", "largest difference, gradients"), rows)


def vit_table(found: dict[str, Any]) -> str:
    """Accuracy by energy and rule."""
    rows = [
        (
            r["row_means"], r["energy"], f"{r['mean_rank']:.1f}", r["max_rank"], f"{r['rel_err']:.3f}",
            f"{100 * r['accuracy']:.2f} %", f"{r['drop_points']:+.2f}",
        )
        for r in found["rows"]
    ]  # fmt: skip
    heads = ("row means", "energy", "mean columns", "most columns", "worst relative error", "accuracy", "points lost")
    high = ", ".join(found["beyond_max_rank_16"]) or "none"
    error = math.sqrt(found["dense_accuracy"] * (1 - found["dense_accuracy"]) / found["test"])
    ranks = "; ".join(f"layer {i}: {', '.join(map(str, layer))}" for i, layer in enumerate(found["ranks_at_0.995"]))
    return (
        f"{found['pictures']}, {found['train']} training and {found['test']} test pictures, {found['tokens']} tokens, "
        f"{found['depth']} layers of {found['heads']} heads, {found['steps']} steps; accuracy with the dense tables "
        f"{100 * found['dense_accuracy']:.2f} % (standard error {100 * error:.1f} points).\n\n"
        f"{markdown_table(heads, rows)}\n\n"
        f"Columns each head needs at energy 0.995, row means taken out: {ranks}. Heads that need more than 16 columns, "
        f"and so are not of low rank: {high}.\n\n{_machine(found)}, {found['spent']['cpu_s']:.0f} s of CPU."
    )


def lm_table(found: dict[str, Any]) -> str:
    """Held-out loss by arm."""
    names = {"dense": "dense bias", "factors": "factors", "flipped": "factors, the printed sign"}
    rows = [(names[arm], f"{loss:.4f}", f"{found['curves'][arm][-1]:.4f}") for arm, loss in found["held_out"].items()]
    return (
        f"{found['text']}, {found['steps']} steps of {found['batch']} x {found['context']} characters, "
        f"{found['depth']} layers, width {found['width']}; loss in nats per character.\n\n"
        f"{markdown_table(('arm', 'held-out loss', 'last training loss'), rows)}\n\n"
        f"Dense and factored training losses differ by at most {found['first_losses_gap']:.1e} over the first 20 steps "
        f"and {found['largest_gap_dense_factors']:.1e} over all of them.\n\n"
        f"{_machine(found)}, {found['spent']['cpu_s']:.0f} s of CPU."
    )


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "timing": timing_table, "exactness": exactness_table, "vit": vit_table, "lm": lm_table,
}  # fmt: skip


def draw_prior(path: Path) -> None:
    """What one token of a grid reads, with scores all equal, by strength."""
    layout = Layout.image_only((1, SIDE, SIDE))
    _, panels = plt.subplots(1, len(STRENGTHS), figsize=(9, 2.6), layout="constrained")
    for panel, strength in zip(panels, STRENGTHS, strict=True):
        factors = factorize(SpatialDistance(strength=strength), tokens=layout)
        query = factors.phi_q[0, 0, QUERY[0] * SIDE + QUERY[1]]
        weights = torch.softmax(factors.phi_k[0, 0] @ query, dim=0).reshape(SIDE, SIDE)
        panel.imshow(weights, cmap="magma", vmin=0)
        panel.set(title=f"strength {strength:g}", xticks=[], yticks=[])
    plt.savefig(path, dpi=120)
    plt.close()


def draw_cost(rows: list[dict[str, Any]], path: Path) -> None:
    """ALiBi: time as a multiple of attention without a bias, forward and backward, and memory."""
    _, panels = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    alibi = [r for r in rows if r["prior"] == "alibi"]
    for dtype, line in (("float32", "-"), ("bfloat16", "--")):
        for arm, name, colour in (("dense", "dense bias", "C1"), ("factors", "factors", "C2")):
            style = {"color": colour, "linestyle": line, "marker": "o", "label": f"{name}, {dtype}"}
            for panel, part in zip(panels, ("forward", "backward"), strict=False):
                here = [r for r in alibi if r["part"] == part and r["dtype"] == dtype]
                panel.plot([r["n"] for r in here], [r[f"{arm}_ms"] / r["plain_ms"] for r in here], **style)
            here = [r for r in alibi if r["part"] == "forward" and r["dtype"] == dtype]
            panels[2].plot([r["n"] for r in here], [r[f"{arm}_bytes"] / 1e6 for r in here], **style)
    titles = ("forward time, no bias = 1", "backward time, no bias = 1", "memory of a forward, MB")
    lengths = sorted({r["n"] for r in alibi})
    for panel, title in zip(panels, titles, strict=True):
        panel.set_xscale("log", base=2)
        panel.set_xticks(lengths, [str(n) for n in lengths])
        panel.set(title=title, xlabel="tokens")
    panels[2].set_yscale("log")
    for panel in panels[:2]:
        panel.axhline(1, color="grey", linewidth=0.8)
    panels[0].legend(frameon=False, fontsize=8)
    plt.savefig(path, dpi=120)
    plt.close()


def _with_spread(row: dict[str, Any], arm: str) -> str:
    return f"{row[f'{arm}_ms']:.1f} ± {row[f'{arm}_spread_ms']:.1f}"


def _machine(found: dict[str, Any]) -> str:
    return f"{found['machine']['device']}, torch {found['machine']['torch']}"


if __name__ == "__main__":
    main()
