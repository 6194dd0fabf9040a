"""Word swaps on pictures of one object: captions that differ in a word, drawn side by side, and what a parser reads.

Every caption has its words at the same places, so that one system serves a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float

from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.core.rows import Rows
from saccade.data import scenes
from saccade.data.scenes import Prompt, Want
from saccade.data.scenes.words import on_background, phrase
from saccade.experiments import Row
from saccade.metrics.regions import within
from saccade.pipelines.words import word_tokens

SIDE, TEXT = 64, 32  # pixels, text tokens
BEST = 99.0  # dB, where nothing differs
Part = Literal["colour", "shape"]
WORDS: dict[Part, tuple[str, ...]] = {"colour": tuple(scenes.COLOURS), "shape": tuple(scenes.SHAPES)}
Pictures = Float[np.ndarray, "n h w 3"]


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A caption, the same with its object's colour or shape another, and the seed of their noise."""

    source: Prompt
    target: Prompt
    part: Part
    seed: int

    @property
    def stays(self) -> str:
        """The word that both captions have of the object."""
        (want,) = self.source.wants
        return want.shape if self.part == "colour" else want.colour


def swaps(part: Part) -> Iterator[Swap]:
    """Without end, the same each time."""
    rng = np.random.default_rng(get_args(Part).index(part))
    for seed in range(10**6):
        old, new = map(str, rng.choice(WORDS[part], 2, replace=False))
        other: Part = "shape" if part == "colour" else "colour"
        said = {part: old, other: str(rng.choice(WORDS[other])), "place": str(rng.choice(("left", "right")))}
        want, ground = Want(size="large", **said), str(rng.choice(list(scenes.BACKGROUNDS)))  # type: ignore[arg-type]
        pair = (_said(want, ground), _said(replace(want, **{part: new}), ground))
        yield Swap(source=pair[0], target=pair[1], part=part, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A picture pipeline, and the steps it draws in."""

    pipe: Any
    steps: int

    def gather(self, part: Part, count: int) -> list[Swap]:
        """Swaps whose source the model draws as its caption has it."""
        kept, proposed = list[Swap](), swaps(part)
        while len(kept) < count:
            some = [next(proposed) for _ in range(count)]
            drawn = self.draw([swap.source.text for swap in some], [swap.seed for swap in some])
            kept += [s for s, picture in zip(some, drawn, strict=True) if scenes.judge(picture, s.source).all]
        return kept[:count]

    def pairs(self, batch: Sequence[Swap], *systems: System, swapped: bool = True) -> tuple[Pictures, Pictures]:
        """Sources and targets, side by side; targets of the source's own text where nothing is swapped."""
        sources = [swap.source.text for swap in batch]
        targets = [swap.target.text for swap in batch] if swapped else sources
        drawn = self.draw([*sources, *targets], [swap.seed for swap in batch] * 2, *systems)
        return drawn[: len(batch)], drawn[len(batch) :]

    def draw(self, texts: Sequence[str], seeds: Sequence[int], *systems: System) -> Pictures:
        """A picture of each text and seed; systems know the first half as sources."""
        rows = Rows.of("source", "target", samples=len(texts) // 2) if systems else None
        with attach(self.pipe, *systems, rows=rows):
            return self.pipe(
                list(texts), height=SIDE, width=SIDE, num_inference_steps=self.steps, max_sequence_length=TEXT,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds], output_type="np",
            ).images  # fmt: skip

    def words(self, batch: Sequence[Swap], *, swapped: bool = False) -> tuple[int, ...]:
        """Where the word that stays, or the one that is swapped, stands in every caption of one part."""
        (want,), stays = batch[0].source.wants, batch[0].stays
        word = getattr(want, batch[0].part) if swapped else stays
        return word_tokens(self.pipe, batch[0].source.text, word, TEXT)


def scored(source: Float[np.ndarray, "h w 3"], picture: Float[np.ndarray, "h w 3"], swap: Swap) -> Row:
    """What became of one swap.

    swapped  whether the object has the new word's colour or shape
    all      whether everything is as the target's caption has it
    place    intersection over union with the source's object
    kept     PSNR to the source where neither has an object, in dB
    """
    own, new = (_covered(scenes.parse(one)) for one in (source, picture))
    asked = scenes.judge(picture, swap.target)
    rest = ~(own | new)
    return {
        "swapped": float(getattr(asked, swap.part)), "all": float(asked.all),
        "place": float((own & new).sum() / max((own | new).sum(), 1)),
        "kept": min(within(picture[None], source[None], rest).psnr, BEST),
    }  # fmt: skip


def _covered(seen: scenes.Parsed) -> Bool[np.ndarray, "h w"]:
    return np.any([np.zeros((SIDE, SIDE), bool), *(thing.mask for thing in seen.things)], axis=0)


def _said(want: Want, ground: str) -> Prompt:
    return Prompt(text=on_background(phrase(want), ground), wants=(want,), background=ground)
