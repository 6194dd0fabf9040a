"""Stories of rendered scenes: shots of one thing, each on its own background and with its own motion.

Captions say background and motion, and not the thing: what it looks like passes from clip to clip alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.data.scenes import Motion, Video, render_video, sample_video
from saccade.models.scene_words import word_ids
from saccade.train.text import t5_ids

SMALLEST = 32  # pixels along a side of what is rendered


@dataclass(frozen=True, kw_only=True, eq=False)
class Stories:
    """Rendered once: `shots[s][i]` is shot i of story s, pixels (s k f c h w) in [-1, 1]."""

    shots: list[list[Video]]
    pixels: Float[Tensor, "s k f c h w"]

    def one(self, rng: np.random.Generator, scenes: int) -> tuple[Tensor, list[str]]:
        """Consecutive shots of one story: clips (scenes f c h w), and captions."""
        story = int(rng.integers(len(self.shots)))
        start = window(len(self.shots[story]), scenes, rng)
        chosen = slice(start, start + scenes)
        return self.pixels[story, chosen], [caption(shot) for shot in self.shots[story][chosen]]

    def unrelated(self, rng: np.random.Generator, scenes: int) -> tuple[Tensor, list[str]]:
        """Shots of as many different stories. Raises ValueError for fewer stories."""
        if len(self.shots) < scenes:
            raise ValueError(f"{len(self.shots)} stories hold no {scenes} unrelated clips; render more")
        rows = rng.permutation(len(self.shots))[:scenes]
        places = [(int(s), int(rng.integers(len(self.shots[s])))) for s in rows]
        clips = torch.stack([self.pixels[at] for at in places])
        return clips, [caption(self.shots[s][i]) for s, i in places]


def render_stories(count: int, *, shots: int, frames: int, side: int, seed: int, close: bool = False) -> Stories:
    """`count` stories of `shots` clips, story s from (seed, s) alone; below 32 pixels a mean of those of 32 and more.

    close  the thing stays still in the middle, and the middle half of the picture is shown
    """
    drawn = [story(np.random.default_rng([seed, s]), shots, frames, close=close) for s in range(count)]
    shown = side * (2 if close else 1)
    finer = -(-SMALLEST // shown)
    pictures = np.stack([np.stack([render_video(shot, shown * finer) for shot in each]) for each in drawn])
    pixels = torch.from_numpy(pictures).movedim(-1, -3).float() / 127.5 - 1
    small = F.avg_pool2d(pixels.flatten(0, 2), finer).reshape(*pixels.shape[:4], shown, shown)
    edge = (shown - side) // 2
    return Stories(shots=drawn, pixels=small[..., edge : edge + side, edge : edge + side])


def story(rng: np.random.Generator, shots: int, frames: int, *, close: bool = False) -> list[Video]:
    """Shots of one large thing; neighbours differ in background."""
    thing = replace(sample_video(rng, count=1, frames=frames).scene.things[0], size="large", x=0.5, y=0.5)
    found: list[Video] = []
    while len(found) < shots:
        video = sample_video(rng, count=1, frames=frames)
        there = video.scene.things[0]
        placed = thing if close else replace(thing, x=there.x, y=there.y)
        motions = (Motion(direction="still"),) if close else video.motions
        video = replace(video, scene=replace(video.scene, things=(placed,)), motions=motions)
        if _is_plain(video) and not (found and found[-1].scene.background == video.scene.background):
            found.append(video)
    return found


def window(shots: int, scenes: int, rng: np.random.Generator) -> int:
    """The first of `scenes` consecutive shots. Raises ValueError for a story of fewer."""
    if shots < scenes:
        raise ValueError(f"a story of {shots} shots has no scenes={scenes} in a row; give longer ones, or fewer scenes")
    return int(rng.integers(shots - scenes + 1))


def caption(shot: Video) -> str:
    """What is not the thing's: `moving left on a gray background`."""
    return f"{shot.motion_words(0)} on a {shot.scene.background} background"


def embed_words(captions: Sequence[str], text_tokens: int) -> Float[Tensor, "r t v"]:
    """Captions word by word, one-hot, padded; the empty caption is pads alone."""
    return F.one_hot(t5_ids(captions, text_tokens), len(word_ids())).float()


def _is_plain(video: Video) -> bool:
    try:
        return bool(video.motion_words(0))
    except ValueError:
        return False
