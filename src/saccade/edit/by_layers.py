"""Edits that share a source's k and v in layers chosen by what they hang on (FreeFlux): add, reshape, keep a region.

A word's region is seen in a first pass that ends early, by what word and image pay to each other. A picture of yours is
inverted, and in every pass its row is set to the inverted latent of each level.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saccade.analysis.layers import LayerScores, LayerSets
from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.core.rows import Rows
from saccade.core.site import EVERYWHERE, Where, at
from saccade.data.rgb import as_picture
from saccade.edit.passes import Edited, Grid, Passes, Source
from saccade.edit.request import Kind, Request
from saccade.mechanisms.token_regions import erode, move, region, spread_points
from saccade.metrics.fidelity import Picture
from saccade.metrics.output import pictures
from saccade.papers.freeflux import AddObject, FreeFlux, KeepRegion, Reshape, known_layers
from saccade.pipelines.flow import Flow
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.pipelines.words import word_tokens
from saccade.runs.inversion import inverted_path, sample_euler
from saccade.systems.word_map import WordMap

T = TypeVar("T")
Layers = LayerSets | LayerScores
Segment = Callable[[Picture, Int[np.ndarray, "p 2"]], Bool[np.ndarray, "h w"]]  # picture (h w 3), clicks (x, y)
THRESHOLD = 0.3
LOOK = 7 / 50  # share of the steps after which words are looked for, unless `watch` says when
WATCH = at(depth=(40 / 57, 44 / 57))  # layers 40 to 43 of FLUX.1
NUDGE = 1.15  # of a real picture's latents, as Stable Flow has it
GUIDANCE = 3.5  # of a target row beside a real picture's
CLICKS, EROSIONS = 4, 3


def edit_by_layers(run: Passes, asked: Request, source: Source, mask: Grid | None, segment: Segment | None) -> Edited:
    """An edit of the kind that is asked for, its mask on image tokens."""
    kind, words, target = asked.kind, asked.words, asked.target
    assert kind is not None
    _check(kind, source, words, mask, segment)
    run = replace(run, watch=_at_a_step(asked.watch or WATCH, run.steps), where=asked.where or EVERYWHERE)
    run.total = _calls(run, kind, words, not isinstance(source, str), segment is not None)
    with no_progress_bar(run.flow.pipe):
        origin = _origin(run, source, asked.prompt, asked.seed)
        heat = _heat(run, origin, kind, target, words, asked.layers)
        threshold = THRESHOLD if asked.threshold is None else asked.threshold
        places = [region(one, threshold=threshold) for one in heat.values()]
        edit = _placed(
            run, origin, kind, mask if mask is not None else _union(places), given=mask is not None, segment=segment
        )
        system = FreeFlux(edit=edit, layers=asked.layers, where=run.where)
        drawn = _draw(run, origin, [origin.prompt, target], "edit", [system, *run.systems], _pictures)
    before = drawn[0] if origin.picture is None else origin.picture
    return Edited(
        before=before,
        after=drawn[1],
        rebuilt=drawn[0],
        mask=_edited(edit),
        heat=heat,
        source=origin.prompt,
        target=target,
        start=origin.start,
        record=run.record(before, drawn[1]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Origin:
    """Where both rows set out from; of a picture of yours, the latents of its inversion, the noisiest first."""

    prompt: str
    start: Tensor
    path: tuple[Tensor, ...] = ()
    picture: Picture | None = None


def _origin(run: Passes, source: Source, prompt: str | None, seed: int) -> _Origin:
    flow = run.flow
    if isinstance(source, str):
        return _Origin(prompt=source, start=flow.noise(seed))
    assert prompt is not None and not isinstance(source, Edited)  # refused before
    picture, velocity = as_picture(source), flow.velocity([prompt])

    def counted(z: Tensor, sigma: float) -> Tensor:
        run.tell("invert")
        return velocity(z, sigma)

    path = inverted_path(counted, NUDGE * flow.encode(picture), flow.sigmas(run.steps))
    return _Origin(prompt=prompt, start=path[0], path=path, picture=picture)


def _heat(
    run: Passes, origin: _Origin, kind: Kind, target: str, words: tuple[str, ...], sets: LayerSets | None
) -> dict[str, Tensor]:
    """Maps (h w) of the words: of the new object in the target beside its source, of a kept one in the source alone."""
    if not words:
        return {}
    adds = isinstance(kind, AddObject)
    pipe, text = run.flow.pipe, run.flow.text_tokens
    tokens = {word: word_tokens(pipe, target if adds else origin.prompt, word, text) for word in words}
    watched = WordMap(tokens=tokens, mutual=True, role="target" if adds else None, where=run.watch)
    prompts: list[str] = [origin.prompt]
    stack: list[System] = [watched]
    if adds:
        sharing = FreeFlux(edit=replace(kind, free=None), layers=sets, where=run.where)
        prompts, stack = [origin.prompt, target], [watched, sharing]

    def read(attached: Any, latents: Tensor, flow: Flow) -> dict[str, Tensor]:
        return {word: heat[0, 0] for word, heat in watched.heat(attached.state).items()}

    return _draw(run, origin, prompts, "find the words", stack, read, until=_last(run.watch, run.steps))


def _placed(
    run: Passes, origin: _Origin, kind: Kind, mask: Grid | None, *, given: bool, segment: Segment | None
) -> Kind:
    """The kind with its place: a mask that was given is where to edit, a word's region is the object."""
    match kind:
        case AddObject():
            return kind if mask is None else replace(kind, free=mask)
        case KeepRegion() if mask is not None:
            keep = ~mask if given else mask
            return replace(kind, keep=keep if segment is None else _segmented(run, origin, keep, segment))
    return kind


def _segmented(run: Passes, origin: _Origin, found: Grid, segment: Segment) -> Grid:
    """The object as a segmenter sees it from clicks well inside its region."""
    picture = origin.picture
    if picture is None:
        picture = pictures(run.draw([origin.prompt], origin.start, "draw the source"))[0]
    inner = [found, *(erode(found, times) for times in range(1, EROSIONS + 1))]
    inside = [each for each in inner if each.any()][-1]
    clicks = spread_points(inside, min(CLICKS, int(inside.sum())))
    middles = ((clicks.flip(1) + 0.5) * run.flow.side).long().numpy()
    return run.flow.on_tokens(torch.as_tensor(segment(picture[0], middles)))


def _draw(
    run: Passes,
    origin: _Origin,
    prompts: list[str],
    what: str,
    stack: list[System],
    read: Callable[[Any, Tensor, Flow], T],
    *,
    until: int | None = None,
) -> T:
    """The source's prompt, and targets behind it, with systems attached; `read` says what is wanted of it."""
    flow, rows = run.flow, Rows.of("source", "target") if len(prompts) > 1 else None
    if not origin.path:
        with attach(flow.pipe, *stack, rows=rows) as attached:
            made = run.draw(prompts, origin.start, what, output="latent", until=until)
            return read(attached, made.images, flow)
    levels = flow.levels(run.steps, clean=False)
    led = [1.0, *(GUIDANCE if run.guidance is None else run.guidance for _ in prompts[1:])]
    velocity = flow.velocity(prompts, guidance=led, levels=levels)

    def held(z: Tensor, reached: int) -> Tensor:
        run.tell(what)
        return torch.cat((origin.path[reached], z[1:]))

    start, sigmas = origin.start.expand(len(prompts), *origin.start.shape[1:]), flow.sigmas(run.steps)
    with attach(flow.pipe, *stack, rows=rows, schedule=levels) as attached:
        z = sample_euler(velocity, start, sigmas[: None if until is None else until + 1], after=held)
        return read(attached, z, flow)


def _pictures(attached: Any, latents: Tensor, flow: Flow) -> list[Picture]:
    return [np.asarray(one, dtype=np.float32)[None] for one in flow.decode(latents)]


def _check(kind: Kind, source: Source, words: tuple[str, ...], mask: Grid | None, segment: Segment | None) -> None:
    """What each kind needs, and what it has no use for."""
    name = type(kind).__name__
    if isinstance(source, Edited):
        raise ValueError(f"source is an edit, and {name} starts from a prompt or a picture; give its picture, `.after`")
    if isinstance(kind, Reshape) and (words or mask is not None):
        raise ValueError("word and mask say where to edit, and Reshape edits everywhere; leave them out")
    if isinstance(kind, AddObject) and not words and mask is None and kind.free is None:
        raise ValueError("word=None names no new object; give its word in the target, or a mask of where it may be")
    if isinstance(kind, KeepRegion) and not words and mask is None and kind.keep is None:
        raise ValueError("word=None names nothing to keep; give its word in the source, or a mask of where to edit")
    if segment is not None and not (isinstance(kind, KeepRegion) and words):
        raise ValueError("segment refines the region of a word that KeepRegion keeps; leave it out here")


def layer_sets(pipe: Any, kind: Kind | None, layers: Layers | None) -> LayerSets | None:
    """The layers given, or those of the last probe known; none where all share, and where nothing goes by layers.

    Raises ValueError where there is no probe of this model.
    """
    if kind is None or kind.layers == "all":
        return None
    found = known_layers(pipe) if layers is None else layers
    if found is None:
        raise ValueError(
            f"layers=None, and no probe of this {type(pipe.transformer).__name__} is known; run saccade probe, "
            "or probe_layers(pipe, prompts)"
        )
    return found if isinstance(found, LayerSets) else found.sets()


def _at_a_step(watch: Where, steps: int) -> Where:
    """The step words are looked for at, where nothing says when."""
    if watch.during != (0.0, 1.0):
        return watch
    step = int(LOOK * steps)
    return replace(watch, during=(step / steps, (step + 1) / steps))


def _last(watch: Where, steps: int) -> int:
    """How many steps a pass takes that sees all that is watched."""
    return 1 + max((step for step in range(steps) if step / steps < watch.during[1]), default=0)


def _calls(run: Passes, kind: Kind, words: tuple[str, ...], given: bool, segmented: bool) -> int:
    """Calls of the model in all."""
    looks = _last(run.watch, run.steps) if words else 0
    return run.steps * (1 + given + (segmented and not given)) + looks


def _union(places: list[Grid]) -> Grid | None:
    return torch.stack(places).any(0) if places else None


def _edited(kind: Kind) -> Grid | None:
    """Image tokens that are not the source's."""
    match kind:
        case AddObject(free=free) if free is not None:
            return free > 0
        case KeepRegion(keep=keep) if keep is not None:
            return ~move(keep > 0, kind.by).target
    return None
