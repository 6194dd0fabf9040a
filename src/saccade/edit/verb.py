"""Edit a picture by words, one drawn from a prompt or one you have, while all else stays as it is.

By ConsistEdit, or by a kind of FreeFlux (`edit.by_layers`). ConsistEdit takes two passes over the model: the source
alone, which finds where the picture shows the word, and source and target side by side. The source pass of a picture
you have is its inversion (UniInv), and its operands go on a tape. A record makes an edit again bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from saccade.attach import attach
from saccade.compare.arms import same_stack, to_spec
from saccade.core.mechanism import System
from saccade.core.rows import Rows
from saccade.core.site import Where, at
from saccade.core.state import Tape
from saccade.data.rgb import as_picture
from saccade.edit.by_layers import Layers, Segment, edit_by_layers, layer_sets
from saccade.edit.passes import Edited, Grid, Passes, Progress, Source, open_flow
from saccade.edit.record import Record
from saccade.edit.request import Kind, Request, request
from saccade.metrics.fidelity import Picture
from saccade.metrics.output import pictures
from saccade.papers.consistedit import ConsistEdit, Region
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.pipelines.records import check_model, digest, made_by, warn_of_other_bits
from saccade.pipelines.words import word_tokens
from saccade.runs.inversion import invert_uni
from saccade.systems.operand_recorder import OperandRecorder
from saccade.systems.word_map import HEARING, WordMap, edit_mask, smoothed

SHARING = at(stage="last")
THRESHOLD = 0.1
BUNDLED_SETTINGS = MappingProxyType(  # settings for `scenes-flux`: its double-stream blocks know best where a word is
    {"watch": Where(kinds=("joint",)), "threshold": 0.4, "smooth": 3, "steps": 20, "text_tokens": 32}
)


def edit(
    pipe: Any,
    *,
    source: Source,
    target: str,
    prompt: str | None = None,
    word: str | Sequence[str] | None = None,
    mask: Bool[np.ndarray, "h w"] | Bool[Tensor, "h w"] | None = None,
    strength: float | Sequence[float] | None = None,
    kind: Kind | None = None,
    layers: Layers | None = None,
    segment: Segment | None = None,
    threshold: float | None = None,
    smooth: int = 1,
    watch: Where | None = None,
    where: Where | None = None,
    steps: int = 28,
    seed: int = 0,
    guidance: float | None = None,
    height: int | None = None,
    width: int | None = None,
    text_tokens: int | None = None,
    systems: Sequence[System] = (),
    keep: bool = False,
    progress: Progress | None = None,
) -> Edited:
    """Draw `target` so that it is the source outside the edited region, within it as much as `strength` says.

    pipe         a FLUX or Stable Diffusion 3 pipeline of diffusers
    source       a prompt; a picture (a PIL image, or (h w 3) in [0, 1]); or an edit made with keep=True, to go on from
    prompt       what a picture shows, needed with one
    word         of the source prompt: what to edit; several for several regions. With `kind` the object: of the target
                 the new one of `AddObject`, of the source the one of `KeepRegion`
    mask         where to edit instead, on image tokens or on pixels; neither word nor mask: everywhere
    strength     share of the steps that keep the structure of what is edited, or one for each word: 1 to change colour
                 or material, about 0.3 for another object; without it 1, and 0.1 for pictures
    kind         an edit of FreeFlux instead: `AddObject()`, `Reshape()` or `KeepRegion(by=...)`
    layers       for a kind: the model's layers, or what a probe measured of them; without it the last probe known
    segment      for `KeepRegion`: refines the word's region, called with the source's picture and clicks (p 2), (x, y)
                 in pixels; returns a mask (h w) of the object
    threshold    of a word's map, stretched to [0, 1]; without it 0.1, and 0.3 for a kind
    smooth       side, in tokens, of the square over which a word's map is averaged before the cut, so that it covers
                 a thing whole: odd, 1 for none
    watch, where sites and steps that tell where a word is, and that share operands; the paper's by default
    guidance     the pipeline's guidance_scale; pictures are inverted and, unless another is given, edited with 1
    text_tokens  the pipeline's max_sequence_length
    systems      more systems that source and target are drawn with, an accelerating one say; words are found and
                 pictures inverted without them
    keep         tape the edit for another round: steps x sites x 3 x tokens x channels numbers
    Raises ValueError for a word that is not in the prompt, and for sizes, masks and strengths that do not fit.
    """
    _check_kind(kind, layers, segment, strength, keep)
    if not isinstance(source, str | Image.Image | np.ndarray | Edited):
        raise ValueError(
            f"source={source!r:.80} must be a prompt, a picture (PIL or (h w 3) in [0, 1]), or an edit kept"
        )
    asked = request(
        source, word=word, mask=mask, strength=strength, prompt=prompt, target=target, kind=kind,
        layers=layer_sets(pipe, kind, layers), threshold=threshold, smooth=smooth, watch=watch, where=where,
        steps=steps, seed=seed, guidance=guidance, height=height, width=width, text_tokens=text_tokens,
        systems=tuple(map(to_spec, systems)), keep=keep,
    )  # fmt: skip
    return _draw(pipe, asked, source if isinstance(source, Edited) else None, segment, systems, progress)


def replay(
    pipe: Any, record: Record, *, systems: Sequence[System] | None = None, progress: Progress | None = None
) -> tuple[Edited, ...]:
    """Make all rounds of an edit again. Pictures are those of the record bit for bit on the machine it was made on.

    systems  those each round was stacked with, where text does not say all of them
    Where they are others, a warning names what differs: device, threads, versions.
    Raises SaccadeError for another pipeline or other weights, ValueError for systems that are not the record's.
    """
    check_model(record.made_by, made_by(pipe))
    found: list[Edited] = []
    for asked in record.rounds:
        before = found[-1] if asked.goes_on else None
        found.append(_draw(pipe, asked, before, None, same_stack(asked.systems, systems), progress))
    warn_of_other_bits("pictures", record, found[-1].record)
    return tuple(found)


def _draw(
    pipe: Any,
    asked: Request,
    before: Edited | None,
    segment: Segment | None,
    systems: Sequence[System],
    progress: Progress | None,
) -> Edited:
    """One round. What a segmenter says is noted; one that is replayed says it again."""
    segmented: list[np.ndarray] = [] if asked.segmented is None else [asked.segmented]

    def noted(picture: np.ndarray, clicks: np.ndarray) -> np.ndarray:
        if not segmented and segment is not None:
            segmented.append(np.asarray(segment(picture, clicks)))
        return segmented[0]

    def record(source: Picture, result: Picture) -> Record:
        rounds, digests = ((), ()) if before is None else (before.record.rounds, before.record.digests)
        last = replace(asked, segmented=segmented[0]) if segmented else asked
        now = tuple(map(digest, (source, result)))
        return Record(rounds=(*rounds, last), made_by=made_by(pipe), digests=(*digests, *now))

    source = _source(asked, before)
    flow = open_flow(pipe, source, asked.height, asked.width, asked.text_tokens)
    given = None if asked.mask is None else flow.on_tokens(torch.as_tensor(asked.mask))
    run = Passes(
        flow=flow, steps=asked.steps, guidance=asked.guidance, watch=asked.watch or HEARING,
        where=asked.where or SHARING, progress=progress, record=record, systems=tuple(systems), smooth=asked.smooth,
    )  # fmt: skip
    if asked.kind is not None:
        refines = segment is not None or asked.segmented is not None
        return edit_by_layers(run, asked, source, given, noted if refines else None)
    with no_progress_bar(pipe):
        origin = _origin(run, source, asked.prompt, asked.words, asked.seed)
        return _edited(run, origin, asked, given)


def _source(asked: Request, before: Edited | None) -> Source:
    """What a round sets out from."""
    if before is not None:
        return before
    return asked.source if asked.picture is None else asked.picture[0]  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Origin:
    """Where both rows set out from, and what was seen on the way."""

    prompt: str
    start: Tensor
    heat: Mapping[str, Float[Tensor, "h w"]] = field(default_factory=dict)
    tape: Tape | None = None
    picture: Picture | None = None


def _edited(run: Passes, origin: _Origin, asked: Request, given: Grid | None) -> Edited:
    """By ConsistEdit, within a mask that was given or those of the words."""
    maps = [smoothed(heat, run.smooth) for heat in origin.heat.values()]
    threshold = THRESHOLD if asked.threshold is None else asked.threshold
    masks = [edit_mask(heat, threshold) for heat in maps] if given is None else [given]
    tape = Tape() if asked.keep else None
    system = _system(masks, asked.strengths, origin.tape, run.where)
    drawn = _side_by_side(run, origin, asked.target, system, tape)
    before = drawn[0] if origin.picture is None else origin.picture
    return Edited(
        before=before,
        after=drawn[1],
        rebuilt=drawn[0],
        mask=torch.stack(masks).any(0) if masks else None,
        heat=origin.heat,
        source=origin.prompt,
        target=asked.target,
        start=origin.start,
        record=run.record(before, drawn[1]),
        tape=tape,
    )


def _origin(run: Passes, source: Source, prompt: str | None, words: tuple[str, ...], seed: int) -> _Origin:
    """The source pass."""
    if isinstance(source, Edited):
        if source.tape is None:
            raise ValueError("source is an edit without a tape; make it with keep=True to go on from it")
        return _from_edit(run, source, source.tape, words)
    if isinstance(source, str):
        return _from_prompt(run, source, words, seed)
    assert prompt is not None  # refused before
    return _from_picture(run, as_picture(source), prompt, words)


def _from_prompt(run: Passes, prompt: str, words: tuple[str, ...], seed: int) -> _Origin:
    start, watched = run.flow.noise(seed), _watched(run, prompt, words)
    run.total = run.steps * (2 if watched else 1)
    heat = _heat(run, prompt, start, watched)
    return _Origin(prompt=prompt, start=start, heat=heat)


def _from_edit(run: Passes, source: Edited, tape: Tape, words: tuple[str, ...]) -> _Origin:
    """The edited picture is drawn again by the operands on its tape."""
    watched = _watched(run, source.target, words)
    run.total = run.steps * (2 if watched else 1)
    whole = ConsistEdit(tape=tape, mask=torch.zeros(run.flow.grid), where=run.where)
    heat = _heat(run, source.target, source.start, watched, whole, rows=Rows.of("target"))
    return _Origin(prompt=source.target, start=source.start, heat=heat, tape=tape, picture=source.after)


def _from_picture(run: Passes, picture: Picture, prompt: str, words: tuple[str, ...]) -> _Origin:
    """The picture's noise, by inversion without guidance."""
    flow, watched, tape = run.flow, _watched(run, prompt, words), Tape()
    run.total, run.guidance = 2 * run.steps + 1, 1.0 if run.guidance is None else run.guidance
    levels = flow.levels(run.steps)
    velocity = flow.velocity([prompt], levels=levels)

    def counted(z: Tensor, sigma: float) -> Tensor:
        v = velocity(z, sigma)
        run.tell("invert")
        return v

    stack: list[System] = [OperandRecorder(tape=tape, where=run.where), *watched]
    with attach(flow.pipe, *stack, rows=Rows.of("cond"), schedule=levels) as attached:
        start = invert_uni(counted, flow.encode(picture), flow.sigmas(run.steps))
        heat = _maps(attached, watched)
    return _Origin(prompt=prompt, start=start, heat=heat, tape=tape, picture=picture)


def _side_by_side(run: Passes, origin: _Origin, target: str, system: ConsistEdit, tape: Tape | None) -> list[Picture]:
    stack: list[System] = [system, *run.systems]
    if tape is not None:
        stack.append(OperandRecorder(tape=tape, role="target", where=run.where))
    with attach(run.flow.pipe, *stack, rows=Rows.of("source", "target")):
        return pictures(run.draw([origin.prompt, target], origin.start, "edit"))


def _heat(
    run: Passes, prompt: str, start: Tensor, watched: list[WordMap], *others: System, rows: Rows | None = None
) -> dict[str, Float[Tensor, "h w"]]:
    """Draw the source alone and see where it shows the words."""
    if not watched:
        return {}
    with attach(run.flow.pipe, *others, *watched, rows=rows) as attached:
        run.draw([prompt], start, "find the words", output="latent")
        return _maps(attached, watched)


def _maps(attached: Any, watched: list[WordMap]) -> dict[str, Float[Tensor, "h w"]]:
    return {word: heat[0, 0] for words in watched for word, heat in words.heat(attached.state).items()}


def _watched(run: Passes, prompt: str, words: tuple[str, ...]) -> list[WordMap]:
    """A system that watches the words, or none where there are none."""
    tokens = {word: word_tokens(run.flow.pipe, prompt, word, run.flow.text_tokens) for word in words}
    return [WordMap(tokens=tokens, where=run.watch)] if tokens else []


def _system(masks: list[Grid], strengths: tuple[float, ...], tape: Tape | None, where: Where) -> ConsistEdit:
    if not masks:
        return ConsistEdit(strength=strengths[0], tape=tape, where=where)
    regions = (Region(mask=mask, strength=s) for mask, s in zip(masks, strengths, strict=True))
    return ConsistEdit(regions=tuple(regions), tape=tape, where=where)


def _check_kind(kind: object, layers: object, segment: object, strength: object, keep: bool) -> None:
    """What belongs to edits of a kind, and what does not."""
    if kind is None and not (layers is None and segment is None):
        raise ValueError(
            "layers and segment belong to a kind of edit; give kind=AddObject(), Reshape() or KeepRegion()"
        )
    if kind is not None and (strength is not None or keep):
        raise ValueError(f"strength={strength} and keep={keep} belong to edits without kind=; leave them out")
