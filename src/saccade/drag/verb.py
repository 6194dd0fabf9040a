"""Drag an object of a picture to another place by DiffUHaul, with a record that makes the result again bit for bit."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from saccade.compare.arms import same_stack, to_spec
from saccade.core.mechanism import System
from saccade.core.site import Where
from saccade.drag.drawing import Counted, Dragged, draw, host_of
from saccade.drag.record import Record
from saccade.drag.wish import Wish, as_objects, as_source
from saccade.papers.diffuhaul.buckets import FreshNoise
from saccade.pipelines.loading import load_pipeline
from saccade.pipelines.records import check_model, made_by, warn_of_other_bits
from saccade.ui.progress import ProgressCallback

BUNDLED = "scenes-flux"
BUNDLED_SETTINGS: Mapping[str, Any] = MappingProxyType(  # for `scenes-flux`
    {
        "height": 64, "width": 64, "text_tokens": 32, "steps": 20, "threshold": 0.4,
        "watch": Where(kinds=("joint",)),
    }
)  # fmt: skip


def drag(
    pipe: Any,
    source: Any,
    *,
    object: Any,
    to: Any,
    word: str | None = None,
    others: Mapping[str, Any] | None = None,
    prompt: str | None = None,
    target_prompt: str | None = None,
    masked: bool = True,
    share: bool = True,
    schedule: str | None = "t/T",
    kappa: float = 1.0,
    tau: float = 0.5,
    nearest: bool = True,
    carry: bool | None = None,
    blend: bool = True,
    dilation: int = 2,
    buckets: int = 10,
    fresh_noise: FreshNoise = "bucket",
    systems: Sequence[System] = (),
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    height: int | None = None,
    width: int | None = None,
    text_tokens: int | None = None,
    threshold: float | None = None,
    watch: Where | None = None,
    progress: ProgressCallback | None = None,
) -> Dragged:
    """Draw the source again with one object elsewhere: what it covered is filled, all else stays.

    pipe     a FluxPipeline, StableDiffusion3Pipeline, StableDiffusionGLIGENPipeline or StableDiffusionPipeline of
             diffusers, or the name of one
    source   a prompt; or a picture (a PIL image, or (h w 3), bytes or floats in [0, 1]), with `prompt`
    object   what is dragged: words of the prompt, by which it is found (FLUX and SD3); or where it is, as a `Blob`, a
             box x0, y0, x1, y1 in shares or pixels, or a mask (h w) of the picture's size
    to       where it goes: its centre x, y, a box or a `Blob`; or all objects' blobs, the dragged one first
    word     words that name the object, where `object` says where it is
    others   the other objects by their words, and where they are as above; None where they are to be found
    target_prompt  describes the result, where it is another text
    masked, share, schedule, kappa, tau, nearest, carry  as in `saccade.papers.DiffUHaul`; carry by default for FLUX and
             SD3. `masked` needs the objects' words there
    blend, dilation  keep latents further than so many from both places the source's
    buckets, fresh_noise  of a picture's steps, as in `papers.diffuhaul.Drag`
    systems  more systems to run with, an accelerating one say
    steps    50 without it; 20 for the bundled model
    guidance  the pipeline's; without it 3.5 for FLUX, 7 for SD3, 7.5 for U-Nets
    height, width, text_tokens  of what is drawn from a prompt; the pipeline's max_sequence_length
    threshold, watch  from which share of its highest attention a word's place is, and the sites that are watched
    Raises ValueError for what does not fit together, before anything is drawn.
    """
    opened, suited = _opened(pipe)
    picture, text = as_source(source, prompt)
    if picture is not None:
        suited = {name: value for name, value in suited.items() if name not in ("height", "width")}
    given = dict(
        height=height, width=width, text_tokens=text_tokens, steps=steps, threshold=threshold, watch=watch
    )  # fmt: skip
    wish = Wish(
        pipe=opened, picture=picture, prompt=text, target_prompt=target_prompt or text, to=to,
        settings={**suited, **{name: value for name, value in given.items() if value is not None}},
        options=dict(
            masked=masked, share=share, schedule=schedule, kappa=kappa, tau=tau, nearest=nearest, carry=carry,
            blend=blend, dilation=dilation, buckets=buckets, fresh_noise=fresh_noise, seed=seed, guidance=guidance,
            systems=tuple(map(to_spec, systems)),
        ),
    )  # fmt: skip
    return wish.drawn(as_objects(object, word, others or {}, wish.size), systems, progress)


def replay(
    pipe: Any, record: Record, *, systems: Sequence[System] | None = None, progress: ProgressCallback | None = None
) -> Dragged:
    """Make a drag again. The pictures are those of the record bit for bit on the machine it was made on.

    systems  those it was stacked with, where text does not say all of them
    Where they are others, a warning names what differs: device, threads, versions.
    Raises SaccadeError for another pipeline or other weights, ValueError for systems that are not the record's.
    """
    opened, asked = _opened(pipe)[0], record.request
    check_model(record.made_by, made_by(opened))
    stack = same_stack(asked.systems, systems)
    made = draw(host_of(opened, asked), asked, stack, Counted(progress, asked.steps))
    warn_of_other_bits("pictures", record, made.record)
    return made


def _opened(pipe: Any) -> tuple[Any, Mapping[str, Any]]:
    """The pipeline, and what suits it."""
    return (load_pipeline(pipe), BUNDLED_SETTINGS if pipe == BUNDLED else {}) if isinstance(pipe, str) else (pipe, {})
