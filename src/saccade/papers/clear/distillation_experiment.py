"""CLEAR after distillation: the bundled adapter by radius, and ways to attend after the same short distillation.

losses    discs without and with the adapter, which was distilled at radius 8: flow loss and distance to the teacher
samples   how many pictures keep what their caption promises: dense, the disc, the disc with the adapter
arms      the same short distillation of discs, windows, pooled keys and linear attention on the first grid, and the
          discs on the second, where it was not distilled, without and with the proportional scale
"""

from collections.abc import Iterable
from dataclasses import dataclass

from saccade.experiments import Bench, Experiment, Row
from saccade.papers.clear import distilled_arms, zero_shot
from saccade.papers.clear.arms import DENSE, LINEAR, TRAINED, AttentionArm, adapted, disc, pooled_only, windows
from saccade.papers.clear.distillation_sections import CLAIMS, SECTIONS
from saccade.papers.clear.experiment import watched
from saccade.pipelines.shared import shared_pipeline

ARMS = (disc(3), disc(3, pool=4), windows(5), pooled_only(4), LINEAR)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured.

    model     a pipeline of the scenes whose transformer is the bundled one's
    grids     image tokens along a side; on the first, the arms are distilled
    radii     of the discs, on each grid
    pictures  for the losses, and `captions` for the samples in `sampling` steps, on each grid
    steps     of the short distillation, with `batch` pictures each of `pool`
    """

    model: str = "scenes-flux"
    grids: tuple[int, int] = (16, 32)
    radii: tuple[tuple[float, ...], tuple[float, ...]] = ((3, 4, 6, 8), (4, 6, 8, 12))
    pictures: tuple[int, int] = (16, 4)
    captions: tuple[int, int] = (24, 12)
    sampling: int = 16
    steps: int = 80
    batch: int = 4
    pool: int = 256


EXPERIMENT = Experiment(
    name="clear_distillation",
    settings=Settings(),
    quick=Settings(
        grids=(8, 10), radii=((2,), (4, 8)), pictures=(1, 1), captions=(1, 1), sampling=1, steps=1, batch=1, pool=2
    ),
    hours=0.2,
    sections=SECTIONS,
    claims=CLAIMS,
)


@EXPERIMENT.part()
def losses(bench: Bench[Settings]) -> Iterable[Row]:
    """By radius."""
    pipe, said = shared_pipeline(bench.settings.model), bench.settings
    for done, (grid, radii, pictures) in enumerate(zip(said.grids, said.radii, said.pictures, strict=True)):
        bench.progress(done, len(said.grids), f"{grid} x {grid} tokens")
        yield from distilled_arms.by_radius(pipe, grid, radii, pictures)


@EXPERIMENT.part()
def samples(bench: Bench[Settings]) -> Iterable[Row]:
    """For held-out captions."""
    pipe, said = shared_pipeline(bench.settings.model), bench.settings
    for grid, arms, captions in zip(said.grids, sampled(), said.captions, strict=True):
        shown = watched(bench, grid, arms)
        yield from zero_shot.samples(pipe, grid, shown, captions=captions, steps=said.sampling)


@EXPERIMENT.part()
def arms(bench: Bench[Settings]) -> Iterable[Row]:
    """At one budget."""
    pipe, said = shared_pipeline(bench.settings.model), bench.settings
    draw = distilled_arms.draws(pipe, said.grids[0], bench.work, batch=said.batch, pool=said.pool)
    yield from distilled_arms.at_one_budget(pipe, watched(bench, said.grids[0], ARMS), draw, bench.work, said)


def sampled() -> tuple[tuple[AttentionArm, ...], tuple[AttentionArm, ...]]:
    """What pictures are generated with, on each grid, the dense arm first."""
    plain = (DENSE, disc(8), adapted(8))
    return plain, (*plain, adapted(8, trained=TRAINED))
