"""Stories: captions of one thing, one after the other, in which a single word changes from segment to segment.

a red circle moving right on a gray background / a blue circle moving right on a gray background
All captions of a story have as many words, so that each word stands at the same place in all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from saccade.core.checks import check_whole, check_word
from saccade.data.scenes.reading import Picture
from saccade.data.scenes.shapes import SHAPES
from saccade.data.scenes.video import OPPOSITE, STILL, motion_name
from saccade.data.scenes.video_verdict import VideoVerdict, judge_video
from saccade.data.scenes.video_words import VideoPrompt
from saccade.data.scenes.words import Prompt, Want, on_background, phrase
from saccade.data.scenes.world import BACKGROUNDS, COLOURS

Change = Literal["background", "colour", "shape", "motion"]
MOVES = (STILL, *(motion_name(direction, turns=False) for direction in OPPOSITE))
WORDS: dict[str, tuple[str, ...]] = {
    "background": tuple(BACKGROUNDS),
    "colour": tuple(COLOURS),
    "shape": tuple(SHAPES),
    "motion": MOVES,
}


@dataclass(frozen=True, kw_only=True)
class Story:
    """A caption for each segment of a video, and what changes between them."""

    prompts: tuple[VideoPrompt, ...]
    change: Change

    @property
    def texts(self) -> tuple[str, ...]:
        """The captions alone."""
        return tuple(prompt.text for prompt in self.prompts)

    @property
    def word(self) -> str:
        """A word of the thing that all captions have: its shape, or its colour where the shape changes."""
        want = self.prompts[0].start.wants[0]
        return want.colour if self.change == "shape" else want.shape


def story(rng: np.random.Generator, *, segments: int = 2, change: Change | None = None) -> Story:
    """A random story of two segments or more; `change` says what changes, None samples it.

    Raises ValueError for more segments than there are words, and for a change there is not.
    """
    check_whole(2, segments=segments)
    kind: Change = list(get_args(Change))[rng.integers(len(get_args(Change)))] if change is None else change
    check_word(get_args(Change), change=kind)
    if segments > len(WORDS[kind]):
        raise ValueError(f"segments={segments} are more than there are words for a {kind}, {len(WORDS[kind])}")
    said = {name: str(rng.choice(words)) for name, words in WORDS.items()}
    changing = rng.permutation(WORDS[kind])[:segments]
    return Story(prompts=tuple(_caption({**said, kind: str(word)}) for word in changing), change=kind)


def stories(n: int, *, seed: int, segments: int = 2, change: Change | None = None) -> list[Story]:
    """`n` stories; the first k are the same for every n.

    Raises ValueError for a negative n.
    """
    check_whole(0, n=n)
    rng = np.random.default_rng(seed)
    return [story(rng, segments=segments, change=change) for _ in range(n)]


def judge_story(segments: Sequence[Sequence[Picture]], one: Story) -> tuple[VideoVerdict, ...]:
    """A verdict for each segment, given as its frames.

    Raises ValueError for another number of segments.
    """
    if len(segments) != len(one.prompts):
        raise ValueError(f"{len(segments)} segments were given for {len(one.prompts)} captions; give one for each")
    return tuple(judge_video(frames, prompt) for frames, prompt in zip(segments, one.prompts, strict=True))


def _caption(said: dict[str, str]) -> VideoPrompt:
    want = Want(colour=said["colour"], shape=said["shape"])
    text = on_background(f"{phrase(want)} {said['motion']}", said["background"])
    seen = Prompt(text=text, wants=(want,), background=said["background"])
    return VideoPrompt(text=text, start=seen, end=seen, motions=(said["motion"],))
