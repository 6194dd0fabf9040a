"""What an edit is made of: passes of a pipeline over the model, counted, and what comes out of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from saccade.core.mechanism import System
from saccade.core.site import Where
from saccade.core.state import Tape
from saccade.data.rgb import as_picture
from saccade.edit.record import Record
from saccade.metrics.fidelity import Picture
from saccade.pipelines.flow import Flow

Progress = Callable[[int, int, str], None]  # (model calls done, in all, what runs now)
Grid = Bool[Tensor, "h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Edited:
    """An edit. Pictures are (1 h w 3) in [0, 1].

    before, after    the source and its edit
    rebuilt          the source as the edit's own pass drew it: what `after` was kept close to
    mask             image tokens that were edited, None for all
    heat             for each word, how much image tokens attend to it in the source
    source, target   prompts
    start            latent from which both were drawn
    record           what was done, in all rounds; `record.save(path)` keeps it, `replay` makes it again
    tape             operands of the edit, for another round; None unless kept
    """

    before: Picture
    after: Picture
    rebuilt: Picture
    mask: Grid | None
    heat: Mapping[str, Float[Tensor, "h w"]]
    source: str
    target: str
    start: Float[Tensor, "1 ..."]
    record: Record
    tape: Tape | None = None

    @property
    def changed(self) -> Bool[np.ndarray, "h w"]:
        """The mask in pixels of the pictures."""
        height, width = self.before.shape[1:3]
        if self.mask is None:
            return np.ones((height, width), bool)
        rows, columns = self.mask.shape
        return np.kron(self.mask.cpu().numpy(), np.ones((height // rows, width // columns), bool))


Source = str | Image.Image | np.ndarray | Edited


@dataclass(kw_only=True, eq=False)
class Passes:
    """Calls of the pipeline with one setting."""

    flow: Flow
    steps: int
    guidance: float | None
    watch: Where
    where: Where
    progress: Progress | None
    record: Callable[[Picture, Picture], Record]  # of source and result
    systems: tuple[System, ...] = ()  # that the edit's own pass runs with as well
    smooth: int = 1  # side of the square over which maps of words are averaged
    done: int = 0
    total: int = 0

    def draw(
        self, prompts: list[str], start: Tensor, what: str, *, output: str = "np", until: int | None = None
    ) -> Any:
        """All prompts from the same latent; the pipeline is interrupted after `until` steps."""

        def ended(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            self.tell(what)
            if until is not None:
                pipe._interrupt = step + 1 >= until
            return tensors

        flow, pipe = self.flow, self.flow.pipe
        sizes = {"height": flow.height, "width": flow.width, "num_inference_steps": self.steps}
        options = {"guidance_scale": self.guidance, "max_sequence_length": flow.text_tokens}
        return pipe(
            prompt=prompts,
            latents=start.expand(len(prompts), *start.shape[1:]).clone(),
            output_type=output,
            callback_on_step_end=ended,
            **sizes,
            **{name: value for name, value in options.items() if value is not None},
        )

    def tell(self, what: str) -> None:
        """One more call of the model is over."""
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total, what)


def open_flow(pipe: Any, source: Source, height: int | None, width: int | None, text_tokens: int | None) -> Flow:
    """The pipeline for the source's size, or the one asked for.

    Raises ValueError for another size than a picture has.
    """
    if isinstance(source, Edited):
        sizes = source.before.shape[1:3]
    elif isinstance(source, str):
        own = getattr(pipe, "default_sample_size", 0) * getattr(pipe, "vae_scale_factor", 0)
        sizes = (height or own, width or own)
    else:
        sizes = as_picture(source).shape[1:3]
    for name, asked, has in (("height", height, sizes[0]), ("width", width, sizes[1])):
        if asked not in (None, has):
            raise ValueError(f"{name}={asked} is not the source's {has} pixels; resize the source, or leave {name} out")
    return Flow(pipe=pipe, height=sizes[0], width=sizes[1], text_tokens=text_tokens)
