"""What `saccade compare` shows on first use, kept for the README."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from saccade.compare import compare
from saccade.compare.arms import Setup
from saccade.compare.demo import DEMOS
from saccade.compare.export import clean
from saccade.compare.finding import finding
from saccade.experiments import Bench, Experiment, Figures, Results, Row
from saccade.ops import warm
from saccade.pipelines.loading import load_pipeline
from saccade.ui.columns import columns
from saccade.ui.markdown import markdown_table

MODEL = "scenes-flux"
DEMO = DEMOS[MODEL]
SHOWN = ("density", "attention speed-up", "end-to-end speed-up", "PSNR", "kept", "found")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """So many captions of the default comparison, in its size unless another `side` and number of `steps` are given."""

    captions: int = DEMO.captions
    side: int = DEMO.call["width"]
    steps: int = DEMO.call["steps"]


def table(results: Results, figures: Figures) -> str:
    """What was found, and a row for each arm."""
    rows = [(row["arm"], *(row[name] for name in SHOWN)) for row in results.rows("arms")]
    (said,) = {row["finding"] for row in results.rows("arms")}
    return f"{said}\n\n{markdown_table(('arm', *SHOWN), rows)}"


EXPERIMENT = Experiment(
    name="demo",
    settings=Settings(),
    quick=Settings(captions=2, side=64, steps=4),
    hours=0.05,
    sections={"demo": (table,)},
    page="../README.md",
    threads=None,
)


@EXPERIMENT.part()
def arms(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm, its figures as the table of the command words them."""
    about = bench.settings
    warm()
    found = compare(
        load_pipeline(MODEL),
        DEMO.systems(),
        DEMO.prompts(about.captions, count=1),
        setup=replace(
            Setup(**DEMO.call, floor=None, options=DEMO.options),
            steps=about.steps,
            height=about.side,
            width=about.side,
        ),
        progress=bench.progress,
    )
    shown = {column.title: column.cells for column in columns(found)}
    for place, arm in enumerate(found.arms):
        cells = {name: shown[name][place].main if name in shown else "" for name in SHOWN}
        yield clean({"arm": arm.label, "finding": finding(found), **cells})
