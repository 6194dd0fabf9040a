"""Insert a subject into a picture by In-Context Brush, with a record that makes the result again bit for bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from warnings import warn

import numpy as np
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.compare.arms import same_stack, to_spec
from saccade.core.mechanism import System
from saccade.insert.record import Record
from saccade.insert.request import Request, Words, request
from saccade.mechanisms.canvas import Size
from saccade.metrics.fidelity import Picture
from saccade.metrics.output import pictures
from saccade.papers.in_context_brush.context_shift import Rows
from saccade.papers.in_context_brush.diptych import (
    Detect,
    Diptych,
    Segment,
    fitted,
    make_diptych,
    on_white,
    resized,
    resized_mask,
)
from saccade.papers.in_context_brush.system import Compat
from saccade.pipelines.flow import token_side
from saccade.pipelines.latent_blending import LatentBlending, check_scheduler
from saccade.pipelines.latents import MaskRule, start_noise
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.pipelines.records import check_model, digest, made_by, warn_of_other_bits
from saccade.pipelines.words import piece_tokens
from saccade.ui.progress import ProgressCallback

FILL = "FluxFillPipeline"
KNOWN = (FILL, "FluxPipeline", "StableDiffusion3Pipeline")
BUNDLED_SETTINGS: Mapping[str, Any] = MappingProxyType(  # for `scenes-flux`
    {"height": 64, "width": 64, "text_tokens": 32, "steps": 20}
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Inserted:
    """An insertion. Pictures are (b h w 3) in [0, 1], one for each seed.

    pictures  the target with the subject in it
    diptychs  what the pipeline drew (b 2h w 3), the subject's half on top
    shown     what it was given, and where it might draw
    density   share of the pairs of tokens that attention computed; above 1 by what was computed again
    record    what was done; `record.save(path)` keeps it, `replay` makes it again
    """

    pictures: Picture
    diptychs: Picture
    shown: Diptych
    density: float
    record: Record


def insert(
    pipe: Any,
    *,
    subject: Any,
    into: Any,
    mask: Any,
    prompt: str,
    subject_mask: Any = None,
    phrase: str | None = None,
    detect: Detect | None = None,
    segment: Segment | None = None,
    alpha_text: float = 0.3,
    alpha_demo: float = 0.3,
    beta: float = 0.2,
    rows: Rows = "query",
    compat: Compat | None = None,
    blend: bool = True,
    mask_rule: MaskRule = "cells",
    words: Words = "all",
    systems: Sequence[System] = (),
    seeds: int | Sequence[int] = 0,
    steps: int = 50,
    guidance: float | None = None,
    height: int | None = None,
    width: int | None = None,
    text_tokens: int | None = None,
    progress: ProgressCallback | None = None,
) -> Inserted:
    """Draw the subject of one picture into the masked place of another, as the prompt describes the result.

    pipe           a FluxFillPipeline of diffusers; or a FluxPipeline or StableDiffusion3Pipeline, which do not see the
                   mask and are kept to it by blending alone
    subject, into  pictures: a PIL image, or (h w 3), bytes or floats in [0, 1]
    mask           where the subject goes: (h w) of `into`'s size in [0, 1], a PIL image, or a box x0, y0, x1, y1 as
                   shares or in pixels
    subject_mask   pixels of the subject, (h w) of its picture's size; the rest becomes white. Without it the picture is
                   taken as it is, and should lie on white already
    phrase, detect, segment  find it instead: detect(picture, phrase) gives a box x0, y0, x1, y1 in pixels, or None,
                   segment(picture, box) a mask (h w); pictures are (1 h w 3) in [0, 1]
    alpha_text, alpha_demo, beta, rows, compat  as in `saccade.papers.InContextBrush`; "official" stretches the subject
    blend          keep latents outside the mask those of the pictures, after every step; False is what was released
    mask_rule      how a mask becomes latent: "cells" or "area", see `pipelines.latents.latent_mask`
    words          "real" leaves the text's padding out of what counts as text, "all" is the paper's
    systems        more systems to run with, an accelerating one say
    seeds          one, or several for several pictures, drawn one by one
    guidance       the pipeline's guidance_scale; None for its own, 30 for FLUX.1 Fill
    height, width  pixels of a half, rounded down to whole tokens with a warning; by default those of `into`
    text_tokens    the pipeline's max_sequence_length
    Raises ValueError for what does not fit together, before anything is drawn.
    """
    asked = request(
        subject, into, mask, subject_mask=subject_mask, phrase=phrase, detect=detect, segment=segment, seeds=seeds,
        prompt=prompt, alpha_text=alpha_text, alpha_demo=alpha_demo, beta=beta, rows=rows, compat=compat, blend=blend,
        mask_rule=mask_rule, words=words, systems=tuple(map(to_spec, systems)), steps=steps, guidance=guidance,
        height=height, width=width, text_tokens=text_tokens,
    )  # fmt: skip
    return _draw(pipe, asked, systems, progress)


def replay(
    pipe: Any, record: Record, *, systems: Sequence[System] | None = None, progress: ProgressCallback | None = None
) -> Inserted:
    """Make an insertion again. The pictures are those of the record bit for bit on the machine it was made on.

    systems  those it was stacked with, where text does not say all of them
    Where they are others, a warning names what differs: device, threads, versions.
    Raises SaccadeError for another pipeline or other weights, ValueError for systems that are not the record's.
    """
    check_model(record.made_by, made_by(pipe))
    made = _draw(pipe, record.request, same_stack(record.request.systems, systems), progress)
    warn_of_other_bits("pictures", record, made.record)
    return made


def _draw(pipe: Any, asked: Request, systems: Sequence[System], progress: ProgressCallback | None) -> Inserted:
    """One diptych after the other."""
    _check_pipeline(pipe, asked)
    shown, done, total = _diptych(asked, _half(pipe, asked)), 0, asked.steps * len(asked.seeds)
    words = (
        piece_tokens(pipe, (asked.prompt,), max_sequence_length=asked.text_tokens)[0] if asked.words == "real" else None
    )

    def stepped() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, "insert")

    with no_progress_bar(pipe), attach(pipe, asked.system(words), *systems) as run:
        drawn = [pictures(_call(pipe, asked, shown, seed, stepped))[0] for seed in asked.seeds]
        density = run.report().density
    found = np.concatenate(drawn)
    record = Record(request=asked, made_by=made_by(pipe), digests=tuple(digest(one) for one in shown.lower(found)))
    return Inserted(pictures=shown.lower(found), diptychs=found, shown=shown, density=density, record=record)


def _call(pipe: Any, asked: Request, shown: Diptych, seed: int, stepped: Any) -> Any:
    """One generator draws the noise first, then what the pipeline itself samples: its view of the masked picture."""
    generator = torch.Generator("cpu").manual_seed(seed)
    height, width = shown.picture.shape[1:3]
    blend = LatentBlending.of(pipe, shown.picture, shown.mask, generator, asked.mask_rule) if asked.blend else None
    noise: Tensor = start_noise(pipe, height, width, generator) if blend is None else blend.noise
    masked = {"image": shown.picture, "mask_image": shown.mask[None, ..., None]} if _is_fill(pipe) else {}
    limits = {"guidance_scale": asked.guidance, "max_sequence_length": asked.text_tokens}

    def ended(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        stepped()
        return tensors if blend is None else blend(pipe, step, time, tensors)

    return pipe(
        prompt=asked.prompt, height=height, width=width, num_inference_steps=asked.steps, latents=noise,
        generator=generator, output_type="np", callback_on_step_end=ended, **masked,
        **{name: value for name, value in limits.items() if value is not None},
    )  # fmt: skip


def _diptych(asked: Request, half: Size) -> Diptych:
    """Both pictures at the size of a half; the subject keeps its proportions."""
    subject = asked.subject if asked.subject_mask is None else on_white(asked.subject, asked.subject_mask)
    placed = resized(subject, half) if asked.compat == "official" else fitted(subject, half)
    return make_diptych(placed, resized(asked.into, half), resized_mask(asked.mask, half))


def _half(pipe: Any, asked: Request) -> Size:
    """(height, width) in whole tokens."""
    side, own = token_side(pipe), asked.into.shape[1:3]
    wanted = asked.height or own[0], asked.width or own[1]
    half = wanted[0] // side * side, wanted[1] // side * side
    if 0 in half:
        raise ValueError(f"a picture of {wanted[0]} x {wanted[1]} pixels is smaller than a token of {side}; enlarge it")
    if half != wanted:
        warn(f"a picture of {wanted[0]} x {wanted[1]} pixels is rounded down to {half[0]} x {half[1]}", stacklevel=4)
    return half


def _check_pipeline(pipe: Any, asked: Request) -> None:
    if not {cls.__name__ for cls in type(pipe).__mro__} & set(KNOWN):
        name = type(pipe).__name__
        raise ValueError(f"pipe={name} is none of {', '.join(KNOWN)}; attach InContextBrush(...) to it yourself")
    if not asked.blend and not _is_fill(pipe):
        raise ValueError(
            f"blend=False, and {type(pipe).__name__} has no inpainting channels, so it would draw all anew; give "
            f"blend=True, or a {FILL}"
        )
    if asked.blend:
        check_scheduler(pipe)


def _is_fill(pipe: Any) -> bool:
    return FILL in {cls.__name__ for cls in type(pipe).__mro__}
