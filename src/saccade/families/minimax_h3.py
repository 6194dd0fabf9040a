"""MiniMax-H3: text, references, sound and the video in one sequence, in the order its arguments say.

Runs of one modality are segments. Video tokens are parted into frames by their time, and frames of one size are one
grid: the last is the video, those before are references. Sound has no grid: its channels lie one after the other.
"""

from typing import Any

import torch
from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.cosmos import HALVES
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Inputs, Layouts, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes

SHARED = (
    "timestep", "timestep_indices", "token_tags", "position_ids", "video_indices", "audio_indices", "text_indices"
)  # fmt: skip
KINDS = {"text": "text", "image": "image", "reference": "extra", "sound": "extra"}


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    places = inputs["position_ids"].cpu()
    owner = torch.zeros(len(places), dtype=torch.long)  # 0: video
    for number, name in enumerate(("text", "audio"), start=1):
        owner[inputs[f"{name}_indices"].cpu()] = number
    runs = torch.unique_consecutive(owner, return_counts=True)
    parts: list[tuple[str, int, Any]] = []
    for number, run in zip(runs[0].tolist(), places.split(runs[1].tolist()), strict=True):
        parts += [(("text", "sound")[number - 1], len(run), None)] if number else _videos(run)
    return joint_layouts(Layout(tuple(_named(parts))))


def _videos(places: Tensor) -> list[tuple[str, int, Any]]:
    """Grids of the frames (n 3) of one run: those of one size that follow one another make one."""
    frames = places[:, 1:].split(torch.unique_consecutive(places[:, 0], return_counts=True)[1].tolist())
    sizes = torch.tensor([[len(axis.unique()) for axis in frame.unbind(1)] for frame in frames])
    (sizes, counts) = torch.unique_consecutive(sizes, return_counts=True, dim=0)
    grids = [(t, h, w) for t, (h, w) in zip(counts.tolist(), sizes.tolist(), strict=True)]
    return [("reference", t * h * w, (t, h, w)) for t, h, w in grids]


def _named(parts: list[tuple[str, int, Any]]) -> list[Segment]:
    """Segments by name, a repeated one numbered; the last video is the one that is made."""
    last = max(i for i, (name, _, _) in enumerate(parts) if name == "reference")
    seen: dict[str, int] = {}
    segments = []
    for i, (name, n, grid) in enumerate(parts):
        name = "image" if i == last else name
        seen[name] = seen.get(name, 0) + 1
        own = f"{name}{seen[name]}" if name == "reference" or seen[name] > 1 else name
        segments.append(Segment(own, KINDS[name], n, grid))  # type: ignore[arg-type]
    return segments


MINIMAX_H3 = Family(
    name="MiniMax-H3",
    classes=("MiniMaxH3Transformer3DModel",),
    sites={"transformer_blocks.*.attn": "joint"},
    left_alone={"token_refiner.refiner_blocks.*.attn": "token refiner: text reads text before the joint blocks"},
    layout=_layout,
    routes=diffusers_routes,
    grid="video",
    shared=SHARED,
    project=project_heads,
    unsupported={"rotary": HALVES, "raw": HALVES, "stream": NO_BLOCK, "enter": NO_BLOCK},
)
