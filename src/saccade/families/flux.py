"""FLUX: text first, then the image; the grid is read from `img_ids`, which the host turns its rotary table from."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from saccade.core.layout import Grid, Layout, Segment
from saccade.core.site import Site
from saccade.core.snapshot import Snapshot
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, project_heads
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes

_SEEN = WeakTensorKeyDictionary()  # ids -> what they held and their pictures: spares a device wait per step


def _layout(model: nn.Module, inputs: Inputs, site: Site) -> Layouts:
    text = Segment("text", "text", inputs["encoder_hidden_states"].shape[1])
    return joint_layouts(Layout((text, *picture_segments(inputs["img_ids"]))))


def picture_segments(*ids: Tensor, skip: int = 0) -> tuple[Segment, ...]:
    """The image, then reference pictures, as grids, from the places (n a) of tokens after the first `skip`.

    A picture has its own number on the first axis, or its places begin anew; rows and columns are the next two axes.
    """
    return named_pictures([part for given in ids for part in _seen(given, skip)])


def named_pictures(parts: Sequence[tuple[int, Grid | None]]) -> tuple[Segment, ...]:
    """The image, then reference pictures, by the number of their tokens and their grids."""
    return tuple(
        Segment(f"reference{i}" if i else "image", "extra" if i else "image", *part) for i, part in enumerate(parts)
    )


def _seen(ids: Tensor, skip: int) -> tuple[tuple[int, Grid | None], ...]:
    """Size and grid of every picture, read again where `ids` changed."""
    known = _SEEN.get(ids)
    if known is None or known[1] != skip or not known[0].holds(ids):
        _SEEN[ids] = known = Snapshot.of(ids), skip, tuple(_parts(flat(ids).cpu()[skip:]))
    return known[2]


def _parts(ids: Tensor) -> Iterator[tuple[int, Grid | None]]:
    runs = torch.unique_consecutive(ids[:, 0], return_counts=True)[1].tolist()
    yield from ((len(part), _grid(part)) for run in ids.split(runs) for part in _pictures(run))


def _pictures(run: Tensor) -> tuple[Tensor, ...]:
    """A run of one number, cut where its first place comes again, if whole grids come of it."""
    starts = (run[:, 1:] == run[0, 1:]).all(1).nonzero()[:, 0].cpu()
    parts = run.tensor_split(starts[1:])
    return parts if all(_grid(part) for part in parts) else (run,)


def _grid(ids: Tensor) -> Grid | None:
    places = (ids[:, 1:3] - ids[:, 1:3].amin(0)).long()
    height, width = (places.amax(0) + 1).tolist()
    raster = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    return (1, height, width) if torch.equal(places, raster) else None


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    ids = torch.cat((flat(inputs["txt_ids"]), flat(inputs["img_ids"]))).float()
    return Rotary(ids=ids, theta=model.pos_embed.theta, axes_dim=tuple(model.pos_embed.axes_dim))


def _enter(block: Any, site: Site, tokens: Tensor, condition: Tensor) -> Tensor:
    norm = block.norm if hasattr(block, "norm") else block.norm1
    return norm(tokens, emb=condition)[0]


def flat(ids: Tensor) -> Tensor:
    """Places (n a), of the first batch row where each has its own."""
    return ids[0] if ids.ndim == 3 else ids


FLUX = Family(
    name="FLUX",
    classes=("FluxTransformer2DModel",),
    sites={"transformer_blocks.*.attn": "joint", "single_transformer_blocks.*.attn": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    shared=("img_ids", "txt_ids"),
    rotary=_rotary,
    project=project_heads,
    enter=_enter,
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    time_scale=1000,
)
