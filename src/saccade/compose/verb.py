"""Compose a picture of texts, places and reference pictures (LAMIC), with a record that makes it again bit for bit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from warnings import warn

import numpy as np
import torch
from jaxtyping import Bool

from saccade.attach import attach
from saccade.compare.arms import same_stack, to_spec
from saccade.compose.record import Record
from saccade.compose.request import Compat, PaddedText, Request, request
from saccade.core.mechanism import System
from saccade.mechanisms.canvas import Box, Region, Size, Unit, on_tokens
from saccade.metrics.fidelity import Picture
from saccade.metrics.output import pictures
from saccade.papers.lamic import Entity, Lamic
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.pipelines.records import check_model, digest, made_by, warn_of_other_bits
from saccade.pipelines.references import PIPELINE, Reference, ReferenceSize, reference_pictures
from saccade.pipelines.words import count_tokens, piece_tokens, text_length

Progress = Callable[[int, int, str], None]  # (steps done, in all, what runs now)
KNOWN = ("FluxPipeline", PIPELINE)
BUNDLED_SETTINGS = MappingProxyType({"height": 64, "width": 64, "text_tokens": 32})  # for `scenes-flux`


@dataclass(frozen=True, kw_only=True, eq=False)
class Composed:
    """A composition.

    pictures  (b h w 3) in [0, 1], one for each seed
    density   share of the pairs of tokens that attention computed
    record    what was done; `record.save(path)` keeps it, `replay` makes it again
    """

    pictures: Picture
    density: float
    record: Record

    @property
    def regions(self) -> Bool[np.ndarray, "r h w"]:
        """Pixels of each entity's region, as image tokens cover them."""
        rows, columns = self.record.regions.shape[1:]
        height, width = self.pictures.shape[1:3]
        return np.kron(self.record.regions, np.ones((1, height // rows, width // columns), bool)).astype(bool)


def compose(
    pipe: Any,
    *,
    texts: Sequence[str],
    boxes: Sequence[Sequence[float] | None] | None = None,
    masks: Sequence[Any] | None = None,
    references: Sequence[Any] | None = None,
    strengths: float | Sequence[float] = 1.0,
    apart: Mapping[int, Sequence[int]] | None = None,
    interaction: str = "",
    unit: Unit | None = None,
    reference_size: ReferenceSize = "native",
    first_stage: float = 0.05,
    padding: PaddedText = "hub",
    compat: Compat | None = None,
    systems: Sequence[System] = (),
    seeds: int | Sequence[int] = 0,
    steps: int = 20,
    guidance: float | None = 2.5,
    height: int | None = None,
    width: int | None = None,
    text_tokens: int | None = None,
    progress: Progress | None = None,
) -> Composed:
    """Draw entities at their places, each after its own text and reference picture, by LAMIC's masks.

    pipe            a FluxKontextPipeline of diffusers, or a FluxPipeline for texts without reference pictures
    texts           what each entity is, "a boy, keep appearance."
    boxes           x0, y0, x1, y1 of each, as shares in [0, 1] or in pixels; None for the whole canvas
    masks           pictures (h w) in [0, 1] of any size instead, or None, for each
    references      a picture for each entity, or None: a PIL image, or (h w 3), bytes or floats in [0, 1]
    strengths       factor on the latents of reference pictures, one or one for each
    apart           {0: (1,)}: in the first stage entity 0 leaves its place to entity 1 where both overlap
    interaction     a sentence that all entities share
    unit            "share" or "pixel" where boxes leave it open
    reference_size  "native", "preferred" (by Kontext's training), or pixels in all, as 262144
    first_stage     share of the steps in which regions do not see one another
    padding         text of no entity is a "hub" between all, "isolated" or "dropped", where T5 reads no padding
    compat          "official" joins texts without spaces and finds their tokens by the released code's count
    systems         more systems to run with, an accelerating one say
    seeds           one, or several for several pictures, drawn one by one
    guidance        the pipeline's guidance_scale
    height, width   pixels, rounded down to whole tokens with a warning; the pipeline's own by default
    text_tokens     the pipeline's max_sequence_length
    Raises ValueError for what does not fit together, and for a text that is cut.
    """
    asked = request(
        texts, boxes=boxes, masks=masks, references=references, strengths=strengths, apart=apart, seeds=seeds,
        interaction=interaction, unit=unit, reference_size=reference_size, first_stage=first_stage, padding=padding,
        compat=compat, systems=tuple(map(to_spec, systems)), steps=steps, guidance=guidance, height=height,
        width=width, text_tokens=text_tokens,
    )  # fmt: skip
    return _draw(pipe, asked, systems, progress)


def replay(
    pipe: Any, record: Record, *, systems: Sequence[System] | None = None, progress: Progress | None = None
) -> Composed:
    """Make a composition again. The pictures are those of the record bit for bit on the machine it was made on.

    systems  those it was stacked with, where text does not say all of them
    Where they are others, a warning names what differs: device, threads, versions.
    Raises SaccadeError for another pipeline or other weights, ValueError for systems that are not the record's.
    """
    check_model(record.made_by, made_by(pipe))
    made = _draw(pipe, record.request, same_stack(record.request.systems, systems), progress)
    warn_of_other_bits("pictures", record, made.record)
    return made


def _draw(pipe: Any, asked: Request, systems: Sequence[System], progress: Progress | None) -> Composed:
    """One picture after the other."""
    if not {cls.__name__ for cls in type(pipe).__mro__} & set(KNOWN):
        raise ValueError(f"pipe={type(pipe).__name__} is none of {', '.join(KNOWN)}; attach Lamic(...) to it yourself")
    canvas, done, total = _canvas(pipe, asked), 0, asked.steps * len(asked.seeds)
    prompt, length, lamic = _lamic(pipe, asked, canvas)
    shown = [
        Reference(picture=picture, strength=strength, size=asked.reference_size)
        for picture, strength in zip(asked.references, asked.strengths, strict=True)
        if picture is not None
    ]

    def stepped(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, "compose")
        return tensors

    with no_progress_bar(pipe), reference_pictures(pipe, shown), attach(pipe, lamic, *systems) as run:
        drawn = [pictures(_call(pipe, asked, prompt, canvas, length, seed, stepped))[0] for seed in asked.seeds]
        density = run.report().density
    found = np.concatenate(drawn)
    return Composed(pictures=found, density=density, record=_record(pipe, asked, lamic, canvas, found))


def _call(pipe: Any, asked: Request, prompt: str, canvas: Size, length: int, seed: int, stepped: Any) -> Any:
    height, width = canvas
    kontext = {"max_area": height * width, "_auto_resize": False} if type(pipe).__name__ == PIPELINE else {}
    guided = {} if asked.guidance is None else {"guidance_scale": asked.guidance}
    return pipe(
        prompt=prompt, height=height, width=width, num_inference_steps=asked.steps, max_sequence_length=length,
        generator=torch.Generator("cpu").manual_seed(seed), output_type="np", callback_on_step_end=stepped,
        **guided, **kontext,
    )  # fmt: skip


def _canvas(pipe: Any, asked: Request) -> Size:
    """(height, width) in whole tokens."""
    side, own = 2 * pipe.vae_scale_factor, pipe.default_sample_size * pipe.vae_scale_factor
    wanted = asked.height or own, asked.width or own
    canvas = wanted[0] // side * side, wanted[1] // side * side
    if 0 in canvas:
        raise ValueError(f"a canvas of {wanted} pixels is smaller than a token of {side}; enlarge it")
    if canvas != wanted:
        warn(f"a canvas of {wanted[0]} x {wanted[1]} pixels is rounded down to {canvas[0]} x {canvas[1]}", stacklevel=4)
    return canvas


def _lamic(pipe: Any, asked: Request, canvas: Size) -> tuple[str, int, Lamic]:
    """The prompt, how many tokens of it are read, and the system for it."""
    official = asked.compat == "official"
    separator = "" if official else " "
    pieces = [*asked.texts, *([asked.interaction] if asked.interaction else [])]
    length = text_length(pipe, asked.text_tokens)
    found = piece_tokens(pipe, pieces, separator=separator, max_sequence_length=length, counted=official)
    prompt, count = separator.join(pieces), len(asked.texts)
    if asked.padding == "dropped":
        length = count_tokens(pipe, prompt)
    lamic = Lamic(
        entities=tuple(_entity(asked, number, found[number], canvas) for number in range(count)),
        interaction=found[count] if asked.interaction else (),
        first_stage=asked.first_stage,
        padding="hub" if asked.padding == "hub" else "isolated",
    )
    return prompt, length, lamic


def _entity(asked: Request, number: int, words: tuple[int, ...], canvas: Size) -> Entity:
    nth = 1 + sum(picture is not None for picture in asked.references[:number])
    return Entity(
        words=words, region=_region(asked, number, canvas), apart=asked.apart[number], name=asked.texts[number],
        reference=None if asked.references[number] is None else f"reference{nth}",
    )  # fmt: skip


def _region(asked: Request, number: int, canvas: Size) -> Region:
    mask, box = asked.masks[number], asked.boxes[number]
    if mask is not None:
        return torch.from_numpy(mask)
    if box is None:
        return None
    try:
        return Box.parse(box, canvas, asked.unit)
    except ValueError as error:
        raise ValueError(f"{error} ('{asked.texts[number]}')") from None


def _record(pipe: Any, asked: Request, lamic: Lamic, canvas: Size, drawn: Picture) -> Record:
    side = 2 * pipe.vae_scale_factor
    grid = canvas[0] // side, canvas[1] // side
    regions = np.stack([on_tokens(entity.region, grid).numpy() for entity in lamic.entities])
    return Record(request=asked, made_by=made_by(pipe), regions=regions, digests=tuple(digest(one) for one in drawn))
