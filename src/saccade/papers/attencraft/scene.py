"""Pictures of two shapes to learn from, on the bundled model: colours it knows, under words it does not.

A new word sets out from the word of a near colour, and its phrase names the shape, as the model's captions do.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from saccade.data.scenes import Scene, Thing, render
from saccade.papers.attencraft.concepts import Concept
from saccade.papers.attencraft.customiser import Customisation

SIDE, TEXT, GROUND = 64, 32, "black"
TEMPLATE, JOINT = f"a large {{}} on a {GROUND} background", " and a large "
PRIOR = "a small green star on a white background"
NEAR = {
    "red": "orange",
    "blue": "cyan",
    "yellow": "orange",
    "purple": "blue",
}  # the colour, and where its word sets out
PAIRS = (
    (("red", "circle", "top left"), ("blue", "square", "bottom right")),
    (("yellow", "square", "right"), ("purple", "triangle", "bottom left")),
    (("blue", "circle", "bottom"), ("red", "triangle", "top right")),
)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One of the pictures of `PAIRS`."""

    number: int = 0

    @property
    def scene(self) -> Scene:
        """Its two things, large."""
        from saccade.data.scenes import PLACES

        found = ((colour, shape, *PLACES[place]) for colour, shape, place in PAIRS[self.number])
        things = (Thing(colour=c, shape=s, size="large", x=x, y=y) for c, s, x, y in found)
        return Scene(things=tuple(things), background=GROUND)

    def picture(self, side: int = SIDE) -> UInt8[np.ndarray, "{side} {side} 3"]:
        """Rendered."""
        return render(self.scene, side)

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """A word for the colour of each."""
        return tuple(
            Concept(token=f"<new{i}>", word=NEAR[colour], phrase=f"<new{i}> {shape}")
            for i, (colour, shape, _) in enumerate(PAIRS[self.number], 1)
        )


def for_scenes(options: Customisation) -> Customisation:
    """The same with prompts as the bundled model knows them."""
    known = options.prior if options.prior != Customisation().prior else replace(options.prior, prompt=PRIOR, steps=16)
    return replace(options, prior=known, text_tokens=options.text_tokens or TEXT)
