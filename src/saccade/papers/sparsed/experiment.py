"""SparseD: what its steps save, and what it leaves of a small masked-diffusion language model.

Expected: the attention of a head changes less from step to step than from head to head; another head's pattern, a
window of equal density and a pattern from the first step are worse; sparse early steps cost more than sparse late ones.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from math import hypot
from statistics import fmean
from typing import Any

from saccade.core.mechanism import System
from saccade.experiments import Bench, Claim, Experiment, Figures, Results, Row, Verdicts
from saccade.metrics.intervals import Interval, error_interval, t_interval
from saccade.metrics.machine import device_name
from saccade.ops import warm
from saccade.papers.sparsed.ablations import Between, Rolled, Window
from saccade.papers.sparsed.step_times import STEPS, Timing, measure, threads, whole_run
from saccade.papers.sparsed.texts import Judge, Texts, Writer, likeness_by_layer
from saccade.systems.dense import Dense
from saccade.ui.markdown import markdown_table

LIKENESS = {
    "next_step": "a head and itself one step later",
    "first_and_last": "a head at the first step and the last",
    "other_heads": "a head and another at the same step",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the timed steps, and of the texts."""

    timing: Timing = field(default_factory=Timing)
    texts: Texts = field(default_factory=Texts)


def itself(found: Results) -> Interval:
    """How much more a head resembles itself over all steps than other heads, over layers."""
    return t_interval([row["first_and_last"] - row["other_heads"] for row in found.rows("likeness")])


def more(text: str, column: str, arm: str, *, than: str) -> Claim:
    """`table.column` is higher for one arm than for another, by the standard errors of both."""
    table, _, name = column.partition(".")

    def measure(found: Results) -> Interval:
        one, two = (found.rows(table, arm=label)[0] for label in (arm, than))
        error = hypot(*(row[f"{name}_error"] for row in (one, two)))
        return error_interval(one[name] - two[name], error, found.settings["texts"]["texts"])

    return Claim(text=text, measure=measure)


USUAL, EARLY, LATE = "SparseD, keep 0.3", "sparse up to 25.0%", "sparse from 75.0% on"
CLAIMS = (
    Claim(text="a head resembles itself over all steps more than it resembles other heads (cosine)", measure=itself),
    more("another head's pattern moves predictions further than a head's own (KL)",
         "arms.kl", "another head's pattern", than=USUAL),
    more("a sparse first quarter of the steps changes more of the text than a sparse last one (same characters)",
         "switches.agreement", LATE, than=EARLY),
    more("a sparse first quarter moves predictions further than a sparse last one (KL)",
         "switches.kl", EARLY, than=LATE),
    more("leaving out the warm-up changes more of the text (same characters)",
         "arms.agreement", "the paper's rule", than="no warm-up"),
    more("leaving out the warm-up moves predictions further (KL)", "arms.kl", "no warm-up", than="the paper's rule"),
    more("choosing among all keys together moves predictions further than isolation (KL)",
         "arms.kl", "no isolation", than=USUAL),
    more("a window of the same density moves predictions further (KL)", "arms.kl", "window", than=USUAL),
)  # fmt: skip


def times_table(results: Results, figures: Figures) -> str:
    """A line for each length and type; whole runs with their ideal in brackets."""
    timing = Timing(**results.settings["timing"])
    head = ["", "tokens", "type", "dense, ms", "best dense, ms", "finding, ms", "sparse, ms", "faster", "ideal"]
    rows = [
        [
            row["what"], row["tokens"], row["dtype"], f"{row['plain_ms']:.0f}",
            "" if row["best_ms"] is None else f"{row['best_ms']:.0f}", f"{row['find_ms']:.0f}",
            f"{row['sparse_ms']:.0f}", f"{row['speedup']:.2f} ({row['speedup_low']:.2f} to {row['speedup_high']:.2f})",
            f"{row['ideal']:.2f}", *(whole_cell(steps, row, timing) for steps in STEPS),
        ]
        for row in results.rows("times")
    ]  # fmt: skip
    left_out = "".join(f" Without the native kernel: {why}." for why in results.distinct("times.lacks") if why)
    caption = f"{_caption(asdict(timing))}; {results.distinct('times.device')[0]}.{left_out}"
    return f"{markdown_table([*head, *(f'{n} steps' for n in STEPS)], rows)}\n\n{caption}"


def whole_cell(steps: int, row: Row, timing: Timing) -> str:
    """Of a whole run."""
    found = whole_run(steps, row, timing.sparsed(row["tokens"]))
    return f"{found['speedup']:.2f} ({found['ideal']:.2f})"


def likeness_table(results: Results, figures: Figures) -> str:
    """Three cosines, means over layers."""
    rows = ([text, f"{fmean(results.values(f'likeness.{name}')):.3f}"] for name, text in LIKENESS.items())
    return markdown_table(["between", "cosine"], rows)


@dataclass(frozen=True)
class TextTable:
    """A line for each arm of a table of texts: means with their standard errors."""

    table: str

    def __call__(self, results: Results, figures: Figures) -> str:
        columns = (("kl", ".4f"), ("agreement", ".2f"), ("bound", ".2f"))
        rows = [
            [row["arm"], f"{row['density']:.2f}",
             *(f"{row[name]:{form}} ± {row[f'{name}_error']:{form}}" for name, form in columns)]
            for row in results.rows(self.table)
        ]  # fmt: skip
        texts, source = dict(results.settings["texts"]), results.rows(self.table)[0]["source"]
        options = {name: texts[name] for name in ("prompt", "answer", "steps", "in_turn", "block", "keep")}
        head = ["", "blocks kept", "KL from dense", "same characters", "surprise under dense"]
        return f"{markdown_table(head, rows)}\n\n{texts['texts']} texts of {source}, {_caption(options)}."


def _caption(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items() if not isinstance(value, list | tuple))


EXPERIMENT = Experiment(
    name="sparsed",
    settings=Settings(),
    quick=Settings(
        timing=Timing(tokens=(256,), dtypes=("float32",), heads=1, layers=1, rounds=2, threads=1),
        texts=Texts(
            texts=3, prompt=32, answer=32, steps=4, in_turn=16, draws=2, densities=(0.3,), switches=(0.25, 0.75)
        ),
    ),
    hours=0.2,
    sections={
        "likeness": (likeness_table,),
        "times": (times_table,),
        "arms": (TextTable("arms"),),
        "switches": (TextTable("switches"),),
        "claims": (Verdicts(CLAIMS, differences=True),),
    },
    claims=CLAIMS,
)


@EXPERIMENT.part()
def times(bench: Bench[Settings]) -> Iterable[Row]:
    """Milliseconds of every kind of step, for attention and for a model; `lacks`: why there is no native kernel."""
    timing, lacks = bench.settings.timing, warm()
    cases = [(n, dtype) for n in timing.tokens for dtype in timing.dtypes]
    for done, (n, dtype) in enumerate(cases):
        bench.progress(done, len(cases), f"{n} tokens, {dtype}")
        with threads(timing.threads):
            about = {"lacks": lacks, "device": device_name("cpu")}
            yield from (row | about for row in measure(n, dtype, timing))


@EXPERIMENT.part()
def likeness(bench: Bench[Settings]) -> Iterable[Row]:
    """Cosines of maps, layer by layer."""
    return likeness_by_layer(Writer(bench.settings.texts))


@EXPERIMENT.part()
def arms(bench: Bench[Settings]) -> Iterable[Row]:
    """SparseD by density, and what it is without each of its parts."""
    texts, writer = bench.settings.texts, Writer(bench.settings.texts)
    usual = texts.sparsed()
    kept = round(writer.written(usual, writer.prompts)[1] * texts.tokens / texts.block)
    systems: dict[str, System] = {
        "dense": Dense(),
        **{f"SparseD, keep {keep}": texts.sparsed(keep=keep) for keep in texts.densities},
        "the paper's rule": texts.sparsed(select_rule="paper"),
        "no isolation": texts.sparsed(select_rule="joint"),
        "no warm-up": texts.sparsed(skip=0, select_rule="paper"),
        "one pattern for all heads": texts.sparsed(per_head=False),
        "another head's pattern": Rolled(keep=texts.keep, block=texts.block, generation=texts.answer),
        "window": Window(like=usual, kept=kept, tokens=texts.tokens),
    }
    return compared(bench, writer, systems)


@EXPERIMENT.part()
def switches(bench: Bench[Settings]) -> Iterable[Row]:
    """Sparse after a share of the steps, and sparse up to it."""
    texts = bench.settings.texts
    options: dict[str, Any] = {"keep": texts.keep, "block": texts.block, "generation": texts.answer}
    systems: dict[str, System] = {}
    for share in texts.switches:
        at = round(texts.steps * share)
        systems[f"sparse from {share:.1%} on"] = Between(find=at - 1, stop=texts.steps, **options)
        systems[f"sparse up to {share:.1%}"] = Between(find=0, stop=at, **options)
    return compared(bench, Writer(texts), systems)


def compared(bench: Bench[Settings], writer: Writer, systems: Mapping[str, System]) -> Iterable[Row]:
    """A row for each system."""
    judge = Judge(writer)
    for done, (arm, system) in enumerate(systems.items()):
        bench.progress(done, len(systems), arm)
        yield {"arm": arm} | judge.row(system)
