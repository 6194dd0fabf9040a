"""CLEAR without distillation: counts, time, and what it does to the bundled model, which has never seen the mask.

counts     exact pairs of the released variants on FLUX.1, up to 8192 x 8192 pixels
touched    blocks a kernel must touch, in raster order and in tiles
times      one attention by image area
losses     per radius: flow-matching loss and distance to the teacher, the same noise for all arms; beside them windows
           that do not overlap and pooled keys alone, at like cost, and linear attention
samples    per radius: fidelity to the dense pictures, and how many pictures keep what their caption promises
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from saccade.experiments import Bench, Experiment, Row
from saccade.papers.clear import costs, zero_shot
from saccade.papers.clear.arms import LOSS_ARMS, SAMPLE_ARMS, AttentionArm
from saccade.papers.clear.sections import CLAIMS, SECTIONS
from saccade.pipelines.shared import shared_pipeline


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured.

    model     a pipeline of the scenes: a bundled name or a directory
    grids     image tokens along a side; the first has all arms, the second those with the proportional scale
    pictures  for the losses, and `captions` for the samples, on each grid
    sides     pixels of a FLUX.1 picture; those up to `touched` count blocks too
    timed     grids of the timed attention
    """

    model: str = "scenes-flux"
    grids: tuple[int, int] = (16, 32)
    pictures: tuple[int, int] = (16, 4)
    captions: tuple[int, int] = (12, 3)
    steps: int = 16
    sides: tuple[int, ...] = (1024, 2048, 4096, 8192)
    touched: int = 4096
    timed: tuple[int, ...] = (32, 64, 96, 128)
    repeats: int = 3


EXPERIMENT = Experiment(
    name="clear",
    settings=Settings(),
    quick=Settings(
        grids=(8, 10), pictures=(1, 1), captions=(1, 1), steps=1, sides=(256,), touched=256, timed=(8, 16), repeats=1
    ),
    hours=0.1,
    sections=SECTIONS,
    claims=CLAIMS,
)


@EXPERIMENT.part()
def counts(bench: Bench[Settings]) -> Iterable[Row]:
    """Pairs of one FLUX.1 layer."""
    return costs.pairs_by_side(bench.settings.sides)


@EXPERIMENT.part()
def touched(bench: Bench[Settings]) -> Iterable[Row]:
    """Blocks of a kernel."""
    return costs.blocks_touched(side for side in bench.settings.sides if side <= bench.settings.touched)


@EXPERIMENT.part()
def times(bench: Bench[Settings]) -> Iterable[Row]:
    """Disc against dense attention."""
    for done, side in enumerate(bench.settings.timed):
        bench.progress(done, len(bench.settings.timed), f"{side} x {side} tokens")
        yield costs.time_of(side, repeats=bench.settings.repeats)


@EXPERIMENT.part()
def losses(bench: Bench[Settings]) -> Iterable[Row]:
    """Of held-out pictures."""
    pipe = shared_pipeline(bench.settings.model)
    for grid, arms, pictures in zip(bench.settings.grids, LOSS_ARMS, bench.settings.pictures, strict=True):
        yield from zero_shot.losses(pipe, grid, watched(bench, grid, arms), pictures=pictures)


@EXPERIMENT.part()
def samples(bench: Bench[Settings]) -> Iterable[Row]:
    """For held-out captions."""
    pipe, steps = shared_pipeline(bench.settings.model), bench.settings.steps
    for grid, arms, captions in zip(bench.settings.grids, SAMPLE_ARMS, bench.settings.captions, strict=True):
        yield from zero_shot.samples(pipe, grid, watched(bench, grid, arms), captions=captions, steps=steps)


def watched(bench: Bench[Any], grid: int, arms: Sequence[AttentionArm]) -> Iterator[AttentionArm]:
    """The arms, each reported before it runs."""
    for done, arm in enumerate(arms):
        bench.progress(done, len(arms), f"{grid} x {grid}, {arm.label}")
        yield arm
