"""What ConsistEdit and its ablations do to colour and shape edits of the model in the box, judged by an exact parser.

    python recipes/consistedit.py --out docs/results/consistedit.json
    python recipes/consistedit.py --out docs/results/consistedit.json --only shape

Hardware: two CPU cores, ten minutes at most. Sources are pictures the model itself draws right; every arm edits them
from their own noise. The edited thing's own image tokens are the mask, unless an arm takes the word's map.
`recipes/consistedit_page.py` puts the figures into the page docs/papers/consistedit.md.
Expected, after the paper: structure and surroundings kept best by the full method, then q and k of visual tokens in all
blocks, then in the last half, then plain re-prompting; the colour changed by all but the arm that shares text too; a
shape that follows its source less as strength falls; outside the edit q, k, v closest, v next, q and k far behind.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FluxPipeline
from jaxtyping import Bool
from torch import Tensor

import saccade
from saccade.core.mechanism import System
from saccade.core.rows import Rows
from saccade.core.site import Where, at
from saccade.core.state import Tape
from saccade.data import scenes
from saccade.data.scenes import Prompt, Seen
from saccade.metrics.edges import canny_ssim
from saccade.metrics.intervals import paired_difference, share, t_interval
from saccade.metrics.machine import device_name, versions
from saccade.metrics.regions import within
from saccade.papers.consistedit import ConsistEdit
from saccade.pipelines.words import word_tokens
from saccade.systems.operand_recorder import OperandRecorder
from saccade.systems.word_map import WordMap, edit_mask
from saccade.ui.progress import Told, progress_bar

SIDE, TOKEN, STEPS, TEXT, BATCH = 64, 8, 15, 32, 16
ALL = at()  # every block; the published rule for FLUX, the single-stream ones, is ConsistEdit's default
STRENGTHS = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
JOINT = Where(kinds=("joint",))
MAPS = {"heat": 0.1, "best": 0.4}  # map of a batch -> threshold
SHARES, BEST_PSNR = ("made", "colour", "all"), 99.0
Pictures = np.ndarray  # (b h w 3) in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One edit: what the source shows, what is asked, the thing's word, and the seed of the noise."""

    source: Prompt
    target: Prompt
    phrase: str
    word: str
    wanted: str
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Edits run side by side: source pictures, their tape, where the edited things are and where two maps see them."""

    cases: tuple[Case, ...]
    sources: Pictures
    things: tuple[Seen, ...]
    tape: Tape
    heat: Tensor
    best: Tensor

    @property
    def exact(self) -> Bool[Tensor, "s 1 h w"]:
        """Image tokens that touch the box of the edited thing."""
        return torch.stack([torch.from_numpy(tokens_of(thing))[None] for thing in self.things])


Arm = Callable[[Any, Batch], Pictures]


def run(kind: str, count: int, told: Told) -> dict[str, Any]:
    """Every arm on `count` edits of one kind."""
    pipe = FluxPipeline.from_pretrained(saccade.models.path("scenes-flux"))
    pipe.set_progress_bar_config(disable=True)
    batches, drawn = gather(pipe, kind, count, told)
    rows: dict[str, list[dict[str, float]]] = {}
    for done, (name, arm) in enumerate(KINDS[kind].items()):
        told(done, len(KINDS[kind]), f"{kind}: {name}")
        rows[name] = [found for batch in batches for found in score(kind, arm(pipe, batch), batch)]
    return {
        "edits": count, "sources_drawn": drawn, "steps": STEPS,
        "word_map_iou": {
            name: asdict(t_interval(overlaps(batches, name, threshold))) for name, threshold in MAPS.items()
        },
        "arms": {name: summary(found, rows["re-prompting"]) for name, found in rows.items()},
        "orders": [order(rows, *claim) for claim in ORDERS[kind]],
    }  # fmt: skip


def overlaps(batches: list[Batch], name: str, threshold: float) -> list[float]:
    """How well the mask of a map agrees with the exact one, edit by edit."""
    masks = [(edit_mask(getattr(batch, name), threshold), batch.exact) for batch in batches]
    return [iou(a[0].numpy(), b[0].numpy()) for found, exact in masks for a, b in zip(found, exact, strict=True)]


def gather(pipe: Any, kind: str, count: int, told: Told) -> tuple[list[Batch], int]:
    """`count` edits whose source the model draws as it is told, and how many sources were drawn for them."""
    proposals, kept, tried = cases(kind), [], 0
    while len(kept) < count:
        told(len(kept), count, f"{kind}: sources")
        some = [next(proposals) for _ in range(2 * BATCH)]
        pictures = draw(pipe, [case.source for case in some], some)
        kept += [case for case, picture in zip(some, pictures, strict=True) if scenes.judge(picture, case.source).all]
        tried += len(some)
    parts = [kept[i : min(i + BATCH, count)] for i in range(0, count, BATCH)]
    return [watched(pipe, tuple(part)) for part in parts], tried


def cases(kind: str) -> Iterator[Case]:
    """Captions of one or two things, and the same with another colour, or shape, of the first."""
    rng = np.random.default_rng(0 if kind == "colour" else 1)
    for seed in range(10**6):
        source = scenes.describe(scenes.sample(rng, count=1 + seed % 2), rng)
        thing = source.wants[0]
        words = {"colour": scenes.COLOURS, "shape": scenes.SHAPES}[kind]
        wanted = str(rng.choice([w for w in words if w not in {getattr(want, kind) for want in source.wants}]))
        changed = replace(thing, **{kind: wanted})
        old, new = (f"{want.colour} {want.shape}" for want in (thing, changed))
        target = replace(source, text=source.text.replace(old, new, 1), wants=(changed, *source.wants[1:]))
        yield Case(source=source, target=target, phrase=old, word=thing.shape, wanted=wanted, seed=seed)


def watched(pipe: Any, batch: tuple[Case, ...]) -> Batch:
    """Draw the sources once more, with their operands on a tape and their words watched."""
    words = {"thing": [word_tokens(pipe, case.source.text, case.phrase, TEXT) for case in batch]}
    published, best = WordMap(tokens=words), WordMap(tokens=words, label="best", where=JOINT)
    tape = Tape()
    with saccade.attach(pipe, OperandRecorder(tape=tape, where=ALL), published, best) as run:
        sources = draw(pipe, [case.source for case in batch], batch)
        heats = [system.heat(run.state)["thing"] for system in (published, best)]
    things = tuple(edited_thing(picture, case) for picture, case in zip(sources, batch, strict=True))
    return Batch(cases=batch, sources=sources, things=things, tape=tape, heat=heats[0], best=heats[1])


def draw(
    pipe: Any, prompts: Sequence[Prompt], batch: Sequence[Case], *systems: System, rows: Rows | None = None
) -> Pictures:
    """Pictures of the prompts from the noise of the batch's cases, repeated where there are twice as many prompts."""
    noise = [torch.Generator().manual_seed(case.seed) for case in list(batch) * (len(prompts) // len(batch))]
    texts = [prompt.text for prompt in prompts]
    with saccade.attach(pipe, *systems, rows=rows) if systems else nullcontext():
        made = pipe(
            texts, height=SIDE, width=SIDE, num_inference_steps=STEPS, max_sequence_length=TEXT, generator=noise,
            output_type="np",
        )  # fmt: skip
    return made.images


def edited(pipe: Any, batch: Batch, *systems: ConsistEdit) -> Pictures:
    """The targets alone; what they share comes from the tape, unless text is shared too."""
    prompts = [case.target for case in batch.cases]
    if not systems:
        return draw(pipe, prompts, batch.cases)
    if any(system.tokens == "all" for system in systems):
        pair = Rows.of("source", "target", samples=len(prompts))
        both = [*(case.source for case in batch.cases), *prompts]
        return draw(pipe, both, batch.cases, *systems, rows=pair)[len(prompts) :]
    taped = [replace(system, tape=batch.tape) for system in systems]
    return draw(pipe, prompts, batch.cases, *taped, rows=Rows.of("target", samples=len(prompts)))


def edited_thing(picture: Pictures, case: Case) -> Seen:
    """The thing of the source that is to be edited."""
    old = case.source.wants[0]
    return next(s for s in scenes.parse(picture).things if (s.colour, s.shape) == (old.colour, old.shape))


def tokens_of(thing: Seen) -> Bool[np.ndarray, "h w"]:
    """Image tokens that touch a thing's box."""
    x0, y0, x1, y1 = (edge * SIDE / TOKEN for edge in thing.box)
    rows, columns = np.arange(SIDE // TOKEN)[:, None], np.arange(SIDE // TOKEN)
    return (rows + 1 > y0) & (rows < y1) & (columns + 1 > x0) & (columns < x1)


def score(kind: str, pictures: Pictures, batch: Batch) -> list[dict[str, float]]:
    """For each edit: was it made, is the outline kept, is all else untouched."""
    found = []
    for picture, source, case, thing in zip(pictures, batch.sources, batch.cases, batch.things, strict=True):
        place = np.kron(tokens_of(thing), np.ones((TOKEN, TOKEN), bool))
        here = [s for s in scenes.parse(picture).things if (s.mask & place).any()]
        outline = np.any([s.mask for s in here], axis=0) if here else np.zeros_like(place)
        kept = within(picture[None], source[None], ~place)
        want = case.target.wants[0]
        found.append({
            "made": float(any(getattr(s, kind) == case.wanted for s in here)),
            "colour": float(any(s.colour == want.colour for s in here)),
            "all": float(scenes.judge(picture, case.target).all),
            "iou": iou(outline, thing.mask),
            "canny_ssim": canny_ssim(picture[None], source[None]),
            "kept_psnr": min(kept.psnr, BEST_PSNR),
            "kept_ssim": kept.ssim,
        })  # fmt: skip
    return found


def iou(a: Bool[np.ndarray, "h w"], b: Bool[np.ndarray, "h w"]) -> float:
    """Intersection over union."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def summary(rows: list[dict[str, float]], plain: list[dict[str, float]]) -> dict[str, Any]:
    """Means with 95 % intervals, and paired differences to the first arm, re-prompting."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    first = {name: [row[name] for row in plain] for name in rows[0]}
    means = {name: share([v == 1 for v in c]) if name in SHARES else t_interval(c) for name, c in columns.items()}
    gains = {name: paired_difference(c, first[name]) for name, c in columns.items()}
    relative = sum(columns["made"]) / max(sum(first["made"]), 1)
    return {
        "means": {name: asdict(interval) for name, interval in means.items()},
        "over_re_prompting": {name: asdict(interval) for name, interval in gains.items()},
        "made_relative_to_re_prompting": relative,
    }


def order(rows: dict[str, list[dict[str, float]]], score: str, more: str, less: str) -> dict[str, Any]:
    """Whether one arm scores above another, edit by edit: the paired difference and what it says."""
    gap = paired_difference(*([row[score] for row in rows[name]] for name in (more, less)))
    verdict = "confirmed" if gap.low > 0 else "refuted" if gap.high < 0 else "not decided"
    return {"score": score, "more": more, "less": less, "difference": asdict(gap), "verdict": verdict}


def masked(**options: Any) -> Arm:
    """The full method within the exact mask, in every block unless told."""
    return lambda pipe, batch: edited(pipe, batch, ConsistEdit(**{"mask": batch.exact, "where": ALL, **options}))


def unmasked(where: Where = ALL, **options: Any) -> Arm:
    """Operands shared all over the picture."""
    return lambda pipe, batch: edited(pipe, batch, ConsistEdit(where=where, **options))


def by_map(name: str) -> Arm:
    """The full method within the mask of a map of the word."""

    def arm(pipe: Any, batch: Batch) -> Pictures:
        return edited(pipe, batch, ConsistEdit(mask=edit_mask(getattr(batch, name), MAPS[name]), where=ALL))

    return arm


COLOUR: dict[str, Arm] = {
    "re-prompting": edited,
    "k, v in the last fifth": unmasked(at(depth=(0.8, 1.0)), structure="kv"),
    "q, k of all tokens": unmasked(tokens="all"),
    "q, k in the last half": unmasked(at(depth=(0.5, 1.0))),
    "q, k in the single-stream blocks": unmasked(at(stage="last")),
    "q, k in all blocks": unmasked(),
    "full": masked(),
    "full, single-stream blocks": masked(where=at(stage="last")),
    "full, word's map": by_map("heat"),
    "full, word's map of all blocks": by_map("best"),
    "outside: v": masked(kept="v"),
    "outside: q, k": masked(kept="qk"),
}
SHAPE: dict[str, Arm] = {"re-prompting": edited, **{f"strength {s}": masked(strength=s) for s in STRENGTHS}}
KINDS = {"colour": COLOUR, "shape": SHAPE}
KEPT = ("full", "q, k in all blocks", "q, k in the last half", "re-prompting")
ORDERS: dict[str, list[tuple[str, str, str]]] = {  # what the paper leads to expect: score, the higher arm, the lower
    "colour": [
        *((score, more, less) for score in ("canny_ssim", "iou", "kept_psnr") for more, less in pairwise(KEPT)),
        ("canny_ssim", "full", "k, v in the last fifth"),
        ("kept_psnr", "full", "k, v in the last fifth"),
        ("made", "q, k in all blocks", "q, k of all tokens"),
        ("kept_psnr", "full", "outside: v"),
        ("kept_psnr", "outside: v", "outside: q, k"),
    ],
    "shape": [
        *(("iou", f"strength {more}", f"strength {less}") for less, more in pairwise(STRENGTHS)),
        ("iou", "strength 1.0", "re-prompting"),
        ("made", "strength 0.3", "strength 1.0"),
        ("colour", "strength 0.0", "strength 1.0"),
    ],
}


def main() -> None:
    """Run the chosen kinds and merge their figures into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file; kinds that are not run are kept")
    parser.add_argument("--only", choices=list(KINDS), help="one kind of edit")
    parser.add_argument("--count", type=int, default=160, help="edits of each kind")
    chosen = parser.parse_args()
    figures = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    with progress_bar() as told:
        for kind in [chosen.only] if chosen.only else KINDS:
            start = time.perf_counter()
            figures[kind] = run(kind, chosen.count, told)
            figures[kind]["seconds"] = time.perf_counter() - start
            figures |= {"machine": device_name("cpu"), "versions": versions()}
            chosen.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
