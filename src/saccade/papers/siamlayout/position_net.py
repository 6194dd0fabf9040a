"""Boxes and their texts as layout tokens.

code = (sin(f_k c), cos(f_k c)),  f_k = 100^(k / 8),  frequencies outermost, coordinates innermost
token = W2 silu(W1 [text', code'])      where ' puts a learned null in the place of what is not used
"""

import torch
from diffusers.models.embeddings import PixArtAlphaTextProjection
from jaxtyping import Bool, Float
from torch import Tensor, nn

FREQUENCIES = 8
CODE = 4 * 2 * FREQUENCIES  # numbers that stand for a box


def box_code(boxes: Float[Tensor, "b n 4"]) -> Float[Tensor, "b n 64"]:
    """Fourier features of the corners, without a factor of 2 pi; in [-1, 1]."""
    powers = torch.arange(FREQUENCIES, device=boxes.device, dtype=boxes.dtype) / FREQUENCIES
    angles = 100 ** powers[:, None] * boxes[..., None, :]
    return torch.stack((angles.sin(), angles.cos()), dim=-2).flatten(-3)


class PositionNet(nn.Module):
    """One layout token for each slot, or for each word of each slot.

    text_width  of the vector of a caption, which is projected first; None where texts are words of `dim` channels
    """

    def __init__(self, dim: int, text_width: int | None) -> None:
        super().__init__()
        self.text_embedder = None if text_width is None else PixArtAlphaTextProjection(text_width, dim, dim, "silu")
        self.mlp = PixArtAlphaTextProjection(dim + CODE, dim // 2, dim, "silu")
        self.null_text = nn.Parameter(torch.zeros(dim))
        self.null_box = nn.Parameter(torch.zeros(CODE))

    def forward(
        self, boxes: Float[Tensor, "b n 4"], mask: Bool[Tensor, "b n"], text: Float[Tensor, "b n *w c"]
    ) -> Float[Tensor, "b m d"]:
        """Tokens in the order of the slots, the words of a slot one after the other."""
        text = text if self.text_embedder is None else self.text_embedder(text)
        words = text if text.ndim == 4 else text[:, :, None]
        used = mask[:, :, None, None]
        code = box_code(boxes.to(text.dtype))[:, :, None].expand(-1, -1, words.shape[2], -1)
        both = torch.where(used, words, self.null_text), torch.where(used, code, self.null_box)
        return self.mlp(torch.cat(both, dim=-1)).flatten(1, 2)
