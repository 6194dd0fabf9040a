"""DMA's page: its tables and plots, and what is claimed of it."""

from matplotlib.figure import Figure

from saccade.experiments import (
    ArmTable,
    Claim,
    Column,
    Figures,
    Note,
    Results,
    Verdicts,
    higher,
)  # fmt: skip
from saccade.experiments.claims import difference
from saccade.metrics.intervals import Interval, t_interval

FULL, OURS, WINDOW, ALONE = "full attention", "DMA", "sliding window", "DMA, score not in the logits"
WINDOWED = "w = {}"
NEAR = 0.05
TINTS = {OURS: "#2f6fb0", WINDOW: "#d9822b"}


def near_full(results: Results) -> Interval:
    """By how much less than NEAR of the answers DMA lies below full attention."""
    found = difference(results, "recall.right", OURS, FULL)
    return Interval(low=found.low + NEAR, mid=found.mid + NEAR, high=found.high + NEAR, n=found.n)


def on(arm: str, results: Results, which: int = 0) -> str:
    """The name of an arm on text, with its window."""
    return f"{arm}, {WINDOWED.format(results.settings['windows'][which])}"


def text_claim(text: str, worse: str, better: str) -> Claim:
    """At the smallest window one arm has more nats than another."""

    def measure(found: Results) -> Interval:
        one, other = (arm if arm == FULL else on(arm, found) for arm in (worse, better))
        return difference(found, "text.nats", one, other)

    return Claim(text=text, measure=measure)


def faster(results: Results) -> Interval:
    """How many times as long full attention takes at the longest text, above once."""
    last = max(results.values("kernels.length"))
    rows = {arm: results.by("kernels.ms", "round", arm=arm, length=last) for arm in ("full", "gathered")}
    return t_interval([rows["full"][at] / rows["gathered"][at] - 1 for at in rows["full"]])


RECALL_CLAIMS = (
    higher("DMA recalls more than a sliding window of as many keys", "recall.right", OURS, than=WINDOW, digits=3),
    Claim(text=f"DMA recalls as much as full attention, to {NEAR:.0%}", measure=near_full, digits=3),
    higher("the score in the logits is what trains the choice", "recall.right", OURS, than=ALONE, digits=3),
)
TEXT_CLAIMS = (
    text_claim("at the smallest window DMA has fewer nats than a sliding window", WINDOW, OURS),
    text_claim("full attention has fewer nats than DMA", OURS, FULL),
    text_claim("the score in the logits lowers the nats", ALONE, OURS),
)
KERNEL_CLAIMS = (Claim(text="gathered is faster than full attention at the longest text", measure=faster, digits=2),)
CLAIMS = (*RECALL_CLAIMS, *TEXT_CLAIMS, *KERNEL_CLAIMS)


def plot_lives(results: Results, figures: Figures) -> str:
    """When each key of one text is kept, as a bar from the query that first sees it to the last that keeps it."""
    rows = results.rows("lives")
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    for panel, row in zip(figure.subplots(1, len(rows), sharey=True, squeeze=False)[0], rows, strict=True):
        until = row["until"]
        widths = [max(end - start, 0) for start, end in enumerate(until)]
        panel.barh(range(len(until)), widths, left=range(len(until)), height=0.8, color=TINTS[row["arm"]])
        panel.axhline(2 * results.settings["pairs"] - 0.5, color="#8a8f98", lw=0.8)
        panel.set(title=row["arm"], xlabel="query", xlim=(0, len(until)))
    figure.axes[0].invert_yaxis()  # of all: they share it
    figure.axes[0].set_ylabel("key; above the line: stored pairs")
    return figures.save("lives", figure, "Which queries keep which keys")


def plot_kernels(results: Results, figures: Figures) -> str:
    """Milliseconds and pairs by length."""
    lengths = results.distinct("kernels.length")
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    panels = zip(figure.subplots(1, 2), ("ms", "share"), ("milliseconds", "share of all pairs computed"), strict=True)
    for panel, column, title in panels:
        for arm in results.distinct("kernels.arm"):
            means = results.by(f"kernels.{column}", "length", arm=arm)
            panel.plot(list(means), list(means.values()), "o-", markersize=3, label=arm)
        panel.set(title=title, xlabel="tokens", xscale="log", yscale="log")
        panel.set_xticks(lengths, [str(each) for each in lengths])
        panel.minorticks_off()
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figures.save("kernels", figure, "Cost by length")


SECTIONS = {
    "lives": (plot_lives,),
    "recall": (
        Note(
            "Two layers of width {width}, {heads} heads, {steps} steps of {batch} texts; {pairs} pairs in {length} "
            "tokens of {vocabulary}; {window} keys kept."
        ),
        ArmTable(
            of="recall.arm",
            columns=(
                Column(source="recall.right", title="right", show=".3f", interval=True),
                Column(source="kept.keys", title="keys a query", show=".1f"),
                Column(source="kept.values", title="stored values kept where asked", show=".0%"),
            ),
        ),
        Verdicts(RECALL_CLAIMS, True),
    ),
    "text": (
        Note(
            "The same layers on {corpus} by characters, {text_steps} steps of {text_batch} texts of {characters}; "
            "{windows_judged} texts held out."
        ),
        ArmTable(
            of="text.arm",
            columns=(
                Column(source="text.nats", title="nats a character"),
                Column(source="text.nats", title=f"more than {FULL}", against=FULL),
            ),
        ),
        Verdicts(TEXT_CLAIMS, True),
    ),
    "kernels": (
        Note("Forward and backward of one layer's attention: 4 heads, 2 of keys, 32 channels each, {kept} keys kept."),
        plot_kernels,
        Verdicts(KERNEL_CLAIMS, True),
    ),
}  # fmt: skip
