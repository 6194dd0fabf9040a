"""The report's plots: SVG text whose colours are the page's own, so that they follow its light and dark themes."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from math import isfinite, nan
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from saccade.compare.comparison import Comparison
from saccade.compare.summary import Summary, summarise
from saccade.metrics.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

INK, MUTED, LINE, SURFACE = "#0a0b0c", "#0a0b0d", "#0a0b0e", "#0a0b0f"  # stand for the page's colours
ARMS = tuple(f"#a0b0c{i}" for i in range(10))  # and these for its colours of arms
_NAMES = {INK: "--ink", MUTED: "--muted", LINE: "--line", SURFACE: "--surface"}
_NAMES |= {stand_in: f"--arm-{i}" for i, stand_in in enumerate(ARMS)}
ROOMY = 16  # columns up to which tiles carry their figures
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "saccade",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlecolor": MUTED,
}


def colour(index: int) -> str:
    """The stand-in colour of the arm of this place; arms beyond the tenth repeat."""
    return ARMS[index % len(ARMS)]


def trade_off(comparison: Comparison) -> str | None:
    """Speed against fidelity, one point per system, and where the floor lies; None where nothing can be drawn."""
    rows = summarise(comparison)
    shown = [(i, row) for i, row in enumerate(rows) if row.role == "system" and row.psnr is not None]
    if not shown:
        return None
    with themed_axes(6.4, 4.2) as ((ax,), done):
        for place, (i, row) in enumerate(shown):
            _cross(ax, row, colour(i), 6 if place % 2 else -13)
        ax.axvline(1, color=MUTED, lw=1)
        ax.set(xlabel=f"speed-up of {_what(shown[0][1])}  (×)", ylabel="PSNR to dense  (dB)")
        ax.margins(0.18)
        for row in rows:
            if row.role == "floor" and row.psnr is not None:
                _floor(ax, row.psnr.mid)
        return done()


def times(comparison: Comparison) -> str:
    """Speed-up per visit, end to end and in attention: a dot for every visit, a bar at the median."""
    panels = [("end to end", lambda arm: arm.seconds)]
    if all(arm.attention for arm in comparison.arms):
        panels.insert(0, ("attention", lambda arm: arm.attention))
    arms = comparison.arms
    with themed_axes(6.4, 0.42 * len(arms) + 1, columns=len(panels)) as (axes, done):
        for ax, (title, spent) in zip(axes, panels, strict=True):
            dense = np.array(spent(comparison.reference))
            for i, arm in enumerate(arms):
                ratio = dense / np.array(spent(arm))
                ax.plot(ratio, np.full(len(ratio), i), "o", ms=4.5, mfc=colour(i), mec="none", alpha=0.55)
                ax.plot([np.median(ratio)] * 2, (i - 0.3, i + 0.3), color=colour(i), lw=2.5, solid_capstyle="round")
            ax.axvline(1, color=MUTED, lw=1)
            ax.set(title=f"{title}  (×)", ylim=(len(arms) - 0.4, -0.6))
            ax.set_yticks(range(len(arms)), [_short(arm.label) for arm in arms] if ax is axes[0] else [])
        return done()


def densities(comparison: Comparison) -> str | None:
    """Density by arm and site, as shade; None where every site of every arm is dense."""
    arms = [(i, arm) for i, arm in enumerate(comparison.arms) if arm.role == "system" and arm.sites]
    if not any(site.density != 1 for _, arm in arms for site in arm.sites):
        return None
    sites = [site.name.replace("transformer_blocks", "blocks").removesuffix(".attn") for site in arms[0][1].sites]
    shares = [[nan if site.density is None else site.density for site in arm.sites] for _, arm in arms]
    return _shades(shares, [arm.label for _, arm in arms], [i for i, _ in arms], sites, ".2f")


def promises(comparison: Comparison) -> str | None:
    """Share kept by kind of promise and arm, as shade; None where nothing was judged."""
    rows = summarise(comparison)
    if not all(row.kept for row in rows):
        return None
    kinds = [kind for kind in rows[0].kept if any(isfinite(row.kept[kind]) for row in rows)]
    shares = [[row.kept[kind] for kind in kinds] for row in rows]
    return _shades(shares, [row.label for row in rows], range(len(rows)), kinds, ".0%")


def _shades(
    shares: Sequence[Sequence[float]], labels: Sequence[str], tints: Sequence[int], columns: Sequence[str], form: str
) -> str:
    """A tile per share, the darker the larger, with its figure where there is room."""
    roomy = len(columns) <= ROOMY
    with themed_axes(6.4, 0.4 * len(labels) + 1.1) as ((ax,), done):
        ax.grid(False)
        for y, (row, tint) in enumerate(zip(shares, tints, strict=True)):
            for x, share in enumerate(row):
                if isfinite(share):
                    ax.add_patch(_tile(x, y, share, colour(tint)))
                    ax.text(x, y, f"{share:{form}}" if roomy else "", ha="center", va="center", color=INK, size=9.5)
        ax.set(xlim=(-0.55, len(columns) - 0.45), ylim=(len(labels) - 0.45, -0.55))
        ax.set_yticks(range(len(labels)), map(_short, labels))
        every = range(0, len(columns), 1 if roomy else len(columns) // 8)
        ax.set_xticks(every, [columns[i] for i in every], rotation=25, ha="right")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        return done()


def _what(row: Summary) -> str:
    return "the pipeline call" if row.attention is None else "attention"


def _cross(ax: "Axes", row: Summary, tint: str, label_at: int) -> None:
    x = (row.total if row.attention is None else row.attention).speedup
    y = row.psnr
    assert y is not None
    ax.errorbar(x.mid, y.mid, xerr=_reach(x), yerr=_reach(y), fmt="o", ms=8, color=tint, lw=1.6, mec=SURFACE, mew=1.2)
    ax.annotate(_short(row.label), (x.mid, y.mid), xytext=(8, label_at), textcoords="offset points", color=INK, size=10)


def _reach(x: Interval) -> np.ndarray:
    return np.nan_to_num([[x.mid - x.low], [x.high - x.mid]]).clip(0)


def _floor(ax: "Axes", height: float) -> None:
    """A dashed line at the floor's PSNR, or a word on where it lies, far above the systems."""
    low, high = ax.get_ylim()
    if height <= high + 0.3 * (high - low):
        ax.axhline(height, color=MUTED, lw=1.2, ls=(0, (4, 3)))
        ax.text(
            0.99, height, "numeric floor ", transform=ax.get_yaxis_transform(), ha="right", va="bottom", color=MUTED
        )
    else:
        ax.text(
            0.99, 0.98, f"↑ numeric floor {height:.0f} dB", transform=ax.transAxes, ha="right", va="top", color=MUTED
        )


def _tile(x: int, y: int, share: float, tint: str) -> "FancyBboxPatch":
    from matplotlib.patches import FancyBboxPatch

    shape, strength = "round,pad=0,rounding_size=0.08", 0.06 + 0.38 * share
    return FancyBboxPatch((x - 0.46, y - 0.4), 0.92, 0.8, boxstyle=shape, fc=tint, ec="none", alpha=strength)


def _short(label: str) -> str:
    return label if len(label) <= 34 else label[:33] + "…"


@contextmanager
def themed_axes(width: float, height: float, columns: int = 1) -> "Iterator[tuple[list[Axes], Callable[[], str]]]":
    """Axes in a row, in inches, and what gives the finished figure as SVG in the page's colours."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained", squeeze=False)
        try:
            yield list(axes[0]), lambda: _svg(figure)
        finally:
            plt.close(figure)


def _svg(figure: "Figure") -> str:
    """The figure as an svg element that takes the page's colours and font; ids are made unique per figure."""
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    for stand_in, name in _NAMES.items():
        svg = svg.replace(stand_in, f"var({name})")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    mark = f"p{crc32(svg.encode())}"
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{mark}-", svg)
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'class="plot" role="img"', svg, count=1)
