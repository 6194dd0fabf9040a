"""Edits of synthetic scenes: sources the bundled model samples as asked, their tapes and masks, and their targets."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.core.rows import Rows
from saccade.core.site import Where, at
from saccade.core.state import Tape
from saccade.data import scenes
from saccade.data.scenes import Prompt, Seen
from saccade.papers.consistedit.system import ConsistEdit
from saccade.pipelines.words import word_tokens
from saccade.systems.operand_recorder import OperandRecorder
from saccade.systems.word_map import WordMap

SIDE, TOKEN, TEXT = 64, 8, 32  # pixels of a picture and of an image token, text tokens
ALL = at()  # every block; the published rule for FLUX, the single-stream ones, is ConsistEdit's default
JOINT = Where(kinds=("joint",))
Kind = Literal["colour", "shape"]
WORDS = {"colour": scenes.COLOURS, "shape": scenes.SHAPES}
Pictures = np.ndarray  # (b h w 3) in [0, 1]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One edit: what the source shows, what is asked, the object's words, and the seed of the noise."""

    source: Prompt
    target: Prompt
    phrase: str
    word: str
    wanted: str
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Edits run side by side: source pictures, their tape, where the edited objects are and where two maps see them."""

    cases: tuple[Case, ...]
    sources: Pictures
    objects: tuple[Seen, ...]
    tape: Tape
    heat: Tensor
    best: Tensor

    @property
    def exact(self) -> Bool[Tensor, "s 1 h w"]:
        """Image tokens that touch the box of the edited object."""
        return torch.stack([torch.from_numpy(tokens_of(seen))[None] for seen in self.objects])


@dataclass(frozen=True, kw_only=True)
class Editor:
    """A pipeline, the steps it samples in, and the edits it runs at once."""

    pipe: Any
    steps: int
    batch: int

    def gather(self, kind: Kind, count: int, progress: Progress) -> tuple[list[Batch], int]:
        """`count` edits whose source the model samples as asked, and how many sources were sampled for them."""
        proposals, kept, tried = cases(kind), [], 0
        while len(kept) < count:
            progress(len(kept), count, "sources")
            some = [next(proposals) for _ in range(2 * self.batch)]
            pictures = self.sample([case.source for case in some], some)
            right = (scenes.judge(image, case.source).all for image, case in zip(pictures, some, strict=True))
            kept += [case for case, judged in zip(some, right, strict=True) if judged]
            tried += len(some)
        parts = [kept[start : min(start + self.batch, count)] for start in range(0, count, self.batch)]
        return [self.watched(tuple(part)) for part in parts], tried

    def watched(self, batch: tuple[Case, ...]) -> Batch:
        """Sample the sources once more, with their operands on a tape and their words watched."""
        words = {"object": [word_tokens(self.pipe, case.source.text, case.phrase, TEXT) for case in batch]}
        published, best = WordMap(tokens=words), WordMap(tokens=words, label="best", where=JOINT)
        tape = Tape()
        with attach(self.pipe, OperandRecorder(tape=tape, where=ALL), published, best) as run:
            sources = self.sample([case.source for case in batch], batch)
            heats = [system.heat(run.state)["object"] for system in (published, best)]
        objects = tuple(edited_object(picture, case) for picture, case in zip(sources, batch, strict=True))
        return Batch(cases=batch, sources=sources, objects=objects, tape=tape, heat=heats[0], best=heats[1])

    def edited(self, batch: Batch, *systems: ConsistEdit) -> Pictures:
        """The targets alone; what they share comes from the tape, unless text is shared too."""
        prompts = [case.target for case in batch.cases]
        if not systems:
            return self.sample(prompts, batch.cases)
        if any(system.tokens == "all" for system in systems):
            pair = Rows.of("source", "target", samples=len(prompts))
            both = [*(case.source for case in batch.cases), *prompts]
            return self.sample(both, batch.cases, *systems, rows=pair)[len(prompts) :]
        taped = [replace(system, tape=batch.tape) for system in systems]
        return self.sample(prompts, batch.cases, *taped, rows=Rows.of("target", samples=len(prompts)))

    def sample(
        self, prompts: Sequence[Prompt], batch: Sequence[Case], *systems: System, rows: Rows | None = None
    ) -> Pictures:
        """Pictures of the prompts from the noise of the batch's cases, repeated where there are twice as many."""
        noise = [torch.Generator().manual_seed(case.seed) for case in list(batch) * (len(prompts) // len(batch))]
        with attach(self.pipe, *systems, rows=rows) if systems else nullcontext():
            made = self.pipe(
                [prompt.text for prompt in prompts], height=SIDE, width=SIDE, num_inference_steps=self.steps,
                max_sequence_length=TEXT, generator=noise, output_type="np",
            )  # fmt: skip
        return made.images


def cases(kind: Kind) -> Iterator[Case]:
    """Captions of one or two objects, and the same with another colour, or shape, of the first."""
    rng = np.random.default_rng(0 if kind == "colour" else 1)
    for seed in range(10**6):
        source = scenes.describe(scenes.sample(rng, count=1 + seed % 2), rng)
        first = source.wants[0]
        wanted = str(rng.choice([w for w in WORDS[kind] if w not in {getattr(want, kind) for want in source.wants}]))
        changed = replace(first, **{kind: wanted})
        old, new = (f"{want.colour} {want.shape}" for want in (first, changed))
        target = replace(source, text=source.text.replace(old, new, 1), wants=(changed, *source.wants[1:]))
        yield Case(source=source, target=target, phrase=old, word=first.shape, wanted=wanted, seed=seed)


def edited_object(picture: Pictures, case: Case) -> Seen:
    """The object of the source that is to be edited."""
    old = case.source.wants[0]
    return next(s for s in scenes.parse(picture).things if (s.colour, s.shape) == (old.colour, old.shape))


def tokens_of(seen: Seen) -> Bool[np.ndarray, "h w"]:
    """Image tokens that touch an object's box."""
    x0, y0, x1, y1 = (edge * SIDE / TOKEN for edge in seen.box)
    rows, columns = np.arange(SIDE // TOKEN)[:, None], np.arange(SIDE // TOKEN)
    return (rows + 1 > y0) & (rows < y1) & (columns + 1 > x0) & (columns < x1)
