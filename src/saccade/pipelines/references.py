"""Several reference pictures, of any sizes, for a pipeline whose call takes one: FLUX.1 Kontext.

Their tokens follow those of the picture, each beginning anew at (0, 0) with 1 on the first axis, as the one does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal
from warnings import warn

import torch
from torch import Tensor

from saccade.metrics.fidelity import Picture

PIPELINE = "FluxKontextPipeline"
ReferenceSize = Literal["native", "preferred"] | int


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A picture (1 h w 3) in [0, 1], and the factor on its latents.

    size  "native" keeps its pixels, "preferred" takes the nearest of the sizes Kontext was trained on, a number that
          many pixels in all; sides are rounded down to whole tokens
    Raises ValueError for options out of range.
    """

    picture: Picture
    strength: float = 1.0
    size: ReferenceSize = "native"

    def __post_init__(self) -> None:
        if self.size not in ("native", "preferred") and not (isinstance(self.size, int) and self.size > 0):
            raise ValueError(f"size={self.size!r} must be 'native', 'preferred', or a number of pixels in all")

    def sides(self, side: int) -> tuple[int, int]:
        """(height, width) it is shown in, with tokens of `side` pixels; a native size that changes is warned of.

        Raises ValueError for a picture smaller than a token.
        """
        height, width = self.picture.shape[1:3]
        if self.size == "preferred":
            wanted = _preferred(height, width)
        else:
            scale = 1.0 if self.size == "native" else sqrt(self.size / (height * width))
            wanted = int(height * scale + 1e-6), int(width * scale + 1e-6)
        shown = wanted[0] // side * side, wanted[1] // side * side
        if 0 in shown:
            raise ValueError(f"a reference of {height} x {width} pixels is smaller than a token of {side}; enlarge it")
        if self.size == "native" and shown != (height, width):
            warn(f"a reference of {height} x {width} pixels is rounded down to {shown[0]} x {shown[1]}", stacklevel=2)
        return shown


@contextmanager
def reference_pictures(pipe: Any, references: Sequence[Reference]) -> Iterator[None]:
    """While it lasts, calls of this very pipeline, made without `image`, see these pictures.

    Raises ValueError for a pipeline that takes no reference picture.
    """
    if not references:
        yield
        return
    if PIPELINE not in {cls.__name__ for cls in type(pipe).__mro__}:
        raise ValueError(f"pipe={type(pipe).__name__} takes no reference pictures; give a {PIPELINE}, or texts alone")
    own, before = "prepare_latents" in vars(pipe), pipe.prepare_latents
    pipe.prepare_latents = _with_references(pipe, before, references)
    try:
        yield
    finally:
        if own:
            pipe.prepare_latents = before
        else:
            del pipe.prepare_latents


def _with_references(pipe: Any, prepare: Any, references: Sequence[Reference]) -> Any:
    """The pipeline's own preparation, once for the picture and once for each reference."""
    side = 2 * pipe.vae_scale_factor
    pixels = [pipe.image_processor.preprocess(r.picture, *r.sides(side)) for r in references]

    def prepared(image: Any, *sizes: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if image is not None:
            raise ValueError("image= is a second way to give reference pictures; leave it out")
        *sizes_and_places, _ = sizes  # the last are the latents, given or to be drawn
        start, _, ids, _ = prepare(None, *sizes)
        shown = [prepare(picture, *sizes_and_places, start) for picture in pixels]
        tokens = [r.strength * made[1] for r, made in zip(references, shown, strict=True)]
        return start, torch.cat(tokens, dim=1), ids, torch.cat([made[3] for made in shown])

    return prepared


def _preferred(height: int, width: int) -> tuple[int, int]:
    from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS as SIZES

    _, wide, high = min((abs(width / height - w / h), w, h) for w, h in SIZES)
    return high, wide
