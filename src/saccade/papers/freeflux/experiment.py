"""What FreeFlux's probe finds in the bundled model, and what its edits by layers do there, judged by an exact parser.

Expected, after the paper: layers differ much, with no simple relation to depth and alike for all moves; sharing k and v
in the layers that hang on positions holds an object where the source has it, in those that go by content it may move;
an object comes in with less change around it when all but its place is held; v alone blends with a new background.
The model has five layers: ranks over five tell little, and a set is one layer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from saccade.analysis.layer_plot import plot_layers
from saccade.analysis.layers import LayerScores, LayerSets
from saccade.data.scenes import parse, prompts
from saccade.experiments import (
    ArmTable,
    Bench,
    Claim,
    Column,
    Experiment,
    Figures,
    Note,
    Results,
    Row,
    Verdicts,
    higher,
)
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.freeflux.kinds import AddObject, KeepRegion, Reshape
from saccade.papers.freeflux.probe import probe_layers
from saccade.papers.freeflux.small_run import SIDE, TEXT, Batch, Editor, Kind, iou, on_tokens, score
from saccade.papers.freeflux.system import FreeFlux
from saccade.pipelines.loading import load_pipeline
from saccade.ui.markdown import markdown_table

PLAIN, POSITION, CONTENT = "re-prompting", "position layers", "content layers"
FREE, HELD = "all but the word's place held", "everything held"
V, KV = "v", "k, v"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`captions` probed, `edits` of each kind, in so many `steps`; words are looked for after a share `look`."""

    captions: int = 8
    edits: int = 100
    steps: int = 10
    look: float = 0.14


@cache
def opened(steps: int) -> Editor:
    """The bundled model."""
    pipe = load_pipeline("scenes-flux")
    pipe.set_progress_bar_config(disable=True)
    return Editor(pipe=pipe, steps=steps)


def probed(bench: Bench[Settings]) -> LayerScores:
    """The probe of the bundled model; drawn once for all parts."""
    said = bench.settings
    texts = [prompt.text for prompt in prompts(said.captions, seed=7, count=1, split="held-out")]
    call: dict[str, Any] = {"height": SIDE, "width": SIDE, "max_sequence_length": TEXT}
    folder, pipe = bench.work.parent / "layers", opened(said.steps).pipe
    return probe_layers(
        pipe, texts, batch=said.captions, cache=folder, progress=bench.progress, num_inference_steps=said.steps, **call
    )


def edit_rows(bench: Bench[Settings], kind: Kind, batch: Batch, arms: dict[str, FreeFlux | None]) -> Iterable[Row]:
    """A row for each arm and edit."""
    for done, (name, system) in enumerate(arms.items()):
        bench.progress(done, len(arms), name)
        drawn = opened(bench.settings.steps).edited(batch, system)
        for number, each in enumerate(zip(drawn, batch.sources, batch.cases, strict=True)):
            yield {"arm": name, "edit": number} | score(kind, *each)


def only(sites: tuple[str, ...], number: int) -> LayerSets:
    """One layer, as if it went by content."""
    return LayerSets.numbered(sites, content=(number,))


def scores_of(results: Results) -> LayerScores:
    """The probe, as the results keep it."""
    sites, moves = (tuple(results.distinct(f"probe.{name}")) for name in ("site", "move"))
    mse = [[results.values("probe.mse", site=site, move=move) for move in moves] for site in sites]
    return LayerScores(model="", sites=sites, moves=moves, mse=np.array(mse))


def across_halves(results: Results) -> Interval:
    """How much closer, on one half of the pictures, the other half's content layers stay than its position layers."""
    scores, found = scores_of(results), []
    for own, other in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        sets = LayerScores(model="", sites=scores.sites, moves=scores.moves, mse=scores.mse[:, :, own]).sets()
        low, high = ([scores.sites.index(site) for site in chosen] for chosen in (sets.position, sets.content))
        by_picture = scores.psnr[:, :, other].mean(1)
        found += [*(by_picture[high].mean(0) - by_picture[low].mean(0))]
    return t_interval(found)


def layer_plot(results: Results, figures: Figures) -> str:
    """Every layer's closeness."""
    return figures.save("layers", plot_layers(scores_of(results)), "PSNR of every layer to the reference")


def agreement(results: Results, figures: Figures) -> str:
    """How stable the ranking is."""
    found, sets = scores_of(results).stability(), scores_of(results).sets()
    line = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
    chosen = f"hangs on positions: {', '.join(sets.position)}; goes by content: {', '.join(sets.content)}"
    return f"{chosen}. Rank correlation of the layers with, or among: {line} (of five layers)."


def places_table(results: Results, figures: Figures) -> str:
    """How well a word's place agrees with the new object, as drawn with nothing held."""
    found = t_interval(results.values("places.iou"))
    return markdown_table(("place of the new object", "IoU with it as drawn freely"), [("word's map", str(found))])


def arms(table: str, **columns: tuple[str, str]) -> ArmTable:
    """Means of scores by arm."""
    shown = (Column(source=f"{table}.{name}", title=title, show=form) for name, (title, form) in columns.items())
    return ArmTable(columns=tuple(shown), of=f"{table}.arm")


CLAIMS = (
    Claim(text="layers chosen on half of the pictures differ on the other half (dB)", measure=across_halves, digits=2),
    higher("position layers hold an object where the source has it more than content layers (IoU)", "move.stays",
           POSITION, than=CONTENT, pair="edit", digits=3),
    higher("an object moves as asked more often by content layers than by position layers", "move.moved", CONTENT,
           than=POSITION, pair="edit", digits=2),
    higher("with all but the word's place held, less changes around a new object than by re-prompting (PSNR, dB)",
           "add.kept", FREE, than=PLAIN, pair="edit", digits=1),
    higher("and it is drawn more often than with everything held", "add.made", FREE, than=HELD, pair="edit", digits=2),
    higher("the background changes as asked more often with v than with k, v", "background.made", V, than=KV,
           pair="edit", digits=2),
    higher("a kept object is closer to the source with v than by re-prompting (PSNR, dB)", "background.kept", V,
           than=PLAIN, pair="edit", digits=1),
)  # fmt: skip
SHARE, DECIBEL = ".2f", ".1f"
EXPERIMENT: Experiment[Settings] = Experiment(
    name="freeflux",
    settings=Settings(),
    quick=Settings(captions=2, edits=1, steps=2),
    hours=0.1,
    sections={
        "probe": (layer_plot, agreement, Verdicts(CLAIMS, differences=True)),
        "move": (arms("move", stays=("IoU with the source", SHARE), moved=("at the place asked", SHARE),
                      colour=("colour", SHARE), all=("whole caption", SHARE)),
                 Note("{edits} edits of each kind, {steps} steps, 64 x 64 pixels; means.")),
        "add": (places_table, arms("add", made=("whole caption", SHARE), kept=("PSNR elsewhere, dB", DECIBEL))),
        "background": (arms("background", made=("background", SHARE), kept=("PSNR of the object, dB", DECIBEL),
                            all=("whole caption", SHARE)),),
    },
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part()
def probe(bench: Bench[Settings]) -> Iterable[Row]:
    """The error of every layer, move and picture."""
    scores = probed(bench)
    for i, site in enumerate(scores.sites):
        for j, name in enumerate(scores.moves):
            for number, error in enumerate(scores.mse[i, j]):
                yield {"site": site, "move": name, "picture": number, "mse": float(error)}


@EXPERIMENT.part(name="move")
def moved(bench: Bench[Settings]) -> Iterable[Row]:
    """An object to the other side, k and v shared in one set of layers or in one layer."""
    sets = probed(bench).sets()
    by_hang: dict[str, FreeFlux | None] = {
        PLAIN: None,
        POSITION: FreeFlux(edit=Reshape(layers="position"), layers=sets),
        CONTENT: FreeFlux(edit=Reshape(), layers=sets),
    }
    singles = {f"layer {i}": FreeFlux(layers=only(sets.sites, i)) for i in range(len(sets.sites))}
    batch = opened(bench.settings.steps).gather("move", bench.settings.edits, bench.progress)
    return edit_rows(bench, "move", batch, by_hang | singles)


@EXPERIMENT.part(tables=True)
def add(bench: Bench[Settings]) -> Iterable[Row]:
    """A new object in another corner."""
    said, editor = bench.settings, opened(bench.settings.steps)
    batch = editor.gather("add", said.edits, bench.progress)
    held = FreeFlux(edit=AddObject(), layers=probed(bench).sets())
    places = editor.places(batch, held, said.look)
    free = FreeFlux(edit=AddObject(free=places), layers=held.layers)
    plain = editor.edited(batch, None)
    for number, (picture, source) in enumerate(zip(plain, batch.sources, strict=True)):
        own = parse(source).things[0].mask
        new = [thing.mask for thing in parse(picture).things if not (thing.mask & own).any()]
        if new:
            truth = on_tokens(np.any(new, axis=0)).numpy()
            yield {"table": "places", "edit": number, "iou": iou(places[number, 0].numpy(), truth)}
    systems: dict[str, FreeFlux | None] = {PLAIN: None, HELD: held, FREE: free}
    yield from ({"table": "add"} | row for row in edit_rows(bench, "add", batch, systems))


@EXPERIMENT.part()
def background(bench: Bench[Settings]) -> Iterable[Row]:
    """Another background behind an object whose image tokens are known."""
    batch = opened(bench.settings.steps).gather("background", bench.settings.edits, bench.progress)
    keep = torch.stack([on_tokens(parse(source).things[0].mask)[None] for source in batch.sources])
    systems: dict[str, Any] = {
        PLAIN: None,
        V: FreeFlux(edit=KeepRegion(keep=keep)),
        KV: FreeFlux(edit=KeepRegion(keep=keep, operands="kv")),
    }
    return edit_rows(bench, "background", batch, systems)
