"""Scale-DiT: what a kernel must compute in each token order, and what the anchor is worth on the bundled model.

densities   share of blocks of 128 x 64 tokens that hold any pair, on FLUX.1's tokens; counted, no model is run
tuning      losses while LoRA is tuned on pictures of 16 x 16 tokens beside their copies of 4 x 4
losses      flow-matching loss of held-out pictures of 32 x 32 tokens, the same noise for all arms
samples     pictures of 32 x 32 tokens drawn from noise beside small pictures of 8 x 8; read by the scene parser
Expected: a curve beats windows and windows the raster; the anchor helps, at scaled places more than at its own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Figures, Results, Row, Verdicts, higher
from saccade.metrics.intervals import Interval
from saccade.papers.scale_dit.anchor_layout import anchored, square
from saccade.papers.scale_dit.arms import (
    ANCHOR,
    ANCHOR_TUNED,
    ARMS,
    DENSE,
    UNSCALED,
    UNSCALED_TUNED,
    WINDOWS,
    WINDOWS_TUNED,
    AnchorArm,
    Sides,
    Tuning,
)
from saccade.papers.scale_dit.plots import plot_densities, plot_mask
from saccade.papers.scale_dit.small_run import SmallRun
from saccade.papers.scale_dit.system import ScaleDiT
from saccade.papers.scale_dit.token_orders import ORDERS, block_map
from saccade.ui.markdown import markdown_table

PATCH, FLUX_TEXT, RATIO, WINDOW = 16, 512, 4, 16  # pixels a token, text tokens, and the paper's sizes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sides of the counted pictures in pixels, and what is drawn."""

    sides: tuple[int, ...] = (1024, 2048, 4096, 8192)
    small: SmallRun = field(default_factory=lambda: SmallRun(tuning=Tuning(steps=150)))


QUICK = SmallRun(
    size=Sides(high=16, low=8, trained=8, window=4),
    tuning=Tuning(steps=2, batch=1, pool=2, rank=2),
    pictures=1,
    captions=1,
    steps=1,
)


def fewer_blocks(found: Results) -> Interval:
    """How much less a Hilbert curve computes than windows in raster order, at the size where it gains least."""
    gains = [row["window"] - row["hilbert"] for row in found.rows("densities")]
    return Interval(low=min(gains), mid=min(gains), high=max(gains), n=len(gains))


COMPARED: tuple[tuple[str, str, AnchorArm, AnchorArm, str], ...] = (  # text, column, the arm that is higher, than which
    ("untuned, windows without the anchor have a higher loss than with it", "losses.loss", WINDOWS, ANCHOR, "picture"),
    ("untuned, the anchor's own places have a higher loss than scaled ones",
     "losses.loss", UNSCALED, ANCHOR, "picture"),
    ("tuning LoRA on small pictures lowers the loss of large ones", "losses.loss", ANCHOR, ANCHOR_TUNED, "picture"),
    ("tuned, windows without the anchor have a higher loss than with it",
     "losses.loss", WINDOWS_TUNED, ANCHOR_TUNED, "picture"),
    ("tuned, the anchor's own places have a higher loss than scaled ones",
     "losses.loss", UNSCALED_TUNED, ANCHOR_TUNED, "picture"),
    ("tuned, windows without the anchor keep the layout of the small picture less than with it",
     "samples.layout_error", WINDOWS_TUNED, ANCHOR_TUNED, "caption"),
    ("tuned, windows and anchor still have a higher loss than dense attention",
     "losses.loss", ANCHOR_TUNED, DENSE, "picture"),
)  # fmt: skip
CLAIMS = (
    Claim(text="a Hilbert curve within windows touches fewer blocks than their raster order", measure=fewer_blocks),
    *(higher(text, column, arm.label, than=other.label, pair=pair) for text, column, arm, other, pair in COMPARED),
)


def verdicts(results: Results, figures: Figures) -> str:
    """Of claims whose arms were run, and which arms were not."""
    ran = set(results.distinct("losses.arm"))
    said = [c for c, (_, _, arm, other, _) in zip(CLAIMS[1:], COMPARED, strict=True) if {arm.label, other.label} <= ran]
    text = Verdicts((CLAIMS[0], *said), differences=True)(results, figures)
    left = ", ".join(arm.label for arm in ARMS if arm.label not in ran)
    return f"{text}\n\nNot run yet: {left}." if left else text


def densities_table(results: Results, figures: Figures) -> str:
    """By size."""
    heads = ("pixels", "tokens", "pairs", *(f"blocks, {order}" for order in ORDERS), "less than dense, hilbert")
    rows = [
        [f"{row['side']} x {row['side']}", f"{row['tokens']:,}", f"{row['pairs']:.5f}",
         *(f"{row[order]:.5f}" for order in ORDERS), f"{1 / row['hilbert']:.1f}x"]
        for row in results.rows("densities")
    ]  # fmt: skip
    return markdown_table(heads, rows)


def about(results: Results, figures: Figures) -> str:
    """What was drawn and tuned."""
    small = results.settings["small"]
    size, tuning = small["size"], small["tuning"]
    return (
        "`{model}`, {high} x {high} image tokens beside {low} x {low}, windows of {window}. LoRA of rank {rank} is "
        "tuned for {steps} steps of {batch} scenes at {trained} x {trained} tokens, so never at the size that is "
        "measured. Loss: {pictures} held-out pictures. The rest: {captions} held-out captions of two things, "
        "{sampled} steps from pure noise; layout error is the mean distance of things to those of the small picture, "
        "in sides of the picture, a thing without partner counting as a half."
    ).format(
        **size, **tuning, **{name: small[name] for name in ("model", "pictures", "captions")}, sampled=small["steps"]
    )


SMALL = ArmTable(
    columns=(
        Column(source="losses.pairs", title="pairs", show=".3f"),
        Column(source="losses.loss", title="flow loss"),
        Column(source="samples.layout_error", title="layout error", show=".3f"),
        Column(source="samples.count_error", title="things too many or few", show=".2f"),
        Column(source="samples.colour", title="colour", show=".2f"),
        Column(source="samples.shape", title="shape", show=".2f"),
    ),
    of="losses.arm",
    title="attention",
)
EXPERIMENT = Experiment(
    name="scale_dit",
    settings=Settings(),
    quick=Settings(sides=(256,), small=QUICK),
    hours=0.15,
    sections={
        "small": (about, SMALL, verdicts),
        "densities": (plot_densities, densities_table),
        "mask": (plot_mask,),
    },
    claims=CLAIMS,
)


@EXPERIMENT.part()
def densities(bench: Bench[Settings]) -> Iterable[Row]:
    """Of the sampling mask on FLUX.1's tokens, in every order."""
    for done, side in enumerate(bench.settings.sides):
        bench.progress(done, len(bench.settings.sides), f"{side} x {side} pixels")
        high = side // PATCH
        layout, mask = anchored(text=FLUX_TEXT, high=square(high), low=square(high // RATIO)), ScaleDiT().mask()
        maps = {order: block_map(mask, layout, order, WINDOW) > 0 for order in ORDERS}
        yield {
            "side": side, "tokens": layout.n, "pairs": mask.bind(layout, layout).density(),
            **{order: float(found.double().mean()) for order, found in maps.items()},
        }  # fmt: skip


def measured(arm: AnchorArm) -> Callable[[Bench[Settings]], Iterable[Row]]:
    """An arm's part: tuned, measured and drawn."""
    return lambda bench: bench.settings.small.rows(arm)


for each in ARMS:
    EXPERIMENT.part(tables=True, name=each.part)(measured(each))
