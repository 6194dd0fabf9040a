"""Re-ttention on the bundled picture model: its parts one by one, its window made narrower, and what it rests on.

runs    final latents against those of dense attention, and captions kept, by arm and by share of the tokens kept
shares  at every step of a dense run: the window's share of the softmax, how that and the sum it is of move from step to
        step, and how far the output lies off where pairs are masked before the softmax and after it
Expected, after the paper: share and residual together best, the plain window worst, the more so the narrower it is; a
share that moves less than its sum; less error where pairs are masked after the softmax.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from saccade.experiments import Bench, Experiment, Row
from saccade.papers.re_ttention.drawing import Studio
from saccade.papers.re_ttention.probe import Probe
from saccade.papers.re_ttention.raster_window import RasterWindow
from saccade.papers.re_ttention.sections import ABLATIONS, BOTH, CLAIMS, DENSE, OFFICIAL, SECTIONS
from saccade.papers.re_ttention.system import ReTtention
from saccade.pipelines.shared import shared_pipeline


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is drawn.

    model   a pipeline of the scenes: a bundled name or a directory
    grid    image tokens along a side
    one_in  a window keeps one token in so many; the ablations keep one in `ablated`
    dense   share of the steps that are dense at first, as in PixArt
    """

    model: str = "scenes-flux"
    grid: int = 16
    captions: int = 12
    steps: int = 20
    one_in: tuple[int, ...] = (2, 4, 8, 16, 32)
    ablated: int = 8
    dense: float = 0.25


RAMPS: dict[str, dict[str, Any]] = {
    "no ramp": {"ramp": 0.0},
    "ramp 0.01": {"ramp": 0.01},
    "ramp 0.02": {"ramp": 0.02},
    "clamped at 1": {"clamp": True},
    OFFICIAL: {"compat": "official"},
}  # what is done to share and residual together
EXPERIMENT = Experiment(
    name="re_ttention",
    settings=Settings(),
    quick=Settings(grid=6, captions=2, steps=4, one_in=(2, 4), ablated=4),
    hours=0.1,
    sections=SECTIONS,
    claims=CLAIMS,
)


@EXPERIMENT.part()
def runs(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm and caption."""
    said, studio = bench.settings, opened(bench.settings)
    dense = studio.draw()
    yield from ({"arm": DENSE, "one_in": 1} | row for row in studio.rows(dense, dense))
    for done, (one_in, arm, system) in enumerate(arms := arms_of(said)):
        bench.progress(done, len(arms), f"{arm}, 1 in {one_in}")
        yield from ({"arm": arm, "one_in": one_in} | row for row in studio.rows(studio.draw(system), dense))


@EXPERIMENT.part()
def shares(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each site and step."""
    probe = Probe(window=RasterWindow(1 / bench.settings.ablated))
    opened(bench.settings).draw(probe)
    return probe.rows()


def arms_of(settings: Settings) -> list[tuple[int, str, ReTtention]]:
    """(one in how many tokens kept, name, system): every ablation by width, ramps at one width."""
    by_width = [
        (one_in, arm, ReTtention(keep=1 / one_in, dense=settings.dense, **options))
        for one_in in settings.one_in
        for arm, options in ABLATIONS.items()
    ]
    usual = ReTtention(keep=1 / settings.ablated, dense=settings.dense, **ABLATIONS[BOTH])
    return by_width + [(settings.ablated, arm, replace(usual, **options)) for arm, options in RAMPS.items()]


def opened(settings: Settings) -> Studio:
    """The bundled model and what it draws."""
    return Studio(
        pipe=shared_pipeline(settings.model), grid=settings.grid, captions=settings.captions, steps=settings.steps
    )
