"""Drag an object of a picture to another place by DiffUHaul, with a record that makes the result again bit for bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch

from saccade.compare.arms import same_stack, to_spec
from saccade.core.mechanism import System
from saccade.core.site import Where
from saccade.data.rgb import as_picture
from saccade.drag.finding import find_objects
from saccade.drag.record import Record
from saccade.drag.request import Request, as_place, as_target
from saccade.mechanisms.canvas import Size
from saccade.metrics.fidelity import Picture
from saccade.papers.diffuhaul.blobs import Blob
from saccade.papers.diffuhaul.buckets import FreshNoise
from saccade.papers.diffuhaul.flow_host import FlowHost
from saccade.papers.diffuhaul.trajectory import Drag, haul_generated, haul_photo
from saccade.papers.diffuhaul.unet_host import UNetHost
from saccade.pipelines.flow import Flow
from saccade.pipelines.loading import load_pipeline
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.pipelines.records import check_model, digest, made_by, warn_of_other_bits
from saccade.pipelines.words import word_tokens
from saccade.systems.word_map import HEARING
from saccade.ui.progress import ProgressCallback

BUNDLED = "scenes-flux"
BUNDLED_SETTINGS: Mapping[str, Any] = MappingProxyType(  # for `scenes-flux`
    {
        "height": 64, "width": 64, "text_tokens": 32, "steps": 20, "threshold": 0.4,
        "watch": Where(kinds=("joint",)),
    }
)  # fmt: skip
GUIDANCE = {"FluxPipeline": 3.5, "StableDiffusion3Pipeline": 7.0}
OF_UNETS = 7.5
STEPS = 50
STAND_IN = Blob(x=0.5, y=0.5, a=0.1, b=0.1)  # stands for objects that are still to be found, while all else is checked


@dataclass(frozen=True, kw_only=True, eq=False)
class Dragged:
    """A drag. Pictures are (1 h w 3) in [0, 1].

    before   the source: the picture, or what was drawn from the prompt
    after    the same with the object at its new place
    source, target  the dragged object's blobs
    record   what was done; `record.save(path)` keeps it, `replay` makes it again
    """

    before: Picture
    after: Picture
    source: Blob
    target: Blob
    record: Record


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
    options = {
        "masked": masked, "share": share, "schedule": schedule, "kappa": kappa, "tau": tau, "nearest": nearest,
        "carry": carry, "blend": blend, "dilation": dilation, "buckets": buckets, "fresh_noise": fresh_noise,
        "seed": seed, "guidance": guidance, "systems": tuple(map(to_spec, systems)),
    }  # fmt: skip
    opened, suited = _opened(pipe)
    given = {
        "height": height, "width": width, "text_tokens": text_tokens, "steps": steps, "threshold": threshold,
        "watch": watch,
    }  # fmt: skip
    picture, text = _source(source, prompt)
    if picture is not None:
        suited = {name: value for name, value in suited.items() if name not in ("height", "width")}
    wish = _Wish(
        pipe=opened, picture=picture, prompt=text, target_prompt=target_prompt or text, to=to, options=options,
        settings={**suited, **{name: value for name, value in given.items() if value is not None}},
    )  # fmt: skip
    return wish.drawn(_objects(object, word, others or {}, wish.size), systems, progress)


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
    made = _draw(_host(opened, asked), asked, stack, _Counted(progress, asked.steps))
    if made.record.digests != record.digests:
        warn_of_other_bits("pictures", record.differs(made.record))
    return made


@dataclass(frozen=True, kw_only=True, eq=False)
class _Wish:
    """What was asked of an opened pipeline, before it is known where all objects are."""

    pipe: Any
    picture: Picture | None
    prompt: str
    target_prompt: str
    to: Any
    options: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def size(self) -> Size:
        """Of the picture, as asked for, or the model's own."""
        if self.picture is not None:
            own = self.picture.shape[1], self.picture.shape[2]
        else:
            side = getattr(self.pipe, "default_sample_size", None) or self.pipe.unet.config.sample_size
            own = (side * self.pipe.vae_scale_factor,) * 2
        return self.settings.get("height", own[0]), self.settings.get("width", own[1])

    def request(self, objects: Mapping[str, Blob]) -> Request:
        """With objects at these places."""
        layout, options = tuple(objects.values()), dict(self.options)
        if options["carry"] is None:
            options["carry"] = not hasattr(self.pipe, "unet")
        if options["guidance"] is None:
            options["guidance"] = _guidance(self.pipe)
        return Request(
            picture=self.picture, prompt=self.prompt, target_prompt=self.target_prompt, source=layout,
            target=as_target(self.to, layout, self.size), height=self.size[0], width=self.size[1],
            steps=self.settings.get("steps", STEPS), text_tokens=self.settings.get("text_tokens"), **options,
        )  # fmt: skip

    def drawn(
        self, objects: Mapping[str, Blob | None], systems: Sequence[System], progress: ProgressCallback | None
    ) -> Dragged:
        """All is checked with stand-ins for objects that are to be found; then these are found."""
        asked = self.request({name: blob or replace(STAND_IN, name=name) for name, blob in objects.items()})
        host, missing = _host(self.pipe, asked), [name for name, blob in objects.items() if blob is None]
        _words(host, asked)
        stepped = _Counted(progress, asked.steps * (2 if missing else 1))
        if missing:
            found = self._found(host, asked, missing, stepped)
            asked = self.request({name: blob or found[name] for name, blob in objects.items()})
        return _draw(host, asked, systems, stepped)

    def _found(
        self, host: FlowHost | UNetHost, asked: Request, missing: Sequence[str], stepped: "_Counted"
    ) -> dict[str, Blob]:
        if not isinstance(host, FlowHost):
            raise ValueError(f"object='{missing[0]}' is not found by words in a U-Net; give its box and word=")
        limits = {"threshold": self.settings.get("threshold", 0.1), "watch": self.settings.get("watch", HEARING)}
        with no_progress_bar(self.pipe):
            clean, noise = _clean(host, asked), host.start(asked.seed)
            return find_objects(host, self.prompt, missing, clean, noise, stepped=stepped, **limits)


@dataclass(eq=False)
class _Counted:
    """Steps that are done."""

    progress: ProgressCallback | None
    total: int
    done: int = 0

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total, "drag")


def _draw(host: FlowHost | UNetHost, asked: Request, systems: Sequence[System], stepped: _Counted) -> Dragged:
    words, theirs = _words(host, asked)
    how = Drag(
        system=asked.system(words, theirs), prompts=((asked.prompt,), (asked.target_prompt,)), blend=asked.blend,
        dilation=asked.dilation, buckets=asked.buckets, fresh_noise=asked.fresh_noise,
    )  # fmt: skip
    with no_progress_bar(host.pipe):
        clean, noise = _clean(host, asked), host.start(asked.seed)
        if clean is None:
            found = haul_generated(host, how, noise, systems, stepped)
        else:
            fresh = torch.Generator("cpu").manual_seed(asked.seed)
            found = haul_photo(host, how, clean, noise, fresh, systems, stepped)
        drawn = host.decode(found)
    before = drawn[:1] if asked.picture is None else asked.picture
    digests = tuple(digest(picture) for picture in (before, drawn[1:]))
    return Dragged(
        before=before, after=drawn[1:], source=asked.source[0], target=asked.target[0],
        record=Record(request=asked, made_by=made_by(host.pipe), digests=digests),
    )  # fmt: skip


def _opened(pipe: Any) -> tuple[Any, Mapping[str, Any]]:
    """The pipeline, and what suits it."""
    return (load_pipeline(pipe), BUNDLED_SETTINGS if pipe == BUNDLED else {}) if isinstance(pipe, str) else (pipe, {})


def _source(source: Any, prompt: str | None) -> tuple[Picture | None, str]:
    if isinstance(source, str):
        if prompt is not None:
            raise ValueError(
                f"prompt='{prompt}' belongs to a picture, and source is a prompt already; give one of them"
            )
        return None, source
    if prompt is None:
        raise ValueError("prompt=None says nothing of the picture; describe it, as prompt='a red circle on white'")
    return as_picture(source), prompt


def _objects(object: Any, word: str | None, others: Mapping[str, Any], size: Size) -> dict[str, Blob | None]:
    """All objects by their words, the dragged one first; None for those that are still to be found."""
    if isinstance(object, str) and word is not None:
        raise ValueError(f"object='{object}' are words already; leave word='{word}' out, or give the object's place")
    name = object if isinstance(object, str) else word or getattr(object, "name", "")
    first = {name: None if isinstance(object, str) else as_place(object, size, name)}
    if name in others:
        raise ValueError(f"others names '{name}', which is dragged; leave it out")
    return {**first, **{one: None if at is None else as_place(at, size, one) for one, at in others.items()}}


def _host(pipe: Any, asked: Request) -> FlowHost | UNetHost:
    """Raises ValueError for a pipeline that is not known, and for sizes that are not its own."""
    if hasattr(pipe, "unet"):
        return UNetHost(pipe=pipe, height=asked.height, width=asked.width, steps=asked.steps, guidance=asked.guidance)
    flow = Flow(pipe=pipe, height=asked.height, width=asked.width, text_tokens=asked.text_tokens)
    return FlowHost(flow=flow, steps=asked.steps, guidance=asked.guidance)


def _words(host: FlowHost | UNetHost, asked: Request) -> tuple[Any, Any]:
    """Positions of the objects' words in both prompts, where these stand for the grounding."""
    if not isinstance(host, FlowHost) or not asked.masked:
        return (), None
    if unnamed := [number for number, blob in enumerate(asked.source) if not blob.name]:
        raise ValueError(f"masked=True masks by words, and object {unnamed[0]} has none; give word=, or masked=False")
    find = [
        [word_tokens(host.pipe, text, blob.name, asked.text_tokens) for blob in asked.source]
        for text in (asked.prompt, asked.target_prompt)
    ]
    return tuple(tuple(tuple(tokens) for tokens in each) for each in find)  # type: ignore[return-value]


def _clean(host: FlowHost | UNetHost, asked: Request) -> Any:
    return None if asked.picture is None else host.encode(asked.picture)


def _guidance(pipe: Any) -> float:
    return next((GUIDANCE[cls.__name__] for cls in type(pipe).__mro__ if cls.__name__ in GUIDANCE), OF_UNETS)
