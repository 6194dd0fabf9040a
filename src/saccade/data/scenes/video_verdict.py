"""Does a video keep what its caption promises? Every frame is read, things are followed by colour and shape."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from saccade.data.scenes.reading import Parsed, Picture, parse
from saccade.data.scenes.verdict import Verdict, judge, match
from saccade.data.scenes.video import STILL, motion_name
from saccade.data.scenes.video_words import VideoPrompt

CLEAR_WAY = 0.1  # share of the side from which a way counts as a motion
SLACK = 0.04  # how far a reading may waver off the way

Path = Float[np.ndarray, "t 2"]


@dataclass(frozen=True, kw_only=True)
class VideoVerdict:
    """`start`, `end`: verdicts on the first and the last frame. `motion`: share of things that move as promised.

    `steady`: share of frames that show just the things named, as named, on the background named.
    `all`: everything kept.
    """

    start: Verdict
    end: Verdict
    motion: float
    steady: float
    all: bool


def judge_video(frames: Sequence[Picture], prompt: VideoPrompt) -> VideoVerdict:
    """Judge a video, frame by frame (each as `parse` takes it), by its caption.

    Raises ValueError for fewer than two frames.
    """
    if len(frames) < 2:
        raise ValueError(f"{len(frames)} frames are no video; give at least 2, or use judge for a picture")
    seen = [parse(frame) for frame in frames]
    start, end = judge(seen[0], prompt.start), judge(seen[-1], prompt.end)
    lasting = replace(prompt.end, relations=())
    steady = float(np.mean([judge(frame, lasting).all for frame in seen]))
    moves = [read_motion(path) if path is not None else None for path in _follow(seen, prompt)]
    motion = float(np.mean([move == said for move, said in zip(moves, prompt.motions, strict=True)]))
    whole = start.all and end.all and steady == 1 and motion == 1
    return VideoVerdict(start=start, end=end, motion=motion, steady=steady, all=whole)


def read_motion(path: Path) -> str | None:
    """How a way of centres (x, y) moves, in the words of captions; None where it is neither still nor straight."""
    reach = np.ptp(path, axis=0)
    axis = int(reach.argmax())
    if reach[axis] < CLEAR_WAY:
        return STILL
    if reach[1 - axis] >= CLEAR_WAY:
        return None
    way = path[:, axis] - path[0, axis]
    forward = float(np.sign(way[np.argmax(np.abs(way) >= CLEAR_WAY / 2)]))
    way, turn = forward * way, int((forward * way).argmax())
    back = float(way[turn] - way[-1])
    if way[turn] < CLEAR_WAY or SLACK < back < CLEAR_WAY or not _turns_once(way, turn):
        return None
    return motion_name(_direction(axis, forward), turns=back >= CLEAR_WAY)


def _turns_once(way: Float[np.ndarray, " t"], turn: int) -> bool:
    """Whether a way rises to `turn` and falls from there, but for wavering."""
    drop = np.maximum.accumulate(way[: turn + 1]) - way[: turn + 1]
    rise = way[turn:] - np.minimum.accumulate(way[turn:])
    return bool(max(drop.max(), rise.max()) <= SLACK)


def _direction(axis: int, forward: float) -> str:
    return (("left", "right"), ("up", "down"))[axis][int(forward > 0)]


def _follow(seen: Sequence[Parsed], prompt: VideoPrompt) -> list[Path | None]:
    """The way of each wanted thing; None where a frame lacks a thing of its colour and shape."""
    wants = prompt.end.wants
    ways: list[list[tuple[float, float]]] = [[] for _ in wants]
    for frame in seen:
        for way, (thing, want) in zip(ways, match(frame.things, wants), strict=True):
            if thing is not None and (thing.colour, thing.shape) == (want.colour, want.shape):
                way.append((thing.x, thing.y))
    return [np.array(way) if len(way) == len(seen) else None for way in ways]
