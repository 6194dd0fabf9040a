"""Re-ttention's page: its tables and pictures, and what is claimed of it."""

from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure

from saccade.core.layout import Layout
from saccade.experiments import Claim, Figures, Lines, Results, Verdicts
from saccade.experiments.claims import Measure
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.re_ttention.raster_window import RasterWindow
from saccade.ui.markdown import markdown_table

DENSE, BOTH, OFFICIAL = "dense", "share and residual", "text ramped (official)"
PLAIN, RESIDUAL, SHARE = "plain window", "window and residual", "share alone"
ABLATIONS: dict[str, dict[str, Any]] = {
    PLAIN: {"ratio": False, "residual": False},
    SHARE: {"residual": False},
    RESIDUAL: {"ratio": False},
    BOTH: {},
}


def closer(arm: str, than: str) -> Measure:
    """A measure: how much larger the error of `than` is, caption by caption, at the width of the ablations."""
    return lambda found: t_interval(gaps(found, arm, than, found.settings["ablated"]))


def gaps(found: Results, arm: str, than: str, one_in: int) -> list[float]:
    """Errors of one arm less those of another, by caption."""
    ours, theirs = (found.by("runs.error", "caption", arm=name, one_in=one_in) for name in (arm, than))
    return [theirs[caption] - ours[caption] for caption in ours]


def widening(found: Results) -> Interval:
    """How much more is gained over the plain window by the narrowest than by the widest, caption by caption."""
    widths = found.settings["one_in"]
    narrow, wide = (gaps(found, BOTH, PLAIN, one_in) for one_in in (max(widths), min(widths)))
    return t_interval([a - b for a, b in zip(narrow, wide, strict=True)])


def lower(name: str, than: str) -> Measure:
    """A measure: how much larger one column of the shares is than another, site by site."""

    def measure(found: Results) -> Interval:
        one, other = (found.by(f"shares.{column}", "site") for column in (name, than))
        return t_interval([other[site] - one[site] for site in one])

    return measure


CLAIMS = (
    Claim(text="share and residual draw closer to dense than the plain window (latents)", measure=closer(BOTH, PLAIN)),
    Claim(text="share and residual draw closer than the residual without the share", measure=closer(BOTH, RESIDUAL)),
    Claim(text="the plain window is the farthest: the share alone draws closer", measure=closer(SHARE, PLAIN)),
    Claim(text="the narrower the window, the more is gained over the plain one", measure=widening),
    Claim(text="a ramp of 0.04 draws closer than none", measure=closer(BOTH, "no ramp")),
    Claim(
        text="a ramp that leaves text alone draws closer than the official one",
        measure=closer(BOTH, OFFICIAL), digits=6,
    ),
    Claim(
        text="from step to step the window's share moves less than the sum it is of (change of the log)",
        measure=lower("share_moves", "sum_moves"),
    ),
    Claim(
        text="masked after the softmax outputs are closer to dense than masked before it",
        measure=lower("after", "before"),
    ),
)  # fmt: skip


def arms_table(results: Results, figures: Figures) -> str:
    """A line for each arm at the width of the ablations."""
    said = results.settings
    arms = [(DENSE, 1), *((arm, said["ablated"]) for arm in results.distinct("runs.arm", one_in=said["ablated"]))]
    rows = (cells(results, arm, one_in) for arm, one_in in arms)
    head = ["", "error of the latents", "captions kept", "pairs"]
    caption = (
        f"Windows of 1 in {said['ablated']} image tokens, {said['grid']} x {said['grid']} of them, {said['captions']} "
        f"held-out captions, {said['steps']} steps, the first {said['dense']:.0%} dense. Error: mean square over the "
        "variance of the dense latents, with 95 % intervals over captions. Pairs: a share of dense attention's, with "
        "text and with the windows of steps that take statistics."
    )
    return f"{markdown_table(head, rows)}\n\n{caption}"


def cells(results: Results, arm: str, one_in: int) -> list[str]:
    """Of one arm."""
    where: dict[str, Any] = {"arm": arm, "one_in": one_in}
    error, kept = t_interval(results.values("runs.error", **where)), results.values("runs.kept", **where)
    shown = f"{error.mid:.4f} [{error.low:.4f}, {error.high:.4f}]" if arm != DENSE else "0"
    return [arm, shown, f"{fmean(kept):.2f}", f"{results.values('runs.density', **where)[0]:.2f}"]


def plot_widths(results: Results, figures: Figures) -> str:
    """Mean error over how many tokens a window keeps one of."""
    swept = [row for row in results.rows("runs") if row["arm"] in ABLATIONS]
    chosen = Results(
        device=results.device, date=results.date, versions=results.versions, settings=results.settings,
        tables={"runs": swept},
    )  # fmt: skip
    about = "Error of the latents by width of the window"
    return Lines(
        source="runs.error", x="one_in", about=about, name="widths", label="error of the latents", scale="log"
    )(chosen, figures)


def plot_shares(results: Results, figures: Figures) -> str:
    """By step, means over sites: the share, and how much it and its sum move."""
    figure = Figure(figsize=(7.4, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for site in results.distinct("shares.site"):
        share = results.by("shares.share", "step", site=site)
        left.plot(list(share), list(share.values()), lw=1, label=site.removesuffix(".attn").replace("_blocks", ""))
    for name, label in (("sum_moves", "sum of the window"), ("share_moves", "its share")):
        moves = results.by(f"shares.{name}", "step")
        right.plot(list(moves), list(moves.values()), "o-", ms=3, label=label)
    left.set(xlabel="step", ylabel="share of the softmax in the window", ylim=(0, 1))
    right.set(xlabel="step", ylabel="change of the log in a step", ylim=(0, None))
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=7)
    return figures.save("shares", figure, "The window's share by step, and how much it moves")


def masking_table(results: Results, figures: Figures) -> str:
    """Squared errors of outputs, means over sites and steps."""
    names = {"before": "before the softmax", "after": "after the softmax"}
    rows = ([text, f"{fmean(results.values(f'shares.{name}')):.3f}"] for name, text in names.items())
    return markdown_table(["masked", "error of the output"], rows)


def plot_mask(results: Results, figures: Figures) -> str:
    """The masks of a small picture and of a small video with text."""
    picture, video = Layout.image_only((1, 8, 8)), Layout.joint(text=8, grid=(3, 4, 6))
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    shown = ((picture, "picture of 8 x 8"), (video, "8 text tokens, 3 frames of 4 x 6"))
    for axes, (layout, title) in zip(figure.subplots(1, 2), shown, strict=True):
        seen = RasterWindow(1 / 6).materialize(layout, layout)[0, 0].to(torch.uint8)
        axes.imshow(seen.numpy(), cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
        axes.set(title=title, xlabel="key", ylabel="query")
    return figures.save("mask", figure, "The window on a picture and on a video, one token in six")


SECTIONS = {
    "arms": (arms_table,),
    "widths": (plot_widths,),
    "shares": (plot_shares, masking_table),
    "claims": (Verdicts(CLAIMS, differences=True),),
    "mask": (plot_mask,),
}
