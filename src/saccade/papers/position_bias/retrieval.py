"""The task of the self-attention networks: N items, each followed by its label, then an item whose label is asked.

    x1 l1 x2 l2 ... xN lN xq        2 N + 1 tokens; items are noisy means of classes, each class stands `repeats` times

Where two places hold one item with different labels, the answer shows which place is preferred.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.checks import check_whole, check_word

Place = Literal["first", "middle", "last"]
PLACES: tuple[Place, ...] = ("first", "middle", "last")


class World(NamedTuple):
    """Classes and labels drawn once: means, vectors of labels, each class's label, and what "fixed" noise adds."""

    means: Float[Tensor, "k d"]
    vectors: Float[Tensor, "l d"]
    label_of: Int[Tensor, " k"]
    shared: Float[Tensor, " d"]


class Questions(NamedTuple):
    """Tokens, and the right label."""

    x: Float[Tensor, "b n d"]
    label: Int[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Sizes and laws.

    pairs     N items with labels; `repeats` of each class among them
    classes   K there are, of `width` numbers, each mean and label vector drawn with a deviation of 1 / width
    labels    L there are
    noise     weight of what is added to a mean, rescaled to the same variance
    kind      "gaussian": drawn anew for every item; "fixed": one vector for all, which makes items alike
    answers   pairs from which the question is drawn in training; None for all
    Raises ValueError for options out of range, and for more classes asked in a text than there are.
    """

    pairs: int = 8
    repeats: int = 4
    classes: int = 2048
    width: int = 64
    labels: int = 32
    noise: float = 0.75
    kind: Literal["gaussian", "fixed"] = "gaussian"
    answers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_whole(1, pairs=self.pairs, repeats=self.repeats, classes=self.classes, width=self.width)
        check_whole(2, labels=self.labels)
        check_word(("gaussian", "fixed"), kind=self.kind)
        if self.repeats > self.pairs or self.pairs % self.repeats:
            raise ValueError(f"pairs={self.pairs} must be a multiple of repeats={self.repeats}, at least one")
        if self.distinct > self.classes:
            raise ValueError(f"{self.distinct} classes in a text are more than classes={self.classes} there are")
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"noise={self.noise} must be a finite number of at least 0")
        if self.answers is not None and not all(0 <= at < self.pairs for at in self.answers or (-1,)):
            raise ValueError(f"answers={self.answers} must be pairs from 0 to {self.pairs - 1}, at least one")

    @property
    def distinct(self) -> int:
        """Classes in a text."""
        return self.pairs // self.repeats

    @property
    def places(self) -> Mapping[Place, int]:
        """Pairs by name."""
        return {"first": 0, "middle": self.pairs // 2, "last": self.pairs - 1}

    def world(self, rng: np.random.Generator, known: World | None = None) -> World:
        """Fresh classes; of `known` the label vectors and the shared vector stay, as a trained network needs them."""
        means = self._vectors(rng, self.classes)
        vectors = self._vectors(rng, self.labels) if known is None else known.vectors
        label_of = torch.from_numpy(rng.integers(self.labels, size=self.classes))
        shared = self._vectors(rng, 1)[0] if known is None else known.shared
        return World(means, vectors, label_of, shared)

    def draw(self, world: World, rng: np.random.Generator, count: int) -> Questions:
        """Texts to train on, and their answers."""
        classes = self._classes(rng, count)
        among = np.arange(self.pairs) if self.answers is None else np.array(self.answers)
        at = torch.from_numpy(rng.choice(among, count))
        return self._asked(world, rng, classes, self._items(world, rng, classes), at)

    def conflict(self, world: World, rng: np.random.Generator, count: int, right: Place, other: Place) -> Questions:
        """Texts whose place `other` holds the item of place `right`, whose label is asked.

        Raises ValueError for one place twice.
        """
        check_word(PLACES, right=right, other=other)
        if right == other:
            raise ValueError(f"right='{right}' and other='{other}' must differ")
        classes = self._classes(rng, count)
        items = self._items(world, rng, classes)
        items[:, self.places[other]] = items[:, self.places[right]]
        return self._asked(world, rng, classes, items, torch.full((count,), self.places[right]))

    def _asked(
        self, world: World, rng: np.random.Generator, classes: Tensor, items: Tensor, at: Int[Tensor, " b"]
    ) -> Questions:
        own = classes.gather(1, at[:, None])
        pairs = torch.stack((items, world.vectors[world.label_of[classes]]), dim=2).flatten(1, 2)
        return Questions(torch.cat((pairs, self._items(world, rng, own)), dim=1), world.label_of[own[:, 0]])

    def _classes(self, rng: np.random.Generator, count: int) -> Int[Tensor, "b n"]:
        """Of each text: some distinct ones, each repeated, shuffled."""
        few = _distinct(rng, count, self.classes, self.distinct)
        return torch.from_numpy(rng.permuted(np.repeat(few, self.repeats, axis=1), axis=1))

    def _items(self, world: World, rng: np.random.Generator, classes: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        means = world.means[classes]
        if self.kind == "fixed":
            added = world.shared
        else:
            added = self._vectors(rng, classes.numel()).view(means.shape)
        return (means + self.noise * added) / (1 + self.noise**2) ** 0.5

    def _vectors(self, rng: np.random.Generator, count: int) -> Float[Tensor, "{count} d"]:
        return torch.from_numpy(rng.standard_normal((count, self.width), dtype=np.float32) / self.width)


def _distinct(rng: np.random.Generator, count: int, among: int, size: int) -> Int[np.ndarray, "b s"]:
    """In each row `size` different numbers below `among`: rows with equal ones are drawn again."""
    if size * size * 2 > among:
        return rng.permuted(np.tile(np.arange(among), (count, 1)), axis=1)[:, :size]
    found = rng.integers(among, size=(count, size))
    while (equal := (np.diff(np.sort(found, axis=1), axis=1) == 0).any(axis=1)).any():
        found[equal] = rng.integers(among, size=(int(equal.sum()), size))
    return found
