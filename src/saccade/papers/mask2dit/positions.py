"""Places of n scenes: one continuous grid. Rotary tables have it by themselves; tables that are added are stretched.

The table of one clip is stretched n times along time by trilinear interpolation, that of one caption linearly. It is
not repeated, so no scene begins anew.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int, int]  # latent frames, rows, columns


def stretched(table: Float[Tensor, "1 n c"], *, text: int, clip: Size, scenes: int) -> Float[Tensor, "1 m c"]:
    """A table of `text` tokens and a clip as one of n texts and n clips.

    Raises ValueError for a table of other tokens, and for fewer than one scene.
    """
    frames, rows, columns = clip
    if scenes < 1 or table.shape[1] != text + frames * rows * columns:
        raise ValueError(
            f"a table of {table.shape[1]} places is none of {text} text tokens and {clip}, scenes={scenes}"
        )
    words, video = table.float().split((text, frames * rows * columns), dim=1)
    if text:
        words = F.interpolate(words.transpose(1, 2), size=scenes * text, mode="linear").transpose(1, 2)
    grid = video.unflatten(1, clip).movedim(-1, 1)
    grid = F.interpolate(grid, size=(scenes * frames, rows, columns), mode="trilinear")
    return torch.cat((words, grid.movedim(1, -1).flatten(1, 3)), dim=1).to(table.dtype)


@contextmanager
def stretched_positions(transformer: Any, scenes: int) -> Iterator[None]:
    """Let a CogVideoX that adds a table of places take n scenes; one with rotary tables alone is left as it is.

    Raises ValueError for another model; in a forward, for frames that are no n clips.
    """
    embed = getattr(transformer, "patch_embed", None)
    if not hasattr(embed, "use_positional_embeddings"):
        raise ValueError(
            f"{type(transformer).__name__} adds no table of places as CogVideoX does; its own is continuous"
        )
    assert embed is not None
    if not (embed.use_positional_embeddings or embed.use_learned_positional_embeddings):
        yield
        return
    own, frames_of_table = embed._get_positional_embeddings, embed.sample_frames

    def table(height: int, width: int, frames: int, device: Any = None) -> Tensor:
        latent = (frames - 1) // embed.temporal_compression_ratio + 1
        if latent % scenes:
            raise ValueError(f"{latent} latent frames are no scenes={scenes} of one length")
        clip = latent // scenes, height // embed.patch_size, width // embed.patch_size
        learned, length = embed.use_learned_positional_embeddings, (clip[0] - 1) * embed.temporal_compression_ratio + 1
        one = embed.pos_embedding if learned else own(height, width, length, device)
        return stretched(one.to(device), text=embed.max_text_seq_length, clip=clip, scenes=scenes)

    embed._get_positional_embeddings, embed.sample_frames = table, 0  # of no length, so that the table is asked for
    try:
        yield
    finally:
        del embed._get_positional_embeddings
        embed.sample_frames = frames_of_table
