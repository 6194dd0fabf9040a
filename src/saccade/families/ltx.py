"""LTX-Video: self-attention over the video, cross-attention to padded text; heads differ in their rotary table.

Where a pipeline gives the tokens' places, as that with conditions does, grids are read from them: pictures to go by
come first, then the video.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from saccade.core.layout import Grid, Layout, Segment
from saccade.core.site import Site
from saccade.core.snapshot import Snapshot
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, project_flat
from saccade.seam.routes import diffusers_routes

ACROSS_HEADS = (
    "its rotary table runs on from head to head, each of other frequencies; edit q and k as they come, rotated"
)
_SEEN = WeakTensorKeyDictionary()  # video_coords -> what they held and their layout: spares a device wait per step


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    places = inputs.get("video_coords")
    video = _given(inputs) if places is None else _seen(places)
    return apart_layouts(video, inputs["encoder_hidden_states"].shape[1], site)


def _given(inputs: Inputs) -> Layout:
    return Layout.image_only((inputs["num_frames"], inputs["height"], inputs["width"]))


def _seen(places: Tensor) -> Layout:
    """The layout of tokens at places (b 3 n), read again where these changed."""
    if places not in _SEEN or not _SEEN[places][0].holds(places):
        _SEEN[places] = Snapshot.of(places), _read(places[0].T.cpu())
    return _SEEN[places][1]


def _read(places: Tensor) -> Layout:
    """Tokens at places (n 3), cut where time goes back: the last run is the video, those before are references."""
    starts = (places[1:, 0] < places[:-1, 0]).nonzero()[:, 0] + 1
    *references, video = places.tensor_split(starts)
    segments = [Segment(f"reference{i}", "extra", len(r), _grid(r)) for i, r in enumerate(references, start=1)]
    return Layout((*segments, Segment("image", "image", len(video), _grid(video))))


def _grid(places: Tensor) -> Grid | None:
    """The sides (t, h, w) of a raster, whatever lies between its rows; None for tokens that are none."""
    numbers = torch.stack([axis.unique(return_inverse=True)[1] for axis in places.unbind(1)], dim=1)
    t, h, w = (numbers.amax(0) + 1).tolist()
    raster = torch.cartesian_prod(*(torch.arange(side) for side in (t, h, w)))
    return (t, h, w) if torch.equal(numbers, raster) else None


def _enter(block: Any, site: Site, tokens: Tensor, condition: Tensor) -> Tensor:
    """`condition` is (b n 6c), of one token or of each."""
    table = block.scale_shift_table
    shift, scale = (table.to(condition.device) + condition.unflatten(-1, table.shape)).unbind(2)[:2]
    return block.norm1(tokens) * (1 + scale) + shift


LTX = Family(
    name="LTX-Video",
    classes=("LTXVideoTransformer3DModel",),
    sites={"transformer_blocks.*.attn1": "self", "transformer_blocks.*.attn2": "cross"},
    layout=_layout,
    routes=diffusers_routes,
    text="apart",
    grid="video",
    shared=("rope_interpolation_scale",),
    padding="encoder_attention_mask",
    project=project_flat,
    enter=_enter,
    unsupported={"rotary": ACROSS_HEADS, "raw": ACROSS_HEADS},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
