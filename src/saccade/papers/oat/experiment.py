"""OAT on shelves somebody searched, and on photographs people looked at: how much nearer to them it is than guesses.

Shelves: objects are coloured shapes, the searcher is made. Tables of positions are compared on unseen shelves, beside
guesses and the searcher itself. Expected: the distance-aligned table is nearest to the searcher.
OSIE: cells of a grid stand in for objects, there is no target. The model is compared with cells at random, with cells
by how often they are looked at over all pictures, with itself on another picture, and with people among themselves.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from saccade.experiments import (
    ArmTable,
    Bench,
    Column,
    Experiment,
    Figures,
    Note,
    Results,
    Row,
    Verdicts,
    higher,
)
from saccade.papers.oat import gaze_run, shelf_run
from saccade.papers.oat.gaze_run import GazeRun, centre_odds, drawn_from, views
from saccade.papers.oat.shelf_run import Paths, Searched, ShelfRun, foretold
from saccade.papers.oat.shelves import Shelf, nearest_first
from saccade.ui.scanpaths import draw_scanpath

GAUSSIAN, SINUSOID, NONE = "OAT, distance-aligned table", "OAT, sinusoids", "OAT, no positions"
TABLES = {GAUSSIAN: "gaussian", SINUSOID: "sinusoid", NONE: "none"}
NEAREST, RANDOM, SEARCHER = "nearest first", "at random", "the searcher again"
MODEL, OTHER, CENTRE, PEOPLE = "OAT", "OAT on another picture", "where people look on average", "other people"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Three seeds of both."""

    seeds: tuple[int, ...] = (0, 1, 2)
    shelves: ShelfRun = field(default_factory=ShelfRun)
    gaze: GazeRun = field(default_factory=GazeRun)


def picture_of(results: Results, figures: Figures) -> str:
    """One unseen shelf, as the searcher and each model searched it."""
    row = results.rows("pictures")[0]
    shelf = Shelf(kinds=tuple(row["kinds"]), target=row["target"], grid=tuple(row["grid"]))
    picture, boxes = shelf.picture(), shelf.boxes()
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    figure = Figure(figsize=(8.6, 2.3 * ((len(row["paths"]) + 1) // 2)), layout="constrained")
    grid = figure.subplots((len(row["paths"]) + 1) // 2, 2, squeeze=False).ravel()
    for ax in grid:
        ax.set_axis_off()
    paths = {name.removesuffix(" again"): path for name, path in row["paths"].items()}
    for number, (ax, (name, path)) in enumerate(zip(grid, paths.items(), strict=False)):
        draw_scanpath(ax, picture, middles[path], name, f"C{number % 10}", boxes[[shelf.target]])
        ax.images[0].set_interpolation("none")  # stored as small as it is
    return figures.save("paths", figure, "A shelf that was not trained on, searched by the searcher and by models")


CLAIMS = (
    higher(
        "shelves: the distance-aligned table is nearer to the searcher than sinusoids (NW)",
        "shelves.nw",
        GAUSSIAN,
        than=SINUSOID,
    ),
    higher("shelves: it is nearer than a model without positions (NW)", "shelves.nw", GAUSSIAN, than=NONE),
    higher("shelves: it is nearer than going to the nearest object first (NW)", "shelves.nw", GAUSSIAN, than=NEAREST),
    higher("shelves: its behaviour is nearer than without positions (delta)", "shelves.delta", NONE, than=GAUSSIAN),
    higher("OSIE: OAT is nearer to people than cells at random (ScanMatch)", "osie.scanmatch", MODEL, than=RANDOM),
    higher("OSIE: OAT is nearer than where people look on average (ScanMatch)", "osie.scanmatch", MODEL, than=CENTRE),
    higher(
        "OSIE: OAT is nearer on the picture itself than on another one (ScanMatch)", "osie.scanmatch", MODEL, than=OTHER
    ),
    higher(
        "OSIE: its fixations lie where people look more than the average does (NSS)", "osie.nss", MODEL, than=CENTRE
    ),
    higher(
        "OSIE: people are nearer to each other than OAT is to them (ScanMatch)", "osie.scanmatch", PEOPLE, than=MODEL
    ),
)
EXPERIMENT = Experiment(
    name="oat",
    settings=Settings(),
    quick=Settings(
        seeds=(0,),
        shelves=ShelfRun(grid=(3, 4), trained=6, judged=8, trials=4, width=24, depth=1, steps=2, batch=4),
        gaze=GazeRun(source="discs", grid=(4, 4), trained=8, judged=3, width=24, depth=1, steps=2, batch=4),
    ),
    hours=0.1,
    claims=CLAIMS,
    sections={
        "shelves": (
            picture_of,
            ArmTable(
                of="shelves.arm",
                columns=(
                    Column(source="shelves.nw", title="NW, higher is nearer", show=".3f"),
                    Column(source="shelves.delta", title="delta, lower is nearer", show=".3f"),
                    Column(source="shelves.levenshtein", title="Levenshtein", show=".2f"),
                    Column(source="shelves.nats", title="nats a fixation", show=".3f"),
                    Column(source="shelves.sim", title="SIM", show=".3f"),
                    Column(source="shelves.correct", title="target found", show=".2f"),
                    Column(source="shelves.length", title="fixations", show=".1f"),
                ),
            ),
            Note(
                "{shelves[trained]} shelves trained on, {shelves[steps]} steps of {shelves[batch]} searches; "
                "{shelves[judged]} unseen shelves, {shelves[trials]} searches of each."
            ),
        ),
        "osie": (
            ArmTable(
                of="osie.arm",
                columns=(
                    Column(source="osie.scanmatch", title="ScanMatch", show=".3f"),
                    Column(source="osie.nw", title="NW, 12 x 8", show=".3f"),
                    Column(source="osie.levenshtein", title="Levenshtein", show=".2f"),
                    Column(source="osie.vector", title="MultiMatch: vector", show=".3f"),
                    Column(source="osie.direction", title="direction", show=".3f"),
                    Column(source="osie.length", title="length", show=".3f"),
                    Column(source="osie.position", title="position", show=".3f"),
                    Column(source="osie.nss", title="NSS", show=".2f"),
                    Column(source="osie.auc", title="AUC", show=".3f"),
                    Column(source="osie.cc", title="CC", show=".3f"),
                ),
            ),
            Note(
                "{gaze[trained]} pictures trained on, {gaze[steps]} steps of {gaze[batch]} scanpaths; {gaze[judged]} "
                "held-out pictures a seed, {gaze[made]} scanpaths of each by every arm, compared with those of "
                "{gaze[observers]} people."
            ),
        ),
        "claims": (Verdicts(CLAIMS, differences=True),),
    },
)


@EXPERIMENT.part(per_seed=True, tables=True)
def shelves(bench: Bench[Settings]) -> Iterable[Row]:
    """Every table on the same shelves, and guesses."""
    run, rng = bench.settings.shelves, np.random.default_rng([bench.seed, 7])
    seen, held = (Searched.made(count, run.trials, run.grid, rng) for count in (run.trained, run.judged))
    shown: dict[str, Any] = {SEARCHER: held.paths[0][0].tolist()}
    for number, (arm, kind) in enumerate(TABLES.items()):
        bench.progress(number, len(TABLES), arm)
        model = shelf_run.trained(run, seen, bench.seed, bench.work / f"{kind}-{bench.seed}", positions=kind)
        found = shelf_run.sampled(model, held, run, bench.seed)
        shown[arm] = found[0][0].tolist()
        yield {"table": "shelves", "arm": arm} | shelf_run.judged(found, held) | foretold(model, held, run.side)
    for arm, found in guesses(held, run, rng).items():
        yield {"table": "shelves", "arm": arm} | shelf_run.judged(found, held)
    first = held.shelves[0]
    about = {"kinds": list(first.kinds), "target": first.target, "grid": list(first.grid)}
    yield {"table": "pictures", "paths": shown} | about


def guesses(held: Searched, run: ShelfRun, rng: np.random.Generator) -> dict[str, Paths]:
    """What needs no training, and the searcher once more, which no model can be nearer to than it is itself."""
    objects = run.grid[0] * run.grid[1]
    lengths = [[len(path) for path in paths] for paths in held.paths]
    again = held.again(run.trials, rng)
    return {
        NEAREST: [[nearest_first(shelf)] * run.trials for shelf in held.shelves],
        RANDOM: [[rng.integers(objects, size=int(rng.choice(each))) for _ in each] for each in lengths],
        SEARCHER: again.paths,
    }


@EXPERIMENT.part(per_seed=True)
def osie(bench: Bench[Settings]) -> Iterable[Row]:
    """One model, and what it is to be compared with."""
    run = bench.settings.gaze
    seen, held_out = views(run)
    count = len(held_out.people)
    chosen = np.random.default_rng([bench.seed, 3]).permutation(count)[: run.judged]
    held, others = held_out.take(chosen), held_out.take(np.roll(chosen, 1))
    bench.progress(0, 1, MODEL)
    model = gaze_run.trained(run, seen, bench.seed, bench.work / f"{bench.seed}")
    cells = np.ones(held.features.shape[1])
    arms = {
        MODEL: gaze_run.sampled(model, held, run, bench.seed),
        OTHER: gaze_run.sampled(model, others, run, bench.seed),
        CENTRE: drawn_from(centre_odds(seen), seen, held, run, bench.seed),
        RANDOM: drawn_from(cells, seen, held, run, bench.seed),
        PEOPLE: [people[: run.made] for people in held.people],
    }
    for arm, made in arms.items():
        yield {"arm": arm} | gaze_run.judged(made, held, run)
