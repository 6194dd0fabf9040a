"""A depthwise convolution whose kernels are written by the words of a caption.

    kernels = MLP(words), the last word repeated up to k x k,    out[b, c] = corr2d(x[b, c], kernels[b, :, :, c])

Source: Ai et al., DiCo (2025), its text-to-image variant.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.part import TokenPositions, sides, to_map, to_tokens


class TextConv(nn.Module):
    """Tokens of a picture through a kernel of each caption's own; 77 words of CLIP fill 9 x 9 but for four.

    `text`: channels of a word. `kernel`: side of the kernel, odd; captions of up to kernel^2 words fit.
    Raises ValueError for an even kernel.
    """

    def __init__(self, width: int, text: int, *, kernel: int = 9) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd, such as 9 for 77 words")
        self.kernel = kernel
        self.inner, self.outer = nn.Linear(text, width), nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b n d"], words: Float[Tensor, "b m e"], place: TokenPositions
    ) -> Float[Tensor, "b n d"]:
        grid = sides(place, x.shape[1], "the text convolution")
        return to_tokens(convolve_each(to_map(x, grid), self.kernels(words)))

    def kernels(self, words: Float[Tensor, "b m e"]) -> Float[Tensor, "b k k d"]:
        """One kernel for each caption and channel; word by word, row-major."""
        cells = self.outer(F.gelu(self.inner(padded_words(words, self.kernel**2))))
        return cells.unflatten(1, (self.kernel, self.kernel))


def padded_words(words: Float[Tensor, "b m e"], count: int) -> Float[Tensor, "b {count} e"]:
    """`count` words: the last repeated.

    Raises ValueError where there are more, or none.
    """
    if not 0 < words.shape[1] <= count:
        raise ValueError(
            f"words of shape {tuple(words.shape)} must be 1 to {count} to a caption, the cells of the kernel; "
            "cut them, or take a larger kernel"
        )
    return F.pad(words.mT, (0, count - words.shape[1]), mode="replicate").mT


def convolve_each(x: Float[Tensor, "b c h w"], kernels: Float[Tensor, "b k k c"]) -> Float[Tensor, "b c h w"]:
    """Every channel of every picture through a kernel of its own, zeros outside."""
    batch, k = x.shape[:2], kernels.shape[1]
    lone = kernels.permute(0, 3, 1, 2).flatten(0, 1)[:, None]
    return F.conv2d(x.flatten(0, 1)[None], lone, padding=k // 2, groups=len(lone))[0].unflatten(0, batch)
