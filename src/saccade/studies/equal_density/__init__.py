"""Every sparse system on one model at equal density: how near its pictures stay to dense ones, and what it saves.

Density counts a whole run, dense steps and all. Each system has one option that is set to where its density comes
nearest to a target; the arms draw the same captions from the same noise, in turn. Expected: patterns found from a
model's own attention stay nearer than fixed ones, and each saves less time than pairs.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from saccade.compare import compare
from saccade.compare.arms import Setup, to_spec
from saccade.compare.export import clean
from saccade.compare.summary import summarise
from saccade.core.catalogue import lookup
from saccade.core.layout import Layout
from saccade.core.mechanism import System
from saccade.data.scenes import prompts
from saccade.experiments import Bench, Experiment, Row
from saccade.ops import warm
from saccade.pipelines.loading import load_pipeline
from saccade.studies.equal_density.knobs import knobs, run_density
from saccade.studies.equal_density.sections import plot, table

__all__ = ["EXPERIMENT"]

TEXT = 32  # tokens to which captions are padded
SEED = 29


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Pictures of `side` pixels, `tokens` in all, for `captions` held-out captions of one object, `batch` in one call.

    densities  targets
    distilled  radii of the bundled distilled discs, each at its own density
    arms       how many of the systems, in the order of `knobs`; None for all
    """

    model: str = "scenes-flux"
    side: int = 256
    tokens: int = 1024 + TEXT
    steps: int = 16
    captions: int = 8
    batch: int = 2
    densities: tuple[float, ...] = (0.5,)
    distilled: tuple[float, ...] = (8,)
    arms: int | None = None


EXPERIMENT = Experiment(
    name="equal_density",
    settings=Settings(),
    quick=Settings(side=64, tokens=64 + TEXT, steps=8, captions=4, densities=(0.6,), distilled=(), arms=2),
    hours=0.15,
    sections={"table": (table, plot)},
    page="studies/equal_density.md",
    threads=None,
)


@EXPERIMENT.part()
def arms(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm: its target (0 for dense attention, 1 for none) and what `compare` says of it."""
    about, pipe = bench.settings, load_pipeline(bench.settings.model)
    warm()
    grid = round((about.tokens - TEXT) ** 0.5)
    layout = Layout.joint(text=TEXT, grid=(1, grid, grid))
    chosen = list(choose(about, layout, pipe.transformer.config.num_attention_heads))
    found = compare(
        pipe,
        [system for _, _, system, _ in chosen],
        prompts(about.captions, seed=SEED, count=1, split="held-out"),
        setup=Setup(
            steps=about.steps, height=about.side, width=about.side, batch=about.batch, floor=None,
            options={"max_sequence_length": TEXT},
        ),
        progress=bench.progress,
    )  # fmt: skip
    dense, *others = summarise(found)
    yield clean({"target": 0.0, "spec": "", **asdict(dense)})
    for (target, label, system, density), row in zip(chosen, others, strict=True):
        yield clean({**asdict(row), "target": target, "label": label, "spec": to_spec(system), "density": density})


def choose(about: Settings, layout: Layout, heads: int) -> Iterable[tuple[float, str, System, float]]:
    """Target, label, system and density of each arm."""
    _, side, _ = layout.image.grid or (1, 1, 1)
    for target in about.densities:
        for knob in knobs(side)[: about.arms]:
            yield target, knob.label, *knob.nearest(target, layout, about.steps, heads)
    for radius in about.distilled:
        clear = lookup("clear").load()
        density = run_density(clear(radius=radius), layout, about.steps, heads)  # terms change no pair
        yield 1.0, f"CLEAR, radius {radius:g}, distilled", clear(radius=radius, distilled=True), density
