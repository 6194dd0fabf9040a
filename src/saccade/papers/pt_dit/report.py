"""Claims on PT-DiT's proxies and windows, and the tables of its page."""

from collections.abc import Callable
from statistics import fmean

from saccade.experiments import ArmTable, Claim, Column, Figures, Results, Row, higher
from saccade.experiments.claims import ratio
from saccade.metrics.intervals import Interval, affine
from saccade.papers.pt_dit.proxies import mixing_pairs
from saccade.ui.markdown import markdown_table

FULL, OURS, ALONE, RIGID = "full attention", "PT-DiT", "without proxies", "without shifted windows"
FEW = 0.05  # "a few per cent" of full attention's loss
COSINES = {
    "within": "one window",
    "across": "different windows",
    "neighbours_within": "neighbours in one",
    "neighbours_across": "neighbours across a border",
}


def same_sign(value: Callable[[Row], float]) -> Callable[[Results], Interval]:
    """Of a value of every layer and seed, its mean and its extremes: confirmed where all are above zero."""

    def measure(results: Results) -> Interval:
        values = [value(row) for row in results.rows("likeness")]
        return Interval(low=min(values), mid=fmean(values), high=max(values), n=len(values))

    return measure


CLAIMS = (
    Claim(
        text=f"PT-DiT comes within {FEW * 100:.0f} % of full attention's loss",
        measure=lambda results: affine(ratio(results, "runs.loss", OURS, FULL), -1, 1 + FEW),
    ),
    higher("without proxies the loss is higher", "runs.loss", ALONE, than=OURS),
    higher("without proxies fewer samples show one object", "runs.one_object", OURS, than=ALONE),
    higher("without shifted windows the borders show", "runs.blockiness", RIGID, than=OURS, digits=5),
)
LIKENESS_CLAIMS = (
    Claim(
        text="tokens of one window attend more alike than others",
        measure=same_sign(lambda row: row["within"] - row["across"]),
    ),
    Claim(
        text="the more so the further the keys",
        measure=same_sign(lambda row: row["by_distance"][-1] - row["by_distance"][0]),
    ),
)


def millions(value: float) -> str:
    """With one digit."""
    return f"{value / 1e6:.1f}"


ARM_TABLE = ArmTable(
    title="",
    columns=(
        Column(source="runs.mixing_macs", title="mixing, million multiply-adds", show=millions),
        Column(source="runs.macs", title="all", show=millions),
        Column(source="runs.parameters", title="parameters", show=",.0f"),
        Column(source="runs.loss", title="loss"),
        Column(source="runs.loss", title="of full attention's", against=FULL, ratio=True),
        Column(source="runs.blockiness", title="blockiness", show=".5f"),
        Column(source="runs.one_object", title="one object", show=".2f"),
    ),
)


def setting(results: Results, figures: Figures) -> str:
    """How all arms were trained, and what real pictures measure."""
    it, (real,) = results.settings, results.values("real.blockiness")
    return (
        f"Blockiness of real pictures: {real:.5f}.\n\n"
        f"Brackets: 95 % intervals over seeds. {it['side']} x {it['side']} pixels, patches of 2 x 2, windows of "
        f"{it['window'][0]} x {it['window'][1]} tokens; width {it['width']}, depth {it['depth']}, {it['steps']} steps, "
        f"batch {it['batch']}; {it['held']} held-out pictures, {it['samples']} samples."
    )


def cost_table(results: Results, figures: Figures) -> str:
    """Pairs of a block beside full attention's, with 64 windows."""
    heads = ["tokens", "window", "pairs", "pairs of full attention", "share"]
    return markdown_table(heads, (_cost(side) for side in (16, 32, 64, 128)))


def _cost(side: int) -> list[str]:
    tokens, edge = side**2, side // 8
    pairs = mixing_pairs((side, side), (edge, edge))
    return [f"{tokens:,}", f"{edge} x {edge}", f"{pairs:,}", f"{tokens**2:,}", f"{pairs / tokens**2:.2%}"]


def likeness_table(results: Results, figures: Figures) -> str:
    """Cosines by layer, means over seeds, and within a window by distance of the keys."""
    rings = results.settings["rings"]
    heads = ["layer", *COSINES.values(), *(f"keys {a} to {b} away" for a, b in zip(rings, rings[1:], strict=False))]
    lines = []
    for layer in results.distinct("likeness.layer"):
        rows = results.rows("likeness", layer=layer)
        values = [fmean(row[name] for row in rows) for name in COSINES]
        far = [fmean(each) for each in zip(*(row["by_distance"] for row in rows), strict=True)]
        lines.append([layer + 1, *(f"{value:.3f}" for value in values + far)])
    return markdown_table(heads, lines)


def sign_rule(results: Results, figures: Figures) -> str:
    """What decides on likeness."""
    return "Verdicts ask for the same sign in every layer and seed."
