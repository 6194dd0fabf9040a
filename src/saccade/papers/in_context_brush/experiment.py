"""In-Context Brush: what shifting, reweighing and blending each do to insertions with a model trained without any.

insertion  each case under every combination of the three, the reweighing as in the figure and as released
drift      one forward on noised diptychs: norms of attention outputs by layer, and how far the velocity goes
Expected: the shift makes what is inserted more like the subject, reweighing keeps more captions, blending keeps the
background; the released reweighing, of all rows and blocks, drifts further from the host.
Undecided here: what a fill model makes of it, which sees the masked picture; none was trained at this size.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from saccade.core.mechanism import System
from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Lines, Note, Row, Verdicts
from saccade.experiments.claims import higher
from saccade.papers.in_context_brush.drift import Forward
from saccade.papers.in_context_brush.figures import plot_weights
from saccade.papers.in_context_brush.insertions import Studio, cases
from saccade.papers.in_context_brush.system import InContextBrush

NONE, SHIFT, FIGURE, OFFICIAL, BLEND = "none", "B", "C figure", "C official", "D"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`cases` drawn in `steps` steps, every second scored by its caption; `strong` is both alphas of one arm more.

    Norms and velocities, which differ little from case to case, are measured on `forwards` cases.
    """

    model: str = "scenes-flux"
    cases: int = 100
    forwards: int = 24
    steps: int = 8
    strong: float = 1.0


def named(*parts: str) -> str:
    """An arm by its parts."""
    return " + ".join(part for part in parts if part) or NONE


def systems(shift: str, weights: str) -> tuple[System, ...]:
    """Of an arm; both come in one system."""
    if not (shift or weights):
        return ()
    alpha, beta = (0.3 if shift else 0.0), (0.2 if weights else 0.0)
    compat = "official" if weights == OFFICIAL else None
    return (InContextBrush(alpha_text=alpha, alpha_demo=alpha, beta=beta, compat=compat),)


COMBINATIONS = tuple(product(("", SHIFT), ("", FIGURE, OFFICIAL)))
D, BD, CD = (named(part, BLEND) for part in ("", SHIFT, FIGURE))
ALL, STRONG = named(SHIFT, FIGURE, BLEND), "B strong + D"


def more(text: str, column: str, one: str, than: str, digits: int = 4) -> Claim:
    """A column is higher under one arm, case by case."""
    return higher(text, column, one, than=than, pair="case", digits=digits)


CLAIMS = (
    more("shifting makes what is inserted more like the subject", "insertion.similarity", BD, D, 2),
    more("a strong shift more so", "insertion.similarity", STRONG, BD, 2),
    more("reweighing keeps more captions", "insertion.caption", CD, D, 3),
    more("all three keep more captions than blending alone", "insertion.caption", ALL, D, 3),
    more("without blending the background is changed more", "insertion.background", named(SHIFT, FIGURE), ALL),
    more("the released reweighing drifts further than the figure's", "outputs.drift", OFFICIAL, FIGURE),
)
SECTIONS = {
    "weights": (plot_weights,),
    "insertion": (
        ArmTable(
            columns=(
                Column(source="insertion.similarity", title="similarity", show=".1f"),
                Column(source="insertion.caption", title="caption kept", show=".2f"),
                Column(source="insertion.shape", title="subject's shape", show=".2f"),
                Column(source="insertion.background", title="background error", show=".4f"),
            ),
            of="insertion.arm",
        ),
        Note("{cases} cases, {steps} steps, 128 x 128 pixels; means."),
    ),
    "drift": (
        ArmTable(
            columns=(Column(source="outputs.drift", title="change of the velocity", show=".3f"),), of="outputs.arm"
        ),
        Lines(
            source="layers.ratio", x="layer", name="ratios", label="norm, times the host's",
            about="Norms of attention outputs by layer, in units of the host's own",
        ),
    ),
    "claims": (Verdicts(CLAIMS, differences=True),),
}  # fmt: skip
EXPERIMENT = Experiment(
    name="in_context_brush",
    settings=Settings(),
    quick=Settings(cases=2, forwards=2, steps=1),
    hours=0.1,
    sections=SECTIONS,
    claims=CLAIMS,
)


@EXPERIMENT.part()
def insertion(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm and case."""
    studio, strong = opened(bench.settings, bench.settings.cases), bench.settings.strong
    arms = {
        named(shift, weights, BLEND if blend else ""): (systems(shift, weights), blend)
        for blend in (False, True)
        for shift, weights in COMBINATIONS
    }
    arms[STRONG] = (InContextBrush(alpha_text=strong, alpha_demo=strong, beta=0.0),), True
    for done, (name, (stack, blend)) in enumerate(arms.items()):
        bench.progress(done, len(arms), name)
        yield from ({"arm": name} | row for row in studio.rows(studio.draw(*stack, blend=blend)))


@EXPERIMENT.part(tables=True)
def drift(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm, layer and case, and one for each arm and case."""
    forward = Forward(opened(bench.settings, bench.settings.forwards))
    for shift, weights in COMBINATIONS[1:]:
        yield from forward.rows(named(shift, weights), *systems(shift, weights))


def opened(said: Settings, count: int) -> Studio:
    """The bundled model and so many cases."""
    from saccade.pipelines.loading import load_pipeline

    pipe = load_pipeline(said.model)
    pipe.set_progress_bar_config(disable=True)
    return Studio(pipe=pipe, cases=cases(count), steps=said.steps)
