"""A DC-DiT made from a trained DiT, and a loss that teaches it to do in its blocks what the DiT does.

Its blocks, time and label embeddings are the DiT's, the embeddings frozen; a trained LayerNorm stands before what the
convolutions receive. Kept tokens stand on pixels, the DiT's on patches: the position table is the DiT's, read at the
places of pixels between the middles of patches. For the loss, kept tokens are plugged back to all pixels and averaged
over patches; that alignment is ours, since the paper does not state one.

Source: Haridas et al., DC-DiT, first version (2026).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models.dit import DiT
from saccade.nn.packing import unpack
from saccade.nn.part import to_map, to_tokens
from saccade.nn.positions import grid_table
from saccade.papers.dc_dit.chunk_stage import ChunkStage, MainNetwork
from saccade.papers.dc_dit.chunking import Chunk, kept
from saccade.papers.dc_dit.dechunking import nearest_cell
from saccade.papers.dc_dit.model import DCDiT, DCDiTConfig


def upcycled(teacher: DiT, **changes: object) -> DCDiT:
    """A DC-DiT with the weights of `teacher` wherever it has the same parts; the rest is fresh, its answer 0.

    `changes`: options of DCDiTConfig. Raises ValueError where the teacher's positions are not the usual table.
    """
    c = teacher.config
    if c.positions != "sincos":
        raise ValueError(f"positions='{c.positions}' of the teacher cannot be read between patches; it needs 'sincos'")
    shared = ("width", "heads", "side", "channels", "classes", "mixer", "ffn", "modulation", "learned_variance")
    options = {name: getattr(c, name) for name in (*shared, "time_scale")}
    layout = ("c2", (f"D{c.depth}",), "c2")
    model = DCDiT(DCDiTConfig(**{"layout": layout, "condition_norm": True, **options, **changes}))  # type: ignore[arg-type]
    main = main_network(model)
    for ours, theirs in ((model.time, teacher.time), (model.label, teacher.label)):
        ours.load_state_dict(theirs.state_dict())
        ours.requires_grad_(False)
    main.blocks.load_state_dict(teacher.blocks.state_dict())
    main.shared.load_state_dict(teacher.shared.state_dict())
    start = (1 / c.patch - 1) / 2  # the first pixel's middle, in patches from the middle of the first
    main.positions.copy_(grid_table(main.grid, c.width, scale=1 / c.patch, start=(start, start)))
    return model


def distillation_loss(
    student: DCDiT, teacher: DiT, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], labels: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Mean square between the outputs of the teacher's blocks and the student's, plugged back and averaged by patch.

    The gradient reaches the student's blocks and its encoder; the router, whose choice has none, learns nothing here.
    Raises ValueError where there are not as many blocks on both sides.
    """
    main = main_network(student)
    if len(main.blocks) != len(teacher.blocks):
        counts = f"{len(main.blocks)} blocks, the teacher {len(teacher.blocks)}"
        raise ValueError(f"the student has {counts}; make it from the teacher by upcycled")
    with torch.no_grad(), _outputs(teacher.blocks) as wanted:
        teacher(x, t, labels)
    with _outputs(main.blocks) as found, _outputs([student.stage.router]) as routings:
        student(x, t, labels)
    chunk = Chunk.of(kept(routings[0]))
    nearest = nearest_cell(chunk, student.grid)[..., None]

    def pooled(packed: Tensor) -> Tensor:
        plugged = unpack(packed, chunk.there).gather(1, nearest.expand(-1, -1, packed.shape[-1]))
        return to_tokens(F.avg_pool2d(to_map(plugged, student.grid), teacher.config.patch))

    pairs = zip(found, wanted, strict=True)
    return torch.stack([(pooled(ours.out) - theirs.out).square().mean() for ours, theirs in pairs]).mean()


def main_network(model: DCDiT) -> MainNetwork:
    """The DiT blocks of a model without stages inside others.

    Raises ValueError for a model with such stages.
    """
    inner = model.stage.inner
    if isinstance(inner, ChunkStage):
        raise ValueError(f"layout={model.config.layout} has stages inside others; a DiT has none")
    assert isinstance(inner, MainNetwork)
    return inner


@contextmanager
def _outputs(modules: nn.ModuleList | list[nn.Module]) -> Iterator[list]:
    """What each of `modules` answers meanwhile, in order of calls."""
    found: list = []
    handles = [module.register_forward_hook(lambda _, __, out: found.append(out)) for module in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
