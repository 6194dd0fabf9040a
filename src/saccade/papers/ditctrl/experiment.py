"""DiTCtrl on stories of coloured shapes: prompts isolated, windows blended, keys and values shared, masks on top.

A story is two captions that differ in a word; each arm draws it from the same noise. CSCV says how evenly the video
moves on, by colours on a coarse grid; the exact parser says whether each segment shows what its caption names.
Expected, after the paper's table: CSCV rises from isolated to blending to sharing, which masks leave alone, and what
segments keep of their captions falls a little in the same order.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from saccade.attach import attach
from saccade.core.rows import Rows
from saccade.core.site import Where
from saccade.data import scenes
from saccade.data.scenes import Story
from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Note, Row, Verdicts
from saccade.experiments.claims import difference, higher
from saccade.metrics.smoothness import cscv, pooled_pixels
from saccade.papers.ditctrl.figures import plot_windows
from saccade.papers.ditctrl.system import DiTCtrl
from saccade.pipelines.long_video import LongVideo
from saccade.pipelines.video import VideoParts
from saccade.pipelines.words import word_tokens
from saccade.runs.windows import Windows

ISOLATED, BLENDED, SHARED, MASKED = "isolated", "blending", "and KV-sharing", "and masks"
ARMS = (ISOLATED, BLENDED, SHARED, MASKED)
RANDOM = "random"  # a model of random weights, for the quick form
ALL = Where(kinds=("joint", "self", "cross"))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of stories and windows.

    model          a bundled video pipeline, or a folder of one; "random" for a tiny one without training
    stories        each of `segments` prompts, in windows of `tile` latent frames
    side           pixels of a frame
    """

    model: str = "scenes-wan"
    stories: int = 16
    segments: int = 2
    tile: int = 5
    overlap: int = 2
    transitions: int = 1
    steps: int = 20
    guidance: float = 2.0
    side: int = 48
    text_tokens: int = 32


def more_even(text: str, one: str, than: str) -> Claim:
    """CSCV is higher under one arm, story by story."""
    return higher(text, "stories.cscv", one, than=than, digits=3)


def lower(text: str, column: str, one: str, than: str) -> Claim:
    """A column is lower under one arm, story by story."""
    return Claim(text=text, measure=lambda found: difference(found, f"stories.{column}", than, one), digits=3)


CLAIMS = (
    more_even("blended windows move on more evenly than isolated prompts", BLENDED, ISOLATED),
    more_even("with shared keys and values they do so even more", SHARED, BLENDED),
    lower("segments keep less of their captions when blended", "steady", BLENDED, ISOLATED),
    lower("and less again with shared keys and values", "steady", SHARED, BLENDED),
)  # fmt: skip
SECTIONS = {
    "windows": (plot_windows,),
    "stories": (
        ArmTable(
            columns=(
                Column(source="stories.cscv", title="CSCV", show=".3f", interval=True),
                Column(source="stories.steady", title="frames as named", show=".2f"),
                Column(source="stories.motion", title="motion as named", show=".2f"),
            ),
            of="stories.arm",
        ),
        Note("{stories} stories of {segments} prompts, {steps} steps, {side} x {side} pixels; means."),
    ),
    "claims": (Verdicts(CLAIMS, differences=True),),
}
EXPERIMENT = Experiment(
    name="ditctrl",
    settings=Settings(),
    quick=Settings(model=RANDOM, stories=2, steps=3, tile=3, overlap=1),
    hours=0.1,
    sections=SECTIONS,
    claims=CLAIMS,
)


@EXPERIMENT.part()
def stories(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm and story."""
    said = bench.settings
    chosen = scenes.stories(said.stories, seed=0, segments=said.segments)
    pipe = opened(said.model)
    pipe.set_progress_bar_config(disable=True)
    for number, story in enumerate(chosen):
        for arm in ARMS:
            bench.progress(len(ARMS) * number + ARMS.index(arm), len(ARMS) * len(chosen), arm)
            yield {"arm": arm, "seed": number} | scored(*drawn(pipe, said, arm, story, seed=number), story)


def drawn(pipe: Any, said: Settings, arm: str, story: Story, seed: int) -> tuple[np.ndarray, tuple[slice, ...]]:
    """A story's video, and the frames of each segment."""
    parts = VideoParts(pipe=pipe, height=said.side, width=said.side, tile=said.tile, text_tokens=said.text_tokens)
    places = {"overlap": 0, "transitions": 0} if arm == ISOLATED else {}
    own = {"overlap": said.overlap, "transitions": said.transitions, **places}
    long = LongVideo(
        parts=parts, windows=Windows(prompts=said.segments, tile=said.tile, **own), prompts=story.texts,
        negatives=("",) * said.segments, steps=said.steps, guidance=said.guidance, paired=arm != ISOLATED,
    )  # fmt: skip
    with parts.guidance(long.guided):
        if arm in (ISOLATED, BLENDED):
            return long.video(seed), long.segments()
        words = word_tokens(pipe, story.texts[0], story.word, said.text_tokens) if arm == MASKED else ()
        with attach(pipe, DiTCtrl(words=words), where=ALL, rows=Rows.of("source", "target")) as run:
            return replace(long, run=run).video(seed), long.segments()


def scored(video: np.ndarray, segments: tuple[slice, ...], story: Story) -> Row:
    """How even it is, and what its segments keep of their captions."""
    verdicts = scenes.judge_story([[*video[span]] for span in segments], story)
    return {
        "cscv": cscv(video, pooled_pixels),
        "steady": float(np.mean([verdict.steady for verdict in verdicts])),
        "motion": float(np.mean([verdict.motion for verdict in verdicts])),
    }


def opened(model: str) -> Any:
    """A pipeline by name or folder, or a tiny one of random weights."""
    if model != RANDOM:
        from saccade.pipelines.loading import load_pipeline

        return load_pipeline(model)
    import torch

    from saccade.models.scenes_wan import ScenesWan

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ScenesWan(
            hidden=32, head_dim=16, feed_forward=32, blocks=3, time_channels=16, text_dim=32, text_heads=2,
            text_layers=1, latent_channels=4, autoencoder_width=4,
        ).pipeline()  # fmt: skip
