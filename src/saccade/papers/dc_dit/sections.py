"""The sections of DC-DiT's page that are made from results, and the claims with their verdicts."""

from dataclasses import dataclass
from math import inf, log

from matplotlib.figure import Figure

from saccade.data.labelled import open_scenes
from saccade.data.pixels import to_bytes
from saccade.experiments import Claim, Figures, Results
from saccade.experiments.claims import verdict
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.dc_dit.cost import dit_flops, flops
from saccade.papers.dc_dit.measures import unpacked
from saccade.papers.dc_dit.model import SIZES
from saccade.ui.markdown import markdown_table

RATIO = 4.0  # tokens for each kept one that training aims at
PLAIN, MANY = "as before", "many budgets"
EDGES = 1.5  # kept at edges over kept on the background, at least
NONE = 1e-4  # taken for a share of nothing at all
IDLE = 5.0  # percent of the loss below which the main network does next to nothing


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A row of the table "overall" that should lie above `low`, and below `high`, by two standard errors."""

    name: str
    text: str
    low: float
    high: float = inf
    show: str

    @property
    def bounds(self) -> str:
        """In words."""
        return f"above {self.low:g}" if self.high == inf else f"{self.low:g} to {self.high:g}"

    @property
    def claim(self) -> Claim:
        """The same as a claim."""
        return Claim(text=f"{self.text}: {self.bounds}", measure=self.within, digits=6 if "e" in self.show else 2)

    def within(self, results: Results) -> Interval:
        """How far the value lies within the nearer bound, with two standard errors on either side."""
        (row,) = results.rows("overall", name=self.name)
        inside, reach = min(row["value"] - self.low, self.high - row["value"]), 2 * row["value_error"]
        return Interval(low=inside - reach, mid=inside, high=inside + reach, n=results.settings["noise"]["pictures"])


EXPECTED = (
    Expected(name="edges", text="kept within a pixel of an edge / on the background", low=EDGES, show=".2f"),
    Expected(name="rise", text="tokens at the least noise less those at the most", low=0, show=".0f"),
    Expected(
        name="compression", text="pixels for each kept token", low=0.75 * RATIO, high=1.25 * RATIO, show=".2f"
    ),
    Expected(name="random", text="loss with random tokens less that with the router's", low=0, show=".1e"),
    Expected(
        name="flatter", text="rise of the loss to rho 0.6, less that after training for many budgets", low=0,
        show=".1e",
    ),
)  # fmt: skip


def expectations(results: Results, figures: Figures) -> str:
    """A line for each of the claims on the models that learn the noise."""
    rows = []
    for each in EXPECTED:
        (row,) = results.rows("overall", name=each.name)
        rows.append([each.text, each.bounds, _pm(row, "value", each.show), verdict(each.within(results))])
    note = "*Confirmed or refuted where the measured value is two standard errors from the bound.*"
    return f"{markdown_table(['', 'claim', 'measured', ''], rows)}\n\n{note}"


def kept_picture(results: Results, figures: Figures) -> str:
    """A few held-out pictures, and white where their tokens are kept, by noise."""
    chosen, times = results.settings["noise"], results.distinct("cells.time")
    shown = len(results.distinct("cells.picture"))
    source = open_scenes(chosen["side"], count=1, held=chosen["held"])  # what is held out does not depend on `count`
    pictures = to_bytes(source.held_out(shown)[0])
    figure = Figure(figsize=(1.3 * (len(times) + 1), 1.3 * shown), layout="constrained")
    grid = figure.subplots(shown, len(times) + 1, squeeze=False)
    for axis in grid.flat:
        axis.set(xticks=[], yticks=[])
    for axes, pixels, number in zip(grid, pictures, range(shown), strict=True):
        axes[0].imshow(pixels, interpolation="none")
        for axis, row in zip(axes[1:], results.rows("cells", picture=number), strict=True):
            kept = unpacked(row["kept"], chosen["side"])
            axis.imshow(kept, cmap="gray", vmin=0, vmax=1, interpolation="none")
            axis.set_xlabel(f"{kept.sum()} kept", fontsize=7)
    for axis, time in zip(grid[0, 1:], times, strict=True):
        axis.set_title(f"time {time}", fontsize=8)
    link = figures.save("kept", figure, "Kept tokens at several noise levels")
    return f"{link}\n\n*White: kept of held-out pictures, with little noise on the left and much on the right.*"


def levels(results: Results, figures: Figures) -> str:
    """Tokens by noise."""
    rows = [
        [row["time"], _pm(row, "kept", ".0f"), f"{row['edge']:.3f}", f"{row['flat']:.3f}"]
        for row in results.rows("levels")
    ]
    pixels = results.settings["noise"]["side"] ** 2
    heads = ["time of 1000", f"kept of {pixels}", "share kept at edges", "on the background"]
    return markdown_table(heads, rows)


def shares(results: Results, figures: Figures) -> str:
    """Losses by the share that is dropped, and how far the loss depends on the tokens at all."""
    plain, many = (results.rows("shares", arm=arm) for arm in (PLAIN, MANY))
    rows = [
        [f"{one['rho']:.1f}", _pm(one, "loss", ".5f"), _pm(other, "loss", ".5f")]
        for one, other in zip(plain, many, strict=True)
    ]
    table = markdown_table(["rho", PLAIN, MANY], rows)
    title = "Mean squared error of the noise by the share of dropped tokens:"
    return f"{title}\n\n{table}\n\n{caution(plain[0]['loss'], plain[-1]['loss'], plain[-1]['rho'])}"


def caution(whole: float, few: float, rho: float) -> str:
    """How much the loss rises without nearly all tokens, and what follows if that is next to nothing."""
    more = 100 * (few / whole - 1)
    text = f"Without {rho:.0%} of the kept tokens the loss is {more:.1f} % higher."
    if more > IDLE:
        return text
    return (
        f"{text} As far as this net has learned, its convolutions predict the noise nearly alone, past the DiT blocks: "
        "these runs cannot judge what the router keeps, and the verdicts above say little about the paper."
    )


def setting(results: Results, figures: Figures) -> str:
    """How the figures on the noise came about."""
    chosen = results.settings["noise"]
    return (
        f"{results.distinct('models.parameters')[0]:,} parameters, {chosen['steps']} steps of {chosen['batch']} "
        f"pictures, the last {chosen['steps'] - chosen['shared']} apart, one seed; mean and standard error over "
        f"{chosen['pictures']} held-out pictures (a quarter of them for where tokens lie)."
    )


def edge_ratios(results: Results) -> list[float]:
    """By seed: kept at edges over kept on the background, means over times."""
    at_edge, at_flat = results.by("velocity.edge"), results.by("velocity.flat")
    return [max(at_edge[seed], NONE) / max(at_flat[seed], NONE) for seed in at_edge]


def sharper(results: Results) -> Interval:
    """How far the logarithm of these lies above that of `EDGES`."""
    return t_interval([log(ratio / EDGES) for ratio in edge_ratios(results)])


def risen(results: Results) -> list[float]:
    """By seed: tokens at the least noise less those at the most."""
    times = results.distinct("velocity.t")
    least, most = (results.by("velocity.kept", t=t) for t in (min(times), max(times)))
    return [least[seed] - most[seed] for seed in least]


FLOW_CLAIMS = (
    Claim(text=f"edges over background, mean over times, above {EDGES}", measure=sharper, digits=2),
    Claim(text="tokens rise as noise falls", measure=lambda results: t_interval(risen(results)), digits=0),
)


def flow(results: Results, figures: Figures) -> str:
    """Where the models that learn the velocity keep their tokens, a line a time; then the verdicts over seeds."""
    times, seeds = (sorted(results.distinct(f"velocity.{name}")) for name in ("t", "seed"))
    lines = [[t, *(_kept_at(results, t, seed) for seed in seeds)] for t in times]
    table = markdown_table(["noise", *(f"seed {seed}" for seed in seeds)], lines)
    (edges, rise), least = FLOW_CLAIMS, min(edge_ratios(results))
    return (
        f"{table}\n\n"
        f"Kept of {results.distinct('velocity.tokens')[0]} tokens: share kept at edges / on the background.\n\n"
        f"- {edges.text}: **{edges.verdict(results)}** over {len(seeds)} seeds; the least is {least:.2f}\n"
        f"- {rise.text}: **{rise.verdict(results)}**, by {', '.join(f'{each:+.0f}' for each in risen(results))}"
    )


def costs(results: Results, figures: Figures) -> str:
    """Published sizes at a token for each 2 x 2 cells, and with six in ten of those dropped."""
    heads = ["size", "DiT, patches of 2", "256 tokens, as published", "with the layer around", "at rho 0.6"]
    return markdown_table(heads, [[size, *(f"{value / 1e9:.2f}" for value in _costs(size))] for size in SIZES])


def _costs(size: str) -> tuple[float, ...]:
    config = SIZES[size]
    whole, few = flops(config, 256), flops(config, 256 - int(0.6 * 256))
    return dit_flops(config), whole.published, whole.total, few.total


def _kept_at(results: Results, t: float, seed: int) -> str:
    (row,) = results.rows("velocity", t=t, seed=seed)
    return f"{row['kept']:.0f}: {row['edge']:.2f} / {row['flat']:.2f}"


def _pm(row: dict[str, float], name: str, form: str) -> str:
    return f"{row[name]:{form}} ± {row[f'{name}_error']:{form}}"


SECTIONS = {"runs": (expectations, kept_picture, levels, shares, setting), "flow": (flow,), "costs": (costs,)}
CLAIMS = (*(each.claim for each in EXPECTED), *FLOW_CLAIMS)
