"""Random scenes: one to three things that never touch, and the split that keeps some combinations out of training.

A scene is held out if any two of its things form a held-out pair of (colour, shape), or if it is one thing held out by
colour, shape, size and place. Membership is a fixed hash of those words, the same for every seed.
"""

from hashlib import blake2b
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from saccade.core.checks import check_word
from saccade.data.scenes.shapes import SHAPES
from saccade.data.scenes.world import BACKGROUNDS, COLOURS, PLACES, SIZES, Box, Scene, Thing

Split = Literal["train", "held-out"]

HELD_OUT_SHARE = 0.08
JITTER = 0.02  # of a centre around its place
GAP = 0.03  # between boxes: two pixels at 64
COUNT_WEIGHTS = (0.25, 0.45, 0.3)
MAX_COUNT = len(COUNT_WEIGHTS)


def sample(rng: np.random.Generator, *, count: int | None = None, split: Split = "train") -> Scene:
    """A random scene of `count` things (1 to 3; None: drawn) that belongs to `split`."""
    check_word(get_args(Split), split=split)
    number = draw_count(rng, count)
    while True:
        scene = _draw(rng, number)
        if scene is not None and split_of(scene) == split:
            return scene


def split_of(scene: Scene) -> Split:
    """The split a scene belongs to."""
    things = scene.things
    if len(things) == 1:
        return "held-out" if _held_out(_full_name(things[0])) else "train"
    pairs = (" + ".join(sorted((_kind(a), _kind(b)))) for a, b in combinations(things, 2))
    return "held-out" if any(_held_out(pair) for pair in pairs) else "train"


def apart(a: Box, b: Box, gap: float = GAP) -> bool:
    """Whether two boxes leave at least `gap` between them along x or y."""
    return max(b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3]) >= gap


def draw_count(rng: np.random.Generator, count: int | None) -> int:
    """`count`, checked, or a random number of things where it is None.

    Raises ValueError for a count out of range.
    """
    if count is None:
        return 1 + int(np.searchsorted(np.cumsum(COUNT_WEIGHTS[:-1]), rng.random(), side="right"))
    if not 1 <= count <= MAX_COUNT:
        raise ValueError(f"count={count} must be 1 to {MAX_COUNT}, or None to draw it")
    return count


def _draw(rng: np.random.Generator, number: int) -> Scene | None:
    """A scene whose things differ in colour or shape, or None where the drawn places do not fit."""
    names = list(PLACES)
    places = rng.permutation(len(names))[:number]
    things = tuple(_draw_thing(rng, names[i]) for i in places)
    if len({_kind(thing) for thing in things}) < number:
        return None
    if not all(apart(a.box, b.box) for a, b in combinations(things, 2)):
        return None
    return Scene(things=things, background=_pick(rng, tuple(BACKGROUNDS)))


def _draw_thing(rng: np.random.Generator, place: str) -> Thing:
    x, y = PLACES[place] + rng.uniform(-JITTER, JITTER, 2)
    colour, shape, size = (_pick(rng, tuple(words)) for words in (COLOURS, SHAPES, SIZES))
    return Thing(colour=colour, shape=shape, size=size, x=float(x), y=float(y))


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[rng.integers(len(words))]


def _kind(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"


def _full_name(thing: Thing) -> str:
    return f"{thing.size} {_kind(thing)} {thing.place}"


def _held_out(name: str) -> bool:
    return int.from_bytes(blake2b(name.encode(), digest_size=4).digest()) < HELD_OUT_SHARE * 2**32
