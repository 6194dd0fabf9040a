"""A drag as it was asked for: sources and places in all their forms, and objects that are still to be found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saccade.core.checks import check_numbers
from saccade.core.mechanism import System
from saccade.data.rgb import as_picture
from saccade.drag.drawing import Counted, Dragged, clean_of, draw, guidance_of, host_of, words_of
from saccade.drag.finding import find_objects
from saccade.drag.request import Request, as_place, as_target
from saccade.mechanisms.canvas import Size
from saccade.metrics.fidelity import Picture
from saccade.papers.diffuhaul.blobs import Blob
from saccade.papers.diffuhaul.flow_host import FlowHost
from saccade.papers.diffuhaul.unet_host import UNetHost
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.systems.word_map import HEARING
from saccade.ui.progress import ProgressCallback

STEPS = 50
STAND_IN = Blob(x=0.5, y=0.5, a=0.1, b=0.1)  # for objects that are still to be found, while all else is checked


@dataclass(frozen=True, kw_only=True, eq=False)
class Wish:
    """What was asked of an opened pipeline, before it is known where all objects are.

    options   of the request, by name
    settings  sizes, steps, and how words are found, where they are given
    Raises ValueError for a threshold that is none.
    """

    pipe: Any
    picture: Picture | None
    prompt: str
    target_prompt: str
    to: Any
    options: Mapping[str, Any]
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        threshold = self.settings.get("threshold", 0.0)
        check_numbers(threshold=threshold)
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold={threshold} must be in [0, 1), a share of the highest attention")

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
            options["guidance"] = guidance_of(self.pipe)
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
        host, missing = host_of(self.pipe, asked), [name for name, blob in objects.items() if blob is None]
        words_of(host, asked)
        stepped = Counted(progress, asked.steps * (2 if missing else 1))
        if missing:
            found = self._found(host, asked, missing, stepped)
            asked = self.request({name: blob or found[name] for name, blob in objects.items()})
        return draw(host, asked, systems, stepped)

    def _found(
        self, host: FlowHost | UNetHost, asked: Request, missing: Sequence[str], stepped: Counted
    ) -> dict[str, Blob]:
        if not isinstance(host, FlowHost):
            raise ValueError(f"object='{missing[0]}' is not found by words in a U-Net; give its box and word=")
        limits = {"threshold": self.settings.get("threshold", 0.1), "watch": self.settings.get("watch", HEARING)}
        with no_progress_bar(self.pipe):
            clean, noise = clean_of(host, asked), host.start(asked.seed)
            return find_objects(host, self.prompt, missing, clean, noise, stepped=stepped, **limits)


def as_source(source: Any, prompt: str | None) -> tuple[Picture | None, str]:
    """A picture, None where it is to be drawn, and its prompt. Raises ValueError for none or two of those."""
    if isinstance(source, str):
        if prompt is not None:
            raise ValueError(
                f"prompt='{prompt}' belongs to a picture, and source is a prompt already; give one of them"
            )
        return None, source
    if prompt is None:
        raise ValueError("prompt=None says nothing of the picture; describe it, as prompt='a red circle on white'")
    return as_picture(source), prompt


def as_objects(object: Any, word: str | None, others: Mapping[str, Any], size: Size) -> dict[str, Blob | None]:
    """All objects by their words, the dragged one first; None for those that are still to be found.

    Raises ValueError where one is named twice.
    """
    if not isinstance(word, str | None):
        raise ValueError(f"word={word!r:.60} must be words of the prompt")
    if isinstance(object, str) and word is not None:
        raise ValueError(f"object='{object}' are words already; leave word='{word}' out, or give the object's place")
    name = object if isinstance(object, str) else word or getattr(object, "name", "")
    first = {name: None if isinstance(object, str) else as_place(object, size, name)}
    if name in others:
        raise ValueError(f"others names '{name}', which is dragged; leave it out")
    return {**first, **{one: None if at is None else as_place(at, size, one) for one, at in others.items()}}
