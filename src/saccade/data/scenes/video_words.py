"""Captions of videos: how each thing moves, and how two things lie at the start and at the end.

a red circle moving right and a large blue square staying still on a gray background
a red circle moving right starts left of a blue square staying still and ends right of it
"""

from dataclasses import dataclass

import numpy as np

from saccade.data.scenes.sampling import Split, split_of
from saccade.data.scenes.video import Video, sample_video
from saccade.data.scenes.words import MAX_WORDS, RELATIONS, Prompt, Want, holds, on_background, phrase, promise
from saccade.data.scenes.world import Scene


@dataclass(frozen=True, kw_only=True)
class VideoPrompt:
    """A caption and what it promises of the first frame, of the last, and of each thing's motion.

    Places are those of the first frame; `motions[i]` belongs to `start.wants[i]`.
    """

    text: str
    start: Prompt
    end: Prompt
    motions: tuple[str, ...]


def describe_video(video: Video, rng: np.random.Generator) -> VideoPrompt:
    """A random true caption of at most 24 words; the motion of every thing is always named.

    Raises ValueError for an empty scene.
    """
    if not video.scene.things:
        raise ValueError("things=() leaves nothing to describe; give the scene at least one thing")
    motions = tuple(video.motion_words(i) for i in range(len(video.motions)))
    relations = _relations(video, rng)
    full = len(motions) == 1 and split_of(video.scene) == "held-out"
    while True:
        wants = tuple(promise(thing, rng, full=full, placed=0.2) for thing in video.scene.things)
        background = video.scene.background if rng.random() < 0.6 else None
        text = on_background(_text(wants, motions, relations), background)
        if len(text.split()) <= MAX_WORDS:
            return _prompt(text, wants, background, motions, relations)


def video_prompts(
    n: int, *, frames: int, seed: int, count: int | None = None, split: Split = "train"
) -> list[VideoPrompt]:
    """`n` captions of videos of so many frames, of one split; the first k are the same for every n.

    `count`: things per video, or None to draw it. `split`: "train" or "held-out".
    Raises ValueError for a negative n.
    """
    if n < 0:
        raise ValueError(f"n={n} must not be negative")
    rng = np.random.default_rng(seed)
    return [describe_video(sample_video(rng, count=count, frames=frames, split=split), rng) for _ in range(n)]


def _relations(video: Video, rng: np.random.Generator) -> tuple[str, str] | None:
    """A relation of two things at the start and one at the end; None half of the time, or where nothing is clear."""
    if len(video.motions) != 2 or rng.random() < 0.5:
        return None
    start, end = (_clear(video.at(frame)) for frame in (0, video.frames - 1))
    return (start[rng.integers(len(start))], end[rng.integers(len(end))]) if start and end else None


def _clear(scene: Scene) -> list[str]:
    a, b = ((thing.x, thing.y) for thing in scene.things)
    return [name for name in RELATIONS if holds(name, a, b)]


def _text(wants: tuple[Want, ...], motions: tuple[str, ...], relations: tuple[str, str] | None) -> str:
    phrases = [f"{phrase(want)} {motion}" for want, motion in zip(wants, motions, strict=True)]
    if relations is None:
        return " and ".join(phrases)
    return f"{phrases[0]} starts {relations[0]} {phrases[1]} and ends {relations[1]} it"


def _prompt(
    text: str,
    wants: tuple[Want, ...],
    background: str | None,
    motions: tuple[str, ...],
    relations: tuple[str, str] | None,
) -> VideoPrompt:
    first, last = (((0, name, 1),) for name in relations) if relations else ((), ())
    lasting = tuple(Want(colour=want.colour, shape=want.shape, size=want.size) for want in wants)
    start = Prompt(text=text, wants=wants, background=background, relations=first)
    end = Prompt(text=text, wants=lasting, background=background, relations=last)
    return VideoPrompt(text=text, start=start, end=end, motions=motions)
