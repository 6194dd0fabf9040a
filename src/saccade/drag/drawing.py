"""The model that a drag is drawn with, and the drawing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saccade.core.mechanism import System
from saccade.drag.record import Record
from saccade.drag.request import Request
from saccade.metrics.fidelity import Picture
from saccade.papers.diffuhaul.blobs import Blob
from saccade.papers.diffuhaul.flow_host import FlowHost
from saccade.papers.diffuhaul.trajectory import Drag, haul_generated, haul_photo
from saccade.papers.diffuhaul.unet_host import UNetHost
from saccade.pipelines.flow import Flow
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.pipelines.records import digest, made_by
from saccade.pipelines.words import word_tokens
from saccade.ui.progress import ProgressCallback

GUIDANCE = {"FluxPipeline": 3.5, "StableDiffusion3Pipeline": 7.0}
OF_UNETS = 7.5


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


@dataclass(eq=False)
class Counted:
    """Steps that are done."""

    progress: ProgressCallback | None
    total: int
    done: int = 0

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total, "drag")


def draw(host: FlowHost | UNetHost, asked: Request, systems: Sequence[System], stepped: Counted) -> Dragged:
    words, theirs = words_of(host, asked)
    how = Drag(
        system=asked.system(words, theirs), prompts=((asked.prompt,), (asked.target_prompt,)), blend=asked.blend,
        dilation=asked.dilation, buckets=asked.buckets, fresh_noise=asked.fresh_noise,
    )  # fmt: skip
    with no_progress_bar(host.pipe):
        clean, noise = clean_of(host, asked), host.start(asked.seed)
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


def host_of(pipe: Any, asked: Request) -> FlowHost | UNetHost:
    """Raises ValueError for a pipeline that is not known, and for sizes that are not its own."""
    if hasattr(pipe, "unet"):
        return UNetHost(pipe=pipe, height=asked.height, width=asked.width, steps=asked.steps, guidance=asked.guidance)
    flow = Flow(pipe=pipe, height=asked.height, width=asked.width, text_tokens=asked.text_tokens)
    return FlowHost(flow=flow, steps=asked.steps, guidance=asked.guidance)


def words_of(host: FlowHost | UNetHost, asked: Request) -> tuple[Any, Any]:
    """Positions of the objects' words in both prompts, where these stand for the grounding.

    Raises ValueError for an object without words, and for words that are not in a prompt.
    """
    if not isinstance(host, FlowHost) or not asked.masked:
        return (), None
    if unnamed := [number for number, blob in enumerate(asked.source) if not blob.name]:
        raise ValueError(f"masked=True masks by words, and object {unnamed[0]} has none; give word=, or masked=False")
    find = [
        [word_tokens(host.pipe, text, blob.name, asked.text_tokens) for blob in asked.source]
        for text in (asked.prompt, asked.target_prompt)
    ]
    return tuple(tuple(tuple(tokens) for tokens in each) for each in find)  # type: ignore[return-value]


def clean_of(host: FlowHost | UNetHost, asked: Request) -> Tensor | None:
    """Latents of the picture, None where it is to be drawn."""
    return None if asked.picture is None else host.encode(asked.picture)


def guidance_of(pipe: Any) -> float:
    """The scale that a pipeline draws with by itself."""
    return next((GUIDANCE[cls.__name__] for cls in type(pipe).__mro__ if cls.__name__ in GUIDANCE), OF_UNETS)
