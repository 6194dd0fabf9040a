"""Edits of synthetic scenes by layers: sources the bundled model samples as asked, their tapes, targets and scores."""

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
from saccade.data.scenes import Prompt, Want
from saccade.data.scenes.words import on_background, phrase
from saccade.mechanisms.token_regions import region
from saccade.metrics.regions import within
from saccade.papers.freeflux.system import FreeFlux
from saccade.pipelines.words import word_tokens
from saccade.systems.operand_recorder import OperandRecorder
from saccade.systems.word_map import WordMap

SIDE, TOKEN, TEXT = 64, 8, 32  # pixels of a picture and of an image token, text tokens
JOINT = Where(kinds=("joint",))  # the bundled model knows in all its blocks where a word is
BEST_PSNR = 99.0
Kind = Literal["move", "add", "background"]
Pictures = np.ndarray  # (b h w 3) in [0, 1]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One edit: what the source shows, what is asked, the words of what is new or kept, and the seed of the noise."""

    source: Prompt
    target: Prompt
    words: str
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Edits run side by side: source pictures and what their k and v were."""

    cases: tuple[Case, ...]
    sources: Pictures
    tape: Tape


@dataclass(frozen=True, kw_only=True)
class Editor:
    """The bundled model, and the steps it samples in."""

    pipe: Any
    steps: int

    def gather(self, kind: Kind, count: int, progress: Progress) -> Batch:
        """`count` edits whose source the model samples as asked."""
        kept: list[Case] = []
        proposals = cases(kind)
        while len(kept) < count:
            progress(len(kept), count, "sources")
            some = [next(proposals) for _ in range(count)]
            drawn = self.draw([case.source for case in some], some)
            judged = [scenes.judge(picture, case.source).all for picture, case in zip(drawn, some, strict=True)]
            kept += [case for case, right in zip(some, judged, strict=True) if right]
        chosen, tape = tuple(kept[:count]), Tape()
        recorder = OperandRecorder(tape=tape, operands="kv", where=at())
        sources = self.draw([case.source for case in chosen], chosen, recorder)
        return Batch(cases=chosen, sources=sources, tape=tape)

    def edited(self, batch: Batch, system: FreeFlux | None) -> Pictures:
        """The targets alone; what they share comes from the tape."""
        targets = [case.target for case in batch.cases]
        if system is None:
            return self.draw(targets, batch.cases)
        rows = Rows.of("target", samples=len(targets))
        return self.draw(targets, batch.cases, replace(system, tape=batch.tape), rows=rows)

    def places(self, batch: Batch, system: FreeFlux, until: float) -> Bool[Tensor, "s 1 h w"]:
        """Where the new objects may be, by the maps of a pass under `system`, in which nothing is free."""
        text = [word_tokens(self.pipe, case.target.text, case.words, TEXT) for case in batch.cases]
        step = int(until * self.steps)
        when = replace(JOINT, during=(step / self.steps, (step + 1) / self.steps))
        watched = WordMap(tokens={"new": text}, mutual=True, role="target", where=when)
        stack, rows = (watched, replace(system, tape=batch.tape)), Rows.of("target", samples=len(batch.cases))
        with attach(self.pipe, *stack, rows=rows) as run:
            self._call([case.target for case in batch.cases], batch.cases, step + 1)
            return region(watched.heat(run.state)["new"])

    def draw(
        self, prompts: Sequence[Prompt], batch: Sequence[Case], *systems: System, rows: Rows | None = None
    ) -> Pictures:
        """Pictures of the prompts from the noise of the cases."""
        with attach(self.pipe, *systems, rows=rows) if systems else nullcontext():
            return self._call(prompts, batch)

    def _call(self, prompts: Sequence[Prompt], batch: Sequence[Case], until: int | None = None) -> Pictures:
        def ended(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            pipe._interrupt = until is not None and step + 1 >= until
            return tensors

        return self.pipe(
            [prompt.text for prompt in prompts], height=SIDE, width=SIDE, num_inference_steps=self.steps,
            max_sequence_length=TEXT, generator=[torch.Generator().manual_seed(case.seed) for case in batch],
            output_type="np", callback_on_step_end=ended,
        ).images  # fmt: skip


def cases(kind: Kind) -> Iterator[Case]:
    """An object that moves to the other side, one that comes to another, or another background."""
    rng = np.random.default_rng(("move", "add", "background").index(kind))
    colours, shapes, grounds = (list(words) for words in (scenes.COLOURS, scenes.SHAPES, scenes.BACKGROUNDS))
    for seed in range(10**6):
        a, b = (Want(colour=str(c), shape=str(s), size="large") for c, s in _two(rng, colours, shapes))
        ground, other = map(str, rng.choice(grounds, 2, replace=False))
        match kind:
            case "move":
                sides = [str(side) for side in rng.permutation(("left", "right"))]
                before, after = ((replace(a, place=side),) for side in sides)
            case "add":
                corners = [str(place) for place in rng.permutation(("top left", "bottom right"))]
                before = (replace(a, place=corners[0]),)
                after = (*before, replace(b, place=corners[1]))
            case "background":
                before = after = (replace(a, place="center"),)
        words = f"{b.colour} {b.shape}" if kind == "add" else f"{a.colour} {a.shape}"
        target = _said(after, other if kind == "background" else ground)
        yield Case(source=_said(before, ground), target=target, words=words, seed=seed)


def score(kind: Kind, picture: Pictures, source: Pictures, case: Case) -> dict[str, float]:
    """What became of one edit, by the exact parser; PSNR to the source where the source should stay."""
    seen, before = scenes.parse(picture), scenes.parse(source)
    asked = scenes.judge(seen, case.target)
    own = before.things[0].mask
    match kind:
        case "move":
            now = np.any([thing.mask for thing in seen.things], axis=0) if seen.things else np.zeros_like(own)
            return {"stays": iou(now, own), "moved": asked.place, "colour": asked.colour, "all": float(asked.all)}
        case "add":
            new = [thing.mask for thing in seen.things if not (thing.mask & own).any()]
            rest = ~np.any(new, axis=0) if new else np.ones_like(own)
            return {"made": float(asked.all), "kept": _psnr(picture, source, rest)}
        case "background":
            return {"made": asked.background, "kept": _psnr(picture, source, own), "all": float(asked.all)}


def on_tokens(mask: Bool[np.ndarray, "h w"]) -> Bool[Tensor, "y x"]:
    """Image tokens that hold any pixel of a mask."""
    height, width = (side // TOKEN for side in mask.shape)
    return torch.from_numpy(mask.reshape(height, TOKEN, width, TOKEN).any((1, 3)))


def iou(a: Bool[np.ndarray, "h w"], b: Bool[np.ndarray, "h w"]) -> float:
    """Intersection over union."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def _psnr(picture: Pictures, source: Pictures, where: Bool[np.ndarray, "h w"]) -> float:
    return min(within(picture[None], source[None], where).psnr, BEST_PSNR)


def _two(rng: np.random.Generator, colours: list[str], shapes: list[str]) -> zip:
    return zip(rng.choice(colours, 2, replace=False), rng.choice(shapes, 2, replace=False), strict=True)


def _said(wants: tuple[Want, ...], background: str) -> Prompt:
    text = on_background(" and ".join(map(phrase, wants)), background)
    return Prompt(text=text, wants=wants, background=background)
