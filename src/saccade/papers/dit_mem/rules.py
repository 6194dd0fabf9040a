"""Videos that keep a rule their captions do not say: each shape moves one way, at one speed.

A circle goes right, a square left, a triangle up and a cross down; captions say "moving" and no more. How far a video
keeps the rule is read from its frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from saccade.data.scenes import BACKGROUNDS, COLOURS, SIZES, Motion, Scene, Thing, Video, parse
from saccade.data.scenes.video import DIRECTIONS

RULES = {"circle": "right", "square": "left", "triangle": "up", "cross": "down"}
TRAVEL = 0.45  # share of the side from the first frame to the last
PLACES, NEAR, JITTER = (0.2, 0.5, 0.8), 0.2, 0.02
CLEAR = 0.1  # a way shorter than this is none


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What one video shows of the rule of its caption.

    error   mean distance over frames from the way the rule has, from the video's own first place, in sides
    right   1 where the thing ends more than `CLEAR` away in the rule's direction
    colour  of the thing in most frames; "" where none was read
    seen    share of frames in which a thing was read
    way     (x, y) of the frames from the first, of frames without a thing the place before
    """

    error: float
    right: float
    colour: str
    seen: float
    way: tuple[tuple[float, float], ...]


def rule_video(
    rng: np.random.Generator, *, frames: int = 9, shape: str | None = None, colour: str | None = None
) -> Video:
    """A thing that moves as its shape does, of given looks or of random ones."""
    shape, colour = shape or str(rng.choice([*RULES])), colour or str(rng.choice([*COLOURS]))
    direction = RULES[shape]
    x, y = DIRECTIONS[direction]
    place = [float(rng.choice(PLACES)), float(rng.choice(PLACES))]
    axis = 0 if x else 1
    place[axis] = NEAR if x + y > 0 else 1 - NEAR
    across, down = (float(p + rng.uniform(-JITTER, JITTER)) for p in place)
    thing = Thing(colour=colour, shape=shape, size=str(rng.choice([*SIZES])), x=across, y=down)
    scene = Scene(things=(thing,), background=str(rng.choice([*BACKGROUNDS])))
    return Video(scene=scene, motions=(Motion(direction=direction, travel=TRAVEL),), frames=frames)


def vague_caption(video: Video) -> str:
    """Colour and shape of what a video shows, and that it moves, but not how."""
    (thing,) = video.scene.things
    return f"a {thing.colour} {thing.shape} moving"


def keeps_rule(frames: Sequence[UInt8[np.ndarray, "n n 3"]], asked: Video) -> Kept:
    """Judge a video by the caption of another that keeps the rule."""
    (thing,) = asked.scene.things
    found, colours = [], []
    for frame in frames:
        things = sorted(parse(frame).things, key=lambda each: (each.colour != thing.colour, -each.mask.sum()))
        found.append((things[0].x, things[0].y) if things else None)
        colours += [things[0].colour or ""] if things else []
    way, direction = way_of(found), RULES[thing.shape]
    usual = max({*colours}, key=colours.count, default="")
    return Kept(
        error=way_error(way, direction), right=float(way[-1] @ np.array(DIRECTIONS[direction]) > CLEAR),
        colour=usual, seen=len(colours) / len(frames), way=tuple((float(x), float(y)) for x, y in way.round(3)),
    )  # fmt: skip


def way_of(places: Sequence[tuple[float, float] | None]) -> Float[np.ndarray, "t 2"]:
    """From the first place that was read; frames where none was keep the place before."""
    known = [place for place in places if place is not None]
    held, way = known[0] if known else (0.0, 0.0), []
    for place in places:
        held = place or held
        way.append(held)
    return np.array(way) - way[0]


def way_error(way: Float[np.ndarray, "t 2"], direction: str) -> float:
    """Mean distance from the rule's way."""
    wanted = TRAVEL * np.linspace(0, 1, len(way))[:, None] * np.array(DIRECTIONS[direction])
    return float(np.linalg.norm(way - wanted, axis=1).mean())
