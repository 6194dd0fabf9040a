"""DiffEye on made discs, with and without corresponding positions, and on people's trajectories over photographs.

discs   pictures of three discs at random places; observers visit red, green and blue. Image tokens are colours alone.
        Expected: with positions on both sides paths find the discs, with those of one side or none they do not.
osie    pointer trajectories of people over OSIE's photographs, held-out ones. Between people as the bound above, and
        walks that know no picture below; sampling under another picture's features shows what the picture brings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from saccade.data.discs import DiscViews, disc_gaze
from saccade.data.gaze import GazeSet
from saccade.data.osie import read_osie
from saccade.experiments import Bench, Experiment, Row, Verdicts
from saccade.metrics.trajectories import dtw, matrix
from saccade.papers.diffeye.coordinates import to_pixels
from saccade.papers.diffeye.encoders import ColourEdges
from saccade.papers.diffeye.report import (
    BOTH,
    CENTRE,
    CLAIMS,
    DISC_ARMS,
    OTHERS,
    OURS,
    PEOPLE,
    SHUFFLED,
    UNIFORM,
    disc_table,
    drawn_discs,
    osie_table,
    sizes,
    speed_lines,
)
from saccade.papers.diffeye.scoring import People, people, scores, speed_shares
from saccade.papers.diffeye.small_run import Training, disc_source, held_out_discs, misses, sampled, trained
from saccade.papers.diffeye.source import GazeSource, encoded
from saccade.papers.diffeye.walks import CentreWalk, uniform

STAND_IN = DiscViews(length=32)  # in the place of OSIE in the quick run


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`pictures`: trained on, made ones; `held`: held-out ones that are scored, `observers`: sampled for each.

    photographs   "osie", from SACCADE_DATA; or "discs", made ones in its place
    grid, pixels  of image tokens and of CPE, (rows, columns), on photographs
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    discs: Training = field(default_factory=lambda: Training(steps=2000, rate=3e-3))
    osie: Training = field(default_factory=lambda: Training(steps=2000, rate=3e-3))
    photographs: Literal["osie", "discs"] = "osie"
    pictures: int = 4000
    held: int = 24
    observers: int = 4
    grid: tuple[int, int] = (9, 12)
    pixels: tuple[int, int] = (180, 240)


QUICK = {"steps": 2, "batch": 4, "width": 16, "length": 16, "sampling": 2}
EXPERIMENT = Experiment(
    name="diffeye",
    settings=Settings(),
    quick=Settings(
        seeds=(0,),
        discs=Training(**QUICK),
        osie=Training(**QUICK),
        photographs="discs",
        pictures=8,
        held=2,
        observers=2,
    ),
    hours=0.4,
    sections={
        "discs": (drawn_discs, disc_table, sizes("discs")),
        "osie": (osie_table, speed_lines, sizes("osie")),
        "verdicts": (Verdicts(CLAIMS, differences=True),),
    },
    claims=CLAIMS,
)


@EXPERIMENT.part(per_seed=True, tables=True)
def discs(bench: Bench[Settings]) -> Iterable[Row]:
    """Every arm on the same pictures, and the people they learn from."""
    s, side = bench.settings, DiscViews().side
    encoder = ColourEdges(grid=(8, 8), pixels=(side, side), edges=False)
    gaze, places = held_out_discs(s.held, s.observers + 1, s.discs.length)
    seen = np.stack([np.stack(gaze.trajectories[name]) for name in gaze.names])
    mine, others = seen[:, :-1], seen[:, -1:]
    for number, (arm, options) in enumerate(DISC_ARMS.items()):
        bench.progress(number, len(DISC_ARMS), arm)
        sees: Any = options.get("sees", "patches")
        source = disc_source(encoder, s.pictures, s.discs.length, bench.seed, sees)
        model = trained(encoder, source, s.discs, bench.seed, bench.work / f"{number}-{bench.seed}", **options)
        unit = sampled(model, encoder, encoded(gaze, encoder, sees), s.observers, s.discs, bench.seed)
        paths = to_pixels(unit, gaze.size)
        yield _disc_row(arm, paths, others, places)
        if bench.seed == s.seeds[0] and arm in (BOTH, "none"):
            yield from _examples(arm, paths, places)
    yield _disc_row(PEOPLE, mine, others, places)
    yield _disc_row(OTHERS, np.roll(mine, 1, axis=0), others, places)


def _disc_row(
    arm: str,
    paths: Float[np.ndarray, "m k l 2"],
    others: Float[np.ndarray, "m j l 2"],
    places: Float[np.ndarray, "m 3 2"],
) -> Row:
    apart = [matrix(list(made), list(one), dtw).mean() for made, one in zip(paths, others, strict=True)]
    return {"table": "discs", "arm": arm, "miss": float(misses(paths, places).mean()), "dtw": float(np.mean(apart))}


def _examples(arm: str, paths: np.ndarray, places: np.ndarray, pictures: int = 2) -> Iterable[Row]:
    for picture in range(min(pictures, len(paths))):
        for path in paths[picture, :3]:
            at = {"picture": picture, "places": places[picture].tolist()}
            yield {"table": "examples", "arm": arm, "path": np.round(path, 1).tolist()} | at


@EXPERIMENT.part(per_seed=True, tables=True)
def osie(bench: Bench[Settings]) -> Iterable[Row]:
    """DiffEye under the right and another picture, people, and walks, all against the same people."""
    s, encoder = bench.settings, ColourEdges(grid=bench.settings.grid, pixels=bench.settings.pixels)
    source, held, image = _photographs(s)
    bench.progress(0, 1, "training")
    model = trained(encoder, source, s.osie, bench.seed, bench.work / str(bench.seed))
    rng = np.random.default_rng(bench.seed)
    seen = people(held, s.observers, s.osie.length, rng)
    unit = [sampled(model, encoder, each, s.observers, s.osie, bench.seed) for each in (image, image.roll(1, 0))]
    shape = (len(held), s.observers, s.osie.length)
    walks = [CentreWalk.fitted(source.paths).sample, uniform]
    unit += [walk(shape[0] * shape[1], shape[2], rng).reshape(*shape, 2) for walk in walks]
    made = dict(zip((OURS, SHUFFLED, CENTRE, UNIFORM), (to_pixels(each, held.size) for each in unit), strict=True))
    yield from _osie_rows({arm: list(map(list, paths)) for arm, paths in made.items()}, seen, held.size)


def _osie_rows(made: dict[str, list[list[Any]]], seen: Sequence[People], size: tuple[int, int]) -> Iterable[Row]:
    own = [list(each.own) for each in seen]
    arms = {PEOPLE: own, OTHERS: [*own[1:], own[0]], **made}
    for arm, paths in arms.items():
        yield {"table": "osie", "arm": arm} | scores(paths, seen, size)
        yield from ({"table": "speeds", "arm": arm, "log10": at, "share": share} for at, share in speed_shares(paths))


@cache
def _photographs(settings: Settings) -> tuple[GazeSource, GazeSet, Tensor]:
    """What is trained on; pictures held out that are scored, and their features; the same for all seeds."""
    encoder = ColourEdges(grid=settings.grid, pixels=settings.pixels)
    made = settings.photographs == "discs"
    gaze = disc_gaze(8 * settings.held, settings.observers + 2, views=STAND_IN) if made else read_osie()
    held = gaze.split("held-out")
    held = held.take(held.names[:: max(1, len(held) // settings.held)][: settings.held])
    source = GazeSource.of_gaze(gaze.split("train"), encoder, settings.osie.length)
    return source, held, encoded(held, encoder)
