"""Kinetics' page: what is claimed, tables and curves."""

import numpy as np
from matplotlib.figure import Figure

from saccade.experiments import Claim, Figures, Note, Results, RowTable, Verdicts
from saccade.experiments.claims import Measure
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.kinetics.cost import B200, Budget
from saccade.papers.kinetics.drawing import cost_curves
from saccade.papers.kinetics.frontier import Frontier, best_fixed
from saccade.papers.kinetics.shapes import QWEN3
from saccade.ui.markdown import markdown_table

DENSE, PAGED = "all keys", "best pages"
FLOPS, WHOLE = "FLOPs alone", "with the cache"


def over_laws(column: str) -> Measure:
    """A measure: the mean of a column over the laws."""
    return lambda found: t_interval(found.values(f"laws.{column}"))


def faster(found: Results) -> Interval:
    """By how much the longest cache gains more than the shortest, round by round."""
    first, *_, last = found.distinct("speed.arm")
    short, long = (found.by("speed.measured", "round", arm=arm) for arm in (first, last))
    return t_interval([long[number] - short[number] for number in long])


def as_predicted(found: Results) -> Interval:
    """Half less the distance of measured from predicted gain on the longest cache, as a share of the prediction."""
    last = found.distinct("speed.arm")[-1]
    rows = found.rows("speed", arm=last)
    return t_interval([0.5 - abs(row["measured"] / row["predicted"] - 1) for row in rows])


def curves(found: Results, seed: int, column: str) -> dict[str, Frontier]:
    """The frontier of every budget of keys, over models and numbers of answers."""
    rows = found.rows("sums", seed=seed)
    budgets = np.geomspace(min(row[column] for row in rows), max(row[column] for row in rows), 40)
    made = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        costs, coverage = (np.array([[row[name]] for row in own], dtype=float) for name in (column, "coverage"))
        made[arm] = best_fixed(costs, coverage, budgets)
    return made


def ahead(column: str) -> Measure:
    """A measure: coverage of the best budget of keys less that of all keys, mean over costs, seed by seed."""

    def measure(found: Results) -> Interval:
        gaps = []
        for seed in found.distinct("sums.seed"):
            made = curves(found, seed, column)
            few = np.max([one.coverage for name, one in made.items() if name != DENSE], axis=0)
            gaps.append(float(np.mean(few - made[DENSE].coverage)))
        return t_interval(gaps)

    return measure


CLAIMS = (
    Claim(
        text="with the cache counted a larger model pays (log of its size, at equal budgets)",
        measure=over_laws("larger"),
        digits=2,
    ),
    Claim(text="and a shorter text (log of its length)", measure=over_laws("shorter"), digits=2),
    Claim(text="pages gain more on a longer cache (times)", measure=faster, digits=2),
    Claim(text="their gain on the longest is within half of the predicted one", measure=as_predicted, digits=2),
    Claim(text="sums: few keys reach more at equal cost than all keys", measure=ahead("cost"), digits=3),
)


def plot_costs(found: Results, figures: Figures) -> str:
    """Cost over length."""
    figure = cost_curves(QWEN3, (None, Budget(top=1024)), prompt=256, trials=1, intensity=B200)
    return figures.save("costs", figure, "Cost over length, of all keys and of 1,024")


def plot_sums(found: Results, figures: Figures) -> str:
    """Coverage over cost, first seed."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    for axes, column, title in zip(figure.subplots(1, 2, sharey=True), ("flops", "cost"), (FLOPS, WHOLE), strict=True):
        for name, one in curves(found, found.distinct("sums.seed")[0], column).items():
            axes.semilogx(one.budgets, one.coverage, label=name)
        axes.set_xlabel("mega-FLOPs of a question" + (", equivalent" if column == "cost" else ""))
        axes.set_title(title, fontsize=9)
        axes.legend(fontsize=7)
    return figures.save("sums", figure, "Right answers over cost, by FLOPs alone and with the cache")


def timed(found: Results, figures: Figures) -> str:
    """Medians of times, and gains."""
    lines = []
    for arm in found.distinct("speed.arm"):
        rows = found.rows("speed", arm=arm)
        dense, paged = (np.median([row[name] for row in rows]) for name in (DENSE, PAGED))
        gains = (str(t_interval([row["measured"] for row in rows])), f"{rows[0]['predicted']:.1f}")
        lines.append((arm, f"{dense:.2f}", f"{paged:.2f}", *gains))
    titles = ("tokens in the cache", "all keys, ms", "best pages, ms", "times faster", "predicted by what is read")
    return markdown_table(titles, lines)


SECTIONS = {
    "costs": (plot_costs,),
    "speed": (
        timed,
        Note("One layer of 32 query and 8 key heads, {pages} pages of 16 tokens, {rounds} rounds in turn."),
    ),
    "sums": (
        plot_sums,
        RowTable(
            table="sums", where={"seed": 0, "answers": 1},
            cells={
                "model": "{model}", "keys": "{arm}", "right": "{coverage:.2f}", "mega-FLOPs": "{flops:.1f}",
                "with the cache": "{cost:.1f}",
            },
        ),
        Note("{questions} questions of {digits} digits, {trials} answers each, {steps} steps of training."),
    ),
    "claims": (Verdicts(CLAIMS, differences=True),),
}  # fmt: skip
