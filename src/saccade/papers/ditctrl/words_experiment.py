"""DiTCtrl's edits by words on the bundled picture model, and a long video of three prompts on the bundled video model.

swaps      a word of the caption becomes another: re-prompting, shared keys and values, masks on top, all layers
strengths  the same caption, a word of it weakened or strengthened
sheet      three prompts by each themselves, and in windows that share keys and values
Expected: sharing holds an object where the source has it and its surroundings as they were, at some cost in how often
the new word is drawn; a colour's word is followed the less, the less it weighs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np

from saccade.core.mechanism import System
from saccade.core.site import at
from saccade.data import scenes
from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Note, Row, Verdicts
from saccade.experiments.claims import difference, higher
from saccade.experiments.kept_pictures import KeptPicture, encoded
from saccade.metrics.output import to_bytes
from saccade.papers.ditctrl.experiment import ISOLATED, RANDOM, SHARED, drawn, opened
from saccade.papers.ditctrl.experiment import Settings as VideoSettings
from saccade.papers.ditctrl.swaps import Desk, Part, scored
from saccade.papers.ditctrl.system import DiTCtrl, WordStrength
from saccade.pipelines.shared import shared_pipeline
from saccade.train.plots import tile

PLAIN, KV, MASKS, EVERYWHERE = "re-prompting", "KV-sharing", "and masks", "in all layers and steps"
COLOURS = 128  # of the sheet


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`swaps` of a colour and as many of a shape, in `steps` steps; the colours' words at every one of `factors`.

    video  what the three prompts are drawn by, `frames` of each on the sheet
    """

    model: str = "scenes-flux"
    swaps: int = 50
    steps: int = 10
    factors: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
    video: str = "scenes-wan"
    frames: int = 3


def strength(factor: float) -> str:
    """Of an arm."""
    return f"times {factor:g}"


def less(text: str, column: str, one: str, than: str) -> Claim:
    """A column of the swaps is lower under one arm, case by case."""
    return Claim(text=text, measure=lambda found: difference(found, f"swaps.{column}", than, one, "case"), digits=3)


CLAIMS = (
    higher("sharing holds the object at its place (IoU)", "swaps.place", KV, than=PLAIN, pair="case", digits=3),
    higher("and its surroundings (PSNR, dB)", "swaps.kept", KV, than=PLAIN, pair="case", digits=1),
    higher("in all layers and steps even more (IoU)", "swaps.place", EVERYWHERE, than=KV, pair="case", digits=3),
    less("there the new word is drawn less often than by re-prompting", "swapped", EVERYWHERE, PLAIN),
    higher("masks keep more of what the target's caption says", "swaps.all", MASKS, than=KV, pair="case", digits=3),
    higher("a colour is followed more often at half the weight of its word than without any", "strengths.colour",
           strength(0.5), than=strength(0.0), pair="case", digits=3),
)  # fmt: skip
SECTIONS = {
    "swaps": (
        ArmTable(
            columns=(
                Column(source="swaps.swapped", title="new word drawn", show=".2f"),
                Column(source="swaps.all", title="whole caption", show=".2f"),
                Column(source="swaps.place", title="place kept, IoU", show=".2f"),
                Column(source="swaps.kept", title="surroundings, dB", show=".1f"),
            ),
            of="swaps.arm",
        ),
        Note("{swaps} swaps of a colour and {swaps} of a shape, {steps} steps, 64 x 64 pixels; means."),
    ),
    "strengths": (
        ArmTable(
            columns=(
                Column(source="strengths.colour", title="colour as named", show=".2f"),
                Column(source="strengths.place", title="place kept, IoU", show=".2f"),
            ),
            of="strengths.arm",
            title="the colour's word",
        ),
    ),
    "words": (Verdicts(CLAIMS, differences=True),),
    "sheet": (
        KeptPicture(
            source="sheet.png", name="sheet", larger=3, about="Three prompts, a row each: by themselves, shared"
        ),
    ),
}
EXPERIMENT = Experiment(
    name="ditctrl_words",
    settings=Settings(),
    quick=Settings(swaps=1, steps=4, factors=(0.0, 0.5), video=RANDOM),
    hours=0.05,
    sections=SECTIONS,
    claims=CLAIMS,
    page="papers/ditctrl.md",
)


def desk(said: Settings) -> Desk:
    """The bundled picture model."""
    pipe = shared_pipeline(said.model)
    pipe.set_progress_bar_config(disable=True)
    return Desk(pipe=pipe, steps=said.steps)


def arms(words: tuple[int, ...]) -> dict[str, tuple[System, ...]]:
    """What attaches, by the word that both captions have."""
    return {
        PLAIN: (),
        KV: (DiTCtrl(),),
        MASKS: (DiTCtrl(words=words),),
        EVERYWHERE: (DiTCtrl(deepest=1.0, where=at()),),
    }


@EXPERIMENT.part()
def swaps(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm and case."""
    at_desk, count = desk(bench.settings), bench.settings.swaps
    for half, part in enumerate(get_args(Part)):
        batch = at_desk.gather(part, count)
        for done, (name, systems) in enumerate(arms(at_desk.words(batch)).items()):
            bench.progress(done, len(arms(())), f"{part}, {name}")
            sources, targets = at_desk.pairs(batch, *systems)
            for number, each in enumerate(zip(sources, targets, batch, strict=True)):
                yield {"arm": name, "case": half * count + number, **scored(*each)}


@EXPERIMENT.part()
def strengths(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each factor and case; the captions are those whose colour is swapped above."""
    at_desk, factors = desk(bench.settings), bench.settings.factors
    batch = at_desk.gather("colour", bench.settings.swaps)
    for done, factor in enumerate(factors):
        bench.progress(done, len(factors), strength(factor))
        system = WordStrength(tokens=at_desk.words(batch, swapped=True), factor=factor)
        sources, drawn_again = at_desk.pairs(batch, system, swapped=False)
        for number, (source, picture, swap) in enumerate(zip(sources, drawn_again, batch, strict=True)):
            colour = scenes.judge(picture, swap.source).colour
            place = scored(source, picture, swap)["place"]
            yield {"arm": strength(factor), "case": number, "colour": float(colour), "place": place}


@EXPERIMENT.part()
def sheet(bench: Bench[Settings]) -> Iterable[Row]:
    """One row, the sheet: frames of each prompt, by each itself and shared."""
    pipe, (story,) = opened(bench.settings.video), scenes.stories(1, seed=3, segments=3, change="colour")
    pipe.set_progress_bar_config(disable=True)
    said = VideoSettings(model=bench.settings.video, segments=3)
    shown: list[list[np.ndarray]] = [[], [], []]
    for arm in (ISOLATED, SHARED):
        video, segments = drawn(pipe, said, arm, story, seed=0)
        for row, span in zip(shown, segments, strict=True):
            chosen = np.linspace(span.start, span.stop - 1, bench.settings.frames).round().astype(int)
            row += [to_bytes(video[i : i + 1])[0] for i in chosen]
    yield {"png": encoded(tile([frame for row in shown for frame in row], columns=2 * bench.settings.frames), COLOURS)}
