"""Captions: what a text says of a scene, and the same as data that a judge can check.

    a large red circle at the top left and a blue square on a gray background
    an orange cross left of a cyan triangle

Colour and shape are always named; size, place, background and relations are named at random. Whatever is said holds
with a clear margin, and a sentence that can be read in two ways is used only where both readings hold.
"""

from dataclasses import dataclass

import numpy as np

from saccade.data.scenes.sampling import Split, sample, split_of
from saccade.data.scenes.shapes import SHAPES
from saccade.data.scenes.world import BACKGROUNDS, COLOURS, PLACES, SIZES, Scene, Thing

MAX_WORDS = 24
CLEAR = 0.2  # distance of two centres along an axis, from which a relation is said
RELATIONS: dict[str, tuple[float, float]] = {  # direction from the second thing to the first
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}
MOTION_WORDS = ("moving", "staying", "still", "up", "down", "then", "starts", "ends", "it")
_JOINTS = ("a", "an", "and", "at", "the", "on", "background")

Relation = tuple[int, str, int]


@dataclass(frozen=True, kw_only=True)
class Want:
    """One thing as a caption promises it; None where the caption is silent."""

    colour: str
    shape: str
    size: str | None = None
    place: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A caption and what it promises; `wants` are in the order of the text and of the scene described.

    `relations`: (i, relation, j), thing i stands in that relation to thing j.
    """

    text: str
    wants: tuple[Want, ...]
    background: str | None = None
    relations: tuple[Relation, ...] = ()


def describe(scene: Scene, rng: np.random.Generator) -> Prompt:
    """A random true caption of at most 24 words.

    A held-out single thing is always named in full, so that no caption of its belongs to a training scene too.
    Raises ValueError for an empty scene.
    """
    if not scene.things:
        raise ValueError("things=() leaves nothing to describe; give the scene at least one thing")
    full = len(scene.things) == 1 and split_of(scene) == "held-out"
    relation, first, second = _relation(scene.things, rng)
    while True:
        wants = tuple(promise(thing, rng, full=full, placed=0.25 if relation else 0.6) for thing in scene.things)
        background = scene.background if rng.random() < 0.6 else None
        text = _text(wants, background, relation, len(first))
        if len(text.split()) <= MAX_WORDS:
            pairs = tuple((i, relation, j) for i in first for j in second) if relation else ()
            return Prompt(text=text, wants=wants, background=background, relations=pairs)


def prompts(n: int, *, seed: int, count: int | None = None, split: Split = "train") -> list[Prompt]:
    """`n` captions of scenes of one split; the first k are the same for every n.

    `count`: things per scene, 1 to 3, or None to draw it. `split`: "train" or "held-out".
    Raises ValueError for a negative n.
    """
    if n < 0:
        raise ValueError(f"n={n} must not be negative")
    rng = np.random.default_rng(seed)
    return [describe(sample(rng, count=count, split=split), rng) for _ in range(n)]


def vocabulary() -> tuple[str, ...]:
    """Every word that captions of pictures and videos use, sorted."""
    phrases = (*COLOURS, *SHAPES, *SIZES, *PLACES, *BACKGROUNDS, *RELATIONS, *MOTION_WORDS, *_JOINTS)
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))


def holds(relation: str, a: tuple[float, float], b: tuple[float, float], margin: float = CLEAR) -> bool:
    """Whether centre `a` stands in `relation` to centre `b` by at least `margin`."""
    along_x, along_y = RELATIONS[relation]
    return along_x * (a[0] - b[0]) + along_y * (a[1] - b[1]) >= margin


def phrase(want: Want) -> str:
    """`a large red circle at the top`, without what is not wanted."""
    words = " ".join(word for word in (want.size, want.colour, want.shape) if word)
    article = "an" if words[0] in "aeiou" else "a"
    return f"{article} {words} at the {want.place}" if want.place else f"{article} {words}"


def on_background(text: str, background: str | None) -> str:
    """The text, with the background named if there is one to name."""
    return f"{text} on a {background} background" if background else text


def promise(thing: Thing, rng: np.random.Generator, *, full: bool, placed: float) -> Want:
    """What to say of a thing: all of it if `full`, else its size at random, and its place with probability `placed`."""
    size = thing.size if full or rng.random() < 0.6 else None
    place = thing.place if full or rng.random() < placed else None
    return Want(colour=thing.colour, shape=thing.shape, size=size, place=place)


def _relation(things: tuple[Thing, ...], rng: np.random.Generator) -> tuple[str | None, range, range]:
    """A relation to say, None half of the time, and the things before and after it: one and two, or two and one."""
    cut = 1 if len(things) < 3 else int(rng.integers(1, 3))
    first, second = range(cut), range(cut, len(things))
    centres = [(thing.x, thing.y) for thing in things]
    true = [name for name in RELATIONS if all(holds(name, centres[i], centres[j]) for i in first for j in second)]
    if len(things) == 1 or not true or rng.random() < 0.5:
        return None, first, second
    return true[rng.integers(len(true))], first, second


def _text(wants: tuple[Want, ...], background: str | None, relation: str | None, cut: int) -> str:
    phrases = [phrase(want) for want in wants]
    joints = [relation if relation and i == cut else "and" for i in range(1, len(wants))]
    text = phrases[0] + "".join(f" {joint} {more}" for joint, more in zip(joints, phrases[1:], strict=True))
    return on_background(text, background)
