"""Videos: scenes whose things move on straight lines at constant speed and turn back at the picture's edge."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from saccade.core.checks import check_word
from saccade.data.scenes.raster import masks, render
from saccade.data.scenes.sampling import Split, apart, draw_count, sample
from saccade.data.scenes.shapes import extents
from saccade.data.scenes.world import Scene, Thing

DIRECTIONS: dict[str, tuple[int, int]] = {
    "still": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
STILL = "staying still"
TRAVEL = (0.3, 0.6)  # share of the side covered from the first frame to the last
CLEAR_LEG = 0.15  # least way before and after a turn
TURN_FRAMES = 8  # fewer frames may step over a turn
STILL_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A straight way: `direction` at the start, `travel` the share of the side covered by the whole video.

    Raises ValueError for options out of range.
    """

    direction: str
    travel: float = 0.0

    def __post_init__(self) -> None:
        check_word(DIRECTIONS, direction=self.direction)
        if self.travel < 0 or (self.travel > 0) != (self.direction != "still"):
            raise ValueError(f"travel={self.travel} must be above 0 for what moves and 0 for what is still")


@dataclass(frozen=True, kw_only=True)
class Video:
    """`scene` is the first of `frames` frames; `motions[i]` moves thing i.

    Raises ValueError for options out of range.
    """

    scene: Scene
    motions: tuple[Motion, ...]
    frames: int = 16

    def __post_init__(self) -> None:
        if len(self.motions) != len(self.scene.things):
            raise ValueError(f"{len(self.motions)} motions for {len(self.scene.things)} things; give each thing one")
        if self.frames < 2:
            raise ValueError(f"frames={self.frames} must be at least 2; a single frame is a scene")

    def at(self, frame: int) -> Scene:
        """The scene that one frame shows.

        Raises ValueError for a frame there is not.
        """
        if not 0 <= frame < self.frames:
            raise ValueError(f"frame={frame} must be 0 to {self.frames - 1}")
        moved = zip(self.scene.things, self.motions, strict=True)
        return replace(self.scene, things=tuple(_move(thing, way, frame / (self.frames - 1)) for thing, way in moved))

    def __iter__(self) -> Iterator[Scene]:
        return (self.at(frame) for frame in range(self.frames))

    def boxes(self) -> Float[np.ndarray, "t things 4"]:
        """Boxes of all things in every frame."""
        return np.stack([scene.boxes() for scene in self])

    def motion_words(self, i: int) -> str:
        """How thing `i` moves: "staying still", "moving left", or "moving left then right" where it turns.

        Raises ValueError for a motion too short to be described.
        """
        thing, motion = self.scene.things[i], self.motions[i]
        if not _is_plain(thing, motion, self.frames):
            raise ValueError(
                f"motion {i} ({motion}) has no words: it must cover {CLEAR_LEG} of the side, turn at most once, in a "
                f"video of {TURN_FRAMES} frames or more, and cover {CLEAR_LEG} both before and after the turn"
            )
        return motion_name(motion.direction, turns=_legs(thing, motion)[1] > 0) if motion.travel else STILL


def sample_video(
    rng: np.random.Generator, *, count: int | None = None, frames: int = 16, split: Split = "train"
) -> Video:
    """A random video in which something moves, nothing touches, and every turn is plain to see."""
    number = draw_count(rng, count)
    while True:
        scene = sample(rng, count=number, split=split)
        video = Video(scene=scene, motions=tuple(_draw(rng) for _ in scene.things), frames=frames)
        ways = zip(scene.things, video.motions, strict=True)
        moves = any(motion.travel for motion in video.motions)
        if moves and all(_is_plain(thing, motion, frames) for thing, motion in ways) and _apart(video):
            return video


def render_video(video: Video, size: int = 64) -> UInt8[np.ndarray, "t n n 3"]:
    """Draw every frame."""
    return np.stack([render(scene, size) for scene in video])


def video_masks(video: Video, size: int = 64) -> Bool[np.ndarray, "t things n n"]:
    """Which pixels each thing owns in every frame."""
    return np.stack([masks(scene, size) for scene in video])


def motion_name(direction: str, *, turns: bool) -> str:
    """`moving left` or `moving left then right`."""
    return f"moving {direction} then {OPPOSITE[direction]}" if turns else f"moving {direction}"


MOTIONS = (STILL, *(motion_name(direction, turns=turns) for direction in OPPOSITE for turns in (False, True)))


def _draw(rng: np.random.Generator) -> Motion:
    if rng.random() < STILL_SHARE:
        return Motion(direction="still")
    return Motion(direction=tuple(OPPOSITE)[rng.integers(len(OPPOSITE))], travel=float(rng.uniform(*TRAVEL)))


def _move(thing: Thing, motion: Motion, progress: float) -> Thing:
    along_x, along_y = DIRECTIONS[motion.direction]
    way = motion.travel * progress
    half_width, half_height = (thing.radius * extent for extent in extents(thing.shape))
    x = _fold(thing.x + along_x * way, half_width) if along_x else thing.x
    y = _fold(thing.y + along_y * way, half_height) if along_y else thing.y
    return replace(thing, x=x, y=y)


def _fold(position: float, half: float) -> float:
    """A position on the line, reflected into [half, 1 - half]."""
    span = 1 - 2 * half
    if half <= position <= 1 - half:
        return position
    return half + span - abs((position - half) % (2 * span) - span)


def _legs(thing: Thing, motion: Motion) -> tuple[float, float]:
    """The ways before and after the first turn."""
    along_x, along_y = DIRECTIONS[motion.direction]
    x0, y0, x1, y1 = thing.box
    room = {-1: x0, 1: 1 - x1}[along_x] if along_x else {-1: y0, 0: 0.0, 1: 1 - y1}[along_y]
    before = min(room, motion.travel)
    return before, motion.travel - before


def _is_plain(thing: Thing, motion: Motion, frames: int) -> bool:
    """Whether a thing stays, moves straight on, or turns once with a clear way before and after, in enough frames."""
    before, after = _legs(thing, motion)
    x0, y0, x1, y1 = thing.box
    wall_to_wall = 1 - (x1 - x0 if DIRECTIONS[motion.direction][0] else y1 - y0)
    turns = frames >= TURN_FRAMES and CLEAR_LEG <= after <= wall_to_wall
    return motion.travel == 0 or (before >= CLEAR_LEG and (after == 0 or turns))


def _apart(video: Video) -> bool:
    return all(apart(a.box, b.box) for scene in video for a, b in combinations(scene.things, 2))
