"""Does a video show the relation, between the things asked for, without the looks of those it was learned from?

Frames are read by the parser of the scenes; a thing is followed by its colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from saccade.data.scenes import Parsed, parse
from saccade.papers.dreamrelation.bounces import EXEMPLAR, Bounce

CLEARLY = 0.1  # share of the side by which a distance must fall, and rise again
OFTEN = 0.5  # share of the frames in which both things must be seen
LOOKS = tuple(colour for colour, _ in EXEMPLAR)
Path = Float[np.ndarray, "t 2 2"]


@dataclass(frozen=True, kw_only=True)
class RelationVerdict:
    """What one video shows.

    success   whether the distance of the two things falls and rises again while neither passes the other
    seen      share of the frames with both things, by colour
    caption   share of things asked for that are there, by colour and shape, mean over frames
    leaked    share of the area of all things that has a colour of the exemplars
    """

    success: bool
    seen: float
    caption: float
    leaked: float


def judge_relation(video: UInt8[np.ndarray, "t h w 3"], wanted: Bounce) -> RelationVerdict:
    """Judge a video by what was asked for."""
    frames = [parse(frame) for frame in video]
    kinds = [(thing.colour, thing.shape) for thing in wanted.scene.things]
    path = tracked(frames, [colour for colour, _ in kinds])
    there = [kind in {(t.colour, t.shape) for t in frame.things} for frame in frames for kind in kinds]
    areas = [(t.colour in LOOKS, int(t.mask.sum())) for frame in frames for t in frame.things]
    total = sum(area for _, area in areas)
    return RelationVerdict(
        success=bounces(path), seen=float(np.isfinite(path).all((1, 2)).mean()), caption=float(np.mean(there)),
        leaked=sum(area for own, area in areas if own) / total if total else 0.0,
    )  # fmt: skip


def tracked(frames: Sequence[Parsed], colours: Sequence[str]) -> Float[np.ndarray, "t c 2"]:
    """Centres (x, y) of the largest thing of each colour in each frame; nan where there is none."""
    path = np.full((len(frames), len(colours), 2), np.nan)
    for i, frame in enumerate(frames):
        for j, colour in enumerate(colours):
            own = [thing for thing in frame.things if thing.colour == colour]
            if own:
                largest = max(own, key=lambda thing: int(thing.mask.sum()))
                path[i, j] = largest.x, largest.y
    return path


def bounces(path: Path) -> bool:
    """Whether two things come nearer and part again, each on its own side throughout.

    Frames that lack one are passed over, if at least half are left.
    """
    whole = path[np.isfinite(path).all((1, 2))]
    if len(whole) < max(3, OFTEN * len(path)):
        return False
    distance = np.linalg.norm(whole[:, 0] - whole[:, 1], axis=1)
    side = np.sign(whole[:, 0, 0] - whole[:, 1, 0])
    fall, rise = distance[0] - distance.min(), distance[-1] - distance.min()
    return bool(min(fall, rise) >= CLEARLY and (side == side[0]).all() and side[0] != 0)
