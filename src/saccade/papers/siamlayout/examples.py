"""Pictures with boxes as an adapter is trained on them: latents, texts and layouts, encoded once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.mechanisms.canvas import Box
from saccade.papers.siamlayout.boxes import CaptionedBox, LayoutBatch
from saccade.papers.siamlayout.encoding import encode_layout
from saccade.pipelines.flow import Flow

AT_ONCE = 64  # pictures or captions that are encoded together
SHARED = ("img_ids", "txt_ids")  # arguments that have no row for each picture


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """One row a picture; row 0 of the texts is the empty caption.

    latents  as the transformer takes them
    inside   how much of each latent lies within a box, like `latents` but with one channel
    texts    arguments of the transformer by row, `shared` the others
    """

    latents: Float[Tensor, "p ..."]
    inside: Float[Tensor, "p ..."]
    layout: LayoutBatch
    texts: Mapping[str, Tensor]
    shared: Mapping[str, Tensor]

    @classmethod
    def of(
        cls,
        pipe: Any,
        pictures: Float[np.ndarray, "p h w 3"],
        captions: Sequence[str],
        layouts: Sequence[Sequence[CaptionedBox]],
        *,
        text_tokens: int | None = None,
        **encoding: int,
    ) -> Self:
        """Encode pictures in [0, 1] with their captions and boxes; `encoding` are options of `encode_layout`.

        Raises ValueError for other numbers of each, and as `Flow` and `encode_layout` do.
        """
        if not len(pictures) == len(captions) == len(layouts):
            counts = f"{len(pictures)} pictures, {len(captions)} captions and {len(layouts)} layouts"
            raise ValueError(f"{counts} must be as many; give a caption and boxes for each picture")
        flow = Flow(pipe=pipe, height=pictures.shape[1], width=pictures.shape[2], text_tokens=text_tokens)
        parts = [flow.encode(pictures[i : i + AT_ONCE]) for i in range(0, len(pictures), AT_ONCE)]
        texts, shared = _texts(flow, ["", *captions])
        latents = torch.cat(parts)
        return cls(
            latents=latents, inside=torch.stack([within(boxes, flow, latents) for boxes in layouts]),
            layout=encode_layout(pipe, layouts, **encoding), texts=texts, shared=shared,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.latents)


@torch.no_grad()
def _texts(flow: Flow, captions: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Arguments by row, and those that all share."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(captions), AT_ONCE):
        some = captions[start : start + AT_ONCE]
        found.append({k: v for k, v in flow.arguments(some, [1.0] * len(some)).items() if v is not None})
    rows = {name: torch.cat([part[name] for part in found]).float() for name in found[0] if name not in SHARED}
    return rows, {name: found[0][name].float() for name in SHARED if name in found[0]}


def within(boxes: Sequence[CaptionedBox], flow: Flow, latents: Tensor) -> Float[Tensor, "..."]:
    """Share of each latent, or packed token, that lies in any box."""
    packed = latents.ndim == 3
    size = (2 * flow.grid[0], 2 * flow.grid[1]) if packed else (latents.shape[2], latents.shape[3])
    cells = torch.zeros(size)
    for each in boxes:
        x0, y0, x1, y1 = each.box
        cells = cells.maximum(Box(x0=x0, y0=y0, x1=x1, y1=y1).on_cells(size))
    return F.avg_pool2d(cells[None, None], 2).flatten()[:, None] if packed else cells[None]
