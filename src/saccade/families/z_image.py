"""Z-Image: the image, then its caption; each is padded to a multiple of 32 by learned tokens, which the host sees.

Rows come as lists. Captions of rows may differ in length, then the host masks what fills a row up; where a row holds
references (omni) its captions come first, and all rows must be alike.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, project_heads, runs_guidance
from saccade.seam.routes import diffusers_routes

MULTIPLE = 32
BY_ROW = "places begin where the text of a row ends, so rows may differ; edit q and k as they come, rotated"
ALONE = "reads words or features alone, before they meet the image"


def _control_layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    if model.add_control_noise_refiner == "control_layers":
        raise ValueError(
            "control_layers run over the picture alone, then with its caption, in one forward of this control net, "
            "which has no one layout; attach its transformer instead"
        )
    return _layout(model, inputs, site)


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    rows = [list(_row(i, inputs, site)) for i in range(len(inputs["x"]))]
    if len(counts := {len(row) for row in rows}) > 1:
        raise ValueError(f"rows of this batch hold {sorted(counts)} captions and pictures; run them apart")
    columns = list(zip(*rows, strict=True))
    segments = [segment for column in columns for segment in _padded(column, ragged=column is columns[-1])]
    return joint_layouts(Layout(tuple(segments)))


def _row(i: int, inputs: Inputs, site: Site) -> Iterator[Segment]:
    """What one row holds, in order, before it is padded."""
    pictures, words = _pictures(i, inputs), _words(i, inputs)
    if site.kind == "self":
        return pictures
    return chain(words, pictures, _features(i, inputs)) if isinstance(inputs["x"][i], list) else chain(pictures, words)


def _pictures(i: int, inputs: Inputs) -> Iterator[Segment]:
    """The references of a row, then the image that is denoised; the host makes padding of a reference left out."""
    *references, image = given if isinstance(given := inputs["x"][i], list) else [given]
    for j, reference in enumerate(references):
        name = f"reference{j + 1}"
        yield Segment(name, "padding", MULTIPLE) if reference is None else _grid(name, "extra", reference, inputs)
    yield _grid("image", "image", image, inputs)


def _grid(name: str, kind: Any, picture: Tensor, inputs: Inputs) -> Segment:
    frames, height, width = picture.shape[-3:]
    patch = inputs.get("patch_size", 2)
    grid = (frames // inputs.get("f_patch_size", 1), height // patch, width // patch)
    return Segment(name, kind, grid[0] * grid[1] * grid[2], grid)


def _words(i: int, inputs: Inputs) -> Iterator[Segment]:
    given = inputs["cap_feats"][i]
    for j, caption in enumerate(given if isinstance(given, list) else [given]):
        yield Segment(f"text{j + 1}" if j else "text", "text", len(caption))


def _features(i: int, inputs: Inputs) -> Iterator[Segment]:
    """What a vision encoder says of the pictures of a row."""
    for j, found in enumerate((inputs.get("siglip_feats") or {i: None})[i] or ()):
        n = MULTIPLE if found is None else found.shape[0] * found.shape[1]
        yield Segment(f"features{j + 1}", "padding" if found is None else "extra", n)


def _padded(column: tuple[Segment, ...], ragged: bool) -> tuple[Segment, ...]:
    """A segment of all rows and its padding; ValueError where rows differ in more than the length of what is last."""
    widest = max(column, key=lambda segment: segment.n)
    lengths = {segment.n + -segment.n % MULTIPLE for segment in column}
    if len({(s.kind, s.grid) for s in column}) > 1 or (len(lengths) > 1 and not ragged):
        raise ValueError(
            f"rows of this batch differ in '{widest.name}' ({', '.join(str(s.grid or s.n) for s in column)} tokens), "
            "so what follows stands elsewhere in each; run them apart"
        )
    spare = max(lengths) - widest.n
    return (widest, Segment(f"{widest.name} padding", "padding", spare)) if spare else (widest,)


def _guided(pipe: Any, inputs: Inputs) -> bool | None:
    """Guidance ends where the model's time passes the pipeline's truncation."""
    guided, end = runs_guidance(pipe), getattr(pipe, "_cfg_truncation", None)
    if not guided or end is None or float(end) >= 1:  # times end at 1
        return guided
    return float(inputs["t"][0]) <= float(end)


Z_IMAGE = Family(
    name="Z-Image",
    classes=("ZImageTransformer2DModel",),
    sites={"noise_refiner.*.attention": "self", "layers.*.attention": "joint"},
    left_alone={"context_refiner.*.attention": ALONE, "siglip_refiner.*.attention": ALONE},
    layout=_layout,
    routes=diffusers_routes,
    text="last",
    project=project_heads,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK, "rotary": BY_ROW, "raw": BY_ROW},
    guidance=Guidance(roles=("cond", "uncond"), stacked=True, now=_guided),
    time_name="t",
    time_offset=1000,
    time_scale=-1000,
    main_input="x",
)

Z_IMAGE_CONTROL = replace(
    Z_IMAGE,
    name="Z-Image control net",
    classes=("ZImageControlNetModel",),
    sites={
        "noise_refiner.*.attention": "self",
        "control_noise_refiner.*.attention": "self",
        "control_layers.*.attention": "joint",
    },
    stacks=("noise_refiner", "control_noise_refiner", "control_layers"),
    layout=_control_layout,
)
