"""The page: what is claimed, tables and pictures."""

from statistics import fmean

from saccade.experiments import Claim, Figures, Lines, Note, Results, Verdicts
from saccade.experiments.claims import Measure, higher
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.position_bias.drawing import plot_depths
from saccade.papers.position_bias.masks import Causal, Window
from saccade.ui.markdown import markdown_table, signed

NONE, DECAY, ENDS = "no positions", "decay 0.8", "no positions, answers at both ends"
PLAIN, HALF = "attention alone", "half residual"
BASES = (1e2, 1e3, 1e4, 1e5, 1e6)


def as_predicted(found: Results) -> Interval:
    """Half a token less the distance of the bulk's peak from d*, while the edge has not taken over."""
    rows = [row for row in found.rows("peaks") if not row["edge"]]
    return t_interval([0.5 - abs(row["measured"] - row["predicted"]) for row in rows])


def deeper_is_earlier(found: Results) -> Interval:
    """Early bias of the most layers less that of one, for each slope."""
    gaps = []
    for slope in found.distinct("peaks.slope"):
        rows = found.rows("peaks", slope=slope)
        gaps.append(rows[-1]["early"] - rows[0]["early"])
    return t_interval(gaps)


def gaps(found: Results, arm: str, depth: int, places: str = "first/last") -> dict[int, float]:
    """By seed how much the earlier place is preferred."""
    return found.by("networks.gap", "seed", arm=arm, depth=depth, places=places)


def early(found: Results) -> Interval:
    """First over last without positions, deepest networks."""
    return t_interval([*gaps(found, NONE, max(found.distinct("networks.depth"))).values()])


def grows(found: Results) -> Interval:
    """The same less that of the shallowest."""
    depths = found.distinct("networks.depth")
    deep, flat = (gaps(found, NONE, end(depths)) for end in (max, min))
    return t_interval([deep[seed] - flat[seed] for seed in deep])


def shifted(found: Results) -> Interval:
    """How much less the first is preferred under decay, mean over depths."""
    depths = found.distinct("networks.depth")
    one, two = ([gaps(found, arm, depth) for depth in depths] for arm in (NONE, DECAY))
    return t_interval([fmean(a[seed] - b[seed] for a, b in zip(one, two, strict=True)) for seed in one[0]])


def lost_in_the_middle(found: Results) -> Interval:
    """Both ends over the middle where training asked of both ends."""
    (depth,) = found.distinct("networks.depth", arm=ENDS)
    left, right = (gaps(found, ENDS, depth, places) for places in ("first/middle", "middle/last"))
    return t_interval([(left[seed] - right[seed]) / 2 for seed in left])


def agreement(arm: str) -> Measure:
    """Rank correlation of rollout with gradients, a mean for each seed."""
    return lambda found: t_interval([*found.by("reader.correlation", "seed", arm=arm).values()])


CLAIMS = (
    Claim(text="under decay the bulk's peak is at d* tokens back, until the first token takes over (half a token less "
          "the distance)", measure=as_predicted, digits=2),
    Claim(text="and depth moves the mass to early tokens (early bias, deepest less one layer)",
          measure=deeper_is_earlier, digits=2),
    higher("a larger rotary base gives more early bias (10^6 over 10^2)", "bases.early", "1e+06", than="1e+02",
           pair="width", digits=2),
    Claim(text="trained networks without positions prefer the first place to the last (accuracy)", measure=early,
          digits=3),
    Claim(text="and more so when deeper", measure=grows, digits=3),
    Claim(text="decay shifts the preference to the last place", measure=shifted, digits=3),
    Claim(text="answers at both ends in training leave the middle behind", measure=lost_in_the_middle, digits=3),
    Claim(text="rollout with half a residual ranks inputs as gradients do (rank correlation)",
          measure=agreement(HALF), digits=2),
    higher("and better than attention alone does", "reader.correlation", HALF, than=PLAIN, digits=2),
)  # fmt: skip


def depths(found: Results, figures: Figures) -> str:
    """Heat maps of the last token's row over depth."""
    kinds = {
        "causal": (Causal(), 0.0), "window of 8": (Window(width=8), 0.0),
        "decay 0.5": (Causal(), 0.5), "decay 0.1": (Causal(), 0.1),
    }  # fmt: skip
    figure = plot_depths(kinds, tokens=64, layers=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32))
    return figures.save("depths", figure, "Where the mass of the last of 64 tokens comes from, over depth")


def peaks(found: Results, figures: Figures) -> str:
    """Peaks, measured and predicted."""
    lines = []
    for slope in found.distinct("peaks.slope"):
        rows = found.rows("peaks", slope=slope)
        shown = (f"{row['measured']}{'*' if row['edge'] else ''} ({row['predicted']})" for row in rows)
        lines.append((f"{slope:g}", *shown))
    layers = found.distinct("peaks.layers")
    return markdown_table(("slope", *(f"n = {n}" for n in layers)), lines)


def networks(found: Results, figures: Figures) -> str:
    """Preferences of the trained networks."""
    lines = []
    for arm in found.distinct("networks.arm"):
        for depth in found.distinct("networks.depth", arm=arm):
            rows = found.rows("networks", arm=arm, depth=depth, places="first/last")
            cells = [
                signed(t_interval([*gaps(found, arm, depth, places).values()]), 3)
                for places in found.distinct("networks.places")
            ]
            lines.append((arm, depth, f"{fmean(row['accuracy'] for row in rows):.2f}", *cells))
    titles = (f"{places.replace('/', ' over ')}" for places in found.distinct("networks.places"))
    return markdown_table(("network", "layers", "accuracy in training", *titles), lines)


def reader(found: Results, figures: Figures) -> str:
    """Rank correlations."""
    lines = [(arm, str(agreement(arm)(found))) for arm in found.distinct("reader.arm")]
    return markdown_table(("influence of each token", "rank correlation with gradients"), lines)


SECTIONS = {
    "theory": (
        depths,
        peaks,
        Lines(source="bases.early", x="layers", name="bases", panels="width", label="early bias",
              about="Early bias over depth for rotary bases"),
    ),
    "networks": (
        networks,
        Note("{steps} steps of {batch} texts; {texts} texts of novel classes for each two places."),
    ),
    "reader": (reader,),
    "claims": (Verdicts(CLAIMS, differences=True),),
}  # fmt: skip
