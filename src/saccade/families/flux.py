"""FLUX: text first, then the image; the grid is read from `img_ids`, which the host turns its rotary table from."""

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

_SEEN = WeakTensorKeyDictionary()  # img_ids -> what they held and its segments: spares a device wait per step


def _layout(model: nn.Module, inputs: Inputs, site: Site) -> Layouts:
    ids = inputs["img_ids"]
    if ids not in _SEEN or not _SEEN[ids][0].holds(ids):
        _SEEN[ids] = Snapshot.of(ids), _segments(_flat(ids).cpu())
    segments = _SEEN[ids][1]
    return joint_layouts(Layout((Segment("text", "text", inputs["encoder_hidden_states"].shape[1]), *segments)))


def _segments(ids: Tensor) -> tuple[Segment, ...]:
    """The image, then reference pictures (another number on the first axis, or their places begin anew), as grids."""
    runs = torch.unique_consecutive(ids[:, 0], return_counts=True)[1].tolist()
    parts = [picture for run in ids.split(runs) for picture in _pictures(run)]
    names = ["image", *(f"reference{i}" for i in range(1, len(parts)))]
    return tuple(
        Segment(name, "image" if name == "image" else "extra", len(part), _grid(part))
        for name, part in zip(names, parts, strict=True)
    )


def _pictures(run: Tensor) -> tuple[Tensor, ...]:
    """A run of one number, cut where its first place comes again, if whole grids come of it."""
    starts = (run[:, 1:] == run[0, 1:]).all(1).nonzero()[:, 0].cpu()
    parts = run.tensor_split(starts[1:])
    return parts if all(_grid(part) for part in parts) else (run,)


def _grid(ids: Tensor) -> Grid | None:
    places = (ids[:, 1:] - ids[:, 1:].amin(0)).long()
    height, width = (places.amax(0) + 1).tolist()
    raster = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    return (1, height, width) if torch.equal(places, raster) else None


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    ids = torch.cat((_flat(inputs["txt_ids"]), _flat(inputs["img_ids"]))).float()
    return Rotary(ids=ids, theta=model.pos_embed.theta, axes_dim=tuple(model.pos_embed.axes_dim))


def _enter(block: Any, site: Site, tokens: Tensor, condition: Tensor) -> Tensor:
    norm = block.norm if hasattr(block, "norm") else block.norm1
    return norm(tokens, emb=condition)[0]


def _flat(ids: Tensor) -> Tensor:
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
