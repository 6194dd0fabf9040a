"""The page of visual sinks: tables, a scatter, and verdicts."""

from matplotlib.figure import Figure

from saccade.experiments import ArmTable, Claim, Column, Figures, Note, Results, Verdicts, higher
from saccade.metrics.intervals import Interval, t_interval

NOTHING, SINKS, RANDOM = "nothing", "the loudest patches", "as many at random"
CLEAN, PLANTED, CHOSEN, ALL = "no sink", "a sink", "moved in chosen heads", "moved in all heads"


def on_background(found: Results) -> Interval:
    """How much more of the loudest patches lie on background than of all patches, mean over layers, seed by seed."""
    rows = found.rows("sinks")
    gaps = [
        [row["background"] - row["everywhere"] for row in rows if row["seed"] == seed]
        for seed in found.distinct("sinks.seed")
    ]
    return t_interval([sum(gap) / len(gap) for gap in gaps])


CLAIMS = (
    Claim(text="the loudest patches lie on background more often than patches do", measure=on_background, digits=3),
    higher("answers need them less than as many at random (nats)", "knockout.nats", RANDOM, than=SINKS, digits=3),
    higher("a sink made by hand harms (nats)", "planted.nats", PLANTED, than=CLEAN, digits=3),
    higher("weight moved in chosen heads mends some of it (nats)", "planted.nats", PLANTED, than=CHOSEN, digits=3),
    higher("weight moved in all heads harms (nats)", "planted.nats", ALL, than=PLANTED, digits=3),
)
SCORES = (("right", "right answers", ".3f"), ("nats", "nats of the right one", ".4f"))


def plot_scatter(found: Results, figures: Figures) -> str:
    """Values and weights of the first seed's tokens."""
    rows = [row for row in found.rows("scatter") if row["seed"] == found.distinct("scatter.seed")[0]]
    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.subplots()
    last = max(row["place"] for row in rows)
    kinds = {"first token": lambda p: p == 0, "patches": lambda p: 0 < p < last, "question": lambda p: p == last}
    for name, of_kind in kinds.items():
        own = [row for row in rows if of_kind(row["place"])]
        axes.scatter([row["value"] for row in own], [row["received"] for row in own], s=12, label=name)
    axes.set_xlabel("sink value")
    axes.set_ylabel("weight received from a query")
    axes.legend(fontsize=7)
    return figures.save("scatter", figure, "Sink value of every token of a text, and the weight it receives, layer 2")


def _scores(table: str) -> ArmTable:
    columns = tuple(Column(source=f"{table}.{name}", title=title, show=show) for name, title, show in SCORES)
    return ArmTable(columns=columns, of=f"{table}.arm", title="taken away" if table == "knockout" else "model")


SECTIONS = {
    "sinks": (
        plot_scatter,
        ArmTable(
            of="sinks.arm",
            title="input of",
            columns=(
                Column(source="sinks.first", title="first token", show=".1f"),
                Column(source="sinks.loudest", title="loudest patch", show=".1f"),
                Column(source="sinks.median", title="median patch", show=".1f"),
                Column(source="sinks.above", title="patches above 20", show=".0f"),
                Column(source="sinks.background", title="loudest on background", show=".3f"),
                Column(source="sinks.everywhere", title="all on background", show=".3f"),
            ),
        ),
        Note("Means over models of seeds {seeds}, {questions} pictures each; the loudest are {share} of all patches."),
    ),
    "knockout": (_scores("knockout"),),
    "planted": (
        _scores("planted"),
        Note("tau {tau}, rho {rho}, take {take}; up to {score} added to scores, {times} to the token."),
    ),
    "claims": (Verdicts(CLAIMS, differences=True),),
}
