"""A model that is attention and nothing else, for timing it."""

from typing import no_type_check

from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Attention and nothing else: its input is q, k and v, (b n 3 heads head_dim) flattened."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim

    @no_type_check  # run-time shape checks would wrap the code in which the call of attention is found
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.operands(x)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    @no_type_check
    def operands(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v, each (b heads n head_dim)."""
        return x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
