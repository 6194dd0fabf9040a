"""Which two vectors of a token a head compares: ways to parameterise the similarity matrix W of s_ij = x_i W x_j^T.

    W = W_Q W_K^T     two matrices of rank head_dim: as usual
    W                 one matrix, keys are the tokens themselves
    W_Q W_Q^T         one projection for queries and keys
    P + P^T           P a triangle: symmetric, and of either sign
    T T^T             T lower triangular: symmetric and positive, over the whole token or over the head's slice of it

Each answers q and k, so that scores are q k^T / sqrt(their channels). `matrix` and `token_bias` say the same with one
scale for all: scores are (x W x^T + b x^T) / sqrt(width), up to what is equal along a row, which softmax does not see.

Source: Bermeitinger et al., "Reducing the transformer architecture to a minimum" (2024).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

Operands = tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h n e"]]


def by_head(x: Float[Tensor, "b n he"], heads: int) -> Float[Tensor, "b h n e"]:
    """Channels shared out among heads."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def product(query: Float[Tensor, "he d"], key: Float[Tensor, "he d"], heads: int) -> Float[Tensor, "h d d"]:
    """W_Q W_K^T of every head, from weights as linear layers store them."""
    return heads**0.5 * query.unflatten(0, (heads, -1)).mT @ key.unflatten(0, (heads, -1))


def moved(bias: Float[Tensor, " he"], key: Float[Tensor, "he d"], heads: int) -> Float[Tensor, "h d"]:
    """b_Q W_K^T of every head."""
    return heads**0.5 * torch.einsum("he,hed->hd", bias.unflatten(0, (heads, -1)), key.unflatten(0, (heads, -1)))


class Similarity(nn.Module):
    """Of `heads` heads over tokens of `width` channels."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads

    def forward(self, x: Float[Tensor, "b n d"]) -> Operands:
        """q and k of every head."""
        raise NotImplementedError

    def matrix(self) -> Float[Tensor, "h d d"]:
        """W of every head."""
        raise NotImplementedError

    def token_bias(self) -> Float[Tensor, "h d"]:
        """b of every head; zero where nothing has a bias."""
        matrix = self.matrix()
        return matrix.new_zeros(matrix.shape[:2])


class Asymmetric(Similarity):
    """W_Q W_K^T."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__(width, heads)
        self.query, self.key = (nn.Linear(width, width, bias=bias) for _ in range(2))

    def forward(self, x: Float[Tensor, "b n d"]) -> Operands:
        return by_head(self.query(x), self.heads), by_head(self.key(x), self.heads)

    def matrix(self) -> Float[Tensor, "h d d"]:
        return product(self.query.weight, self.key.weight, self.heads)

    def token_bias(self) -> Float[Tensor, "h d"]:
        return super().token_bias() if self.query.bias is None else moved(self.query.bias, self.key.weight, self.heads)


class Shared(Similarity):
    """W_Q W_Q^T: a key is the query of the same token."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, width, bias=bias)

    def forward(self, x: Float[Tensor, "b n d"]) -> Operands:
        q = by_head(self.query(x), self.heads)
        return q, q

    def matrix(self) -> Float[Tensor, "h d d"]:
        return product(self.query.weight, self.query.weight, self.heads)

    def token_bias(self) -> Float[Tensor, "h d"]:
        return (
            super().token_bias() if self.query.bias is None else moved(self.query.bias, self.query.weight, self.heads)
        )


class Collapsed(Similarity):
    """W itself, one for each head; with a bias b, b x_j is added to all scores of token j."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, heads * width, bias=bias)

    def forward(self, x: Float[Tensor, "b n d"]) -> Operands:
        return by_head(self.query(x), self.heads), x[:, None].expand(-1, self.heads, -1, -1)

    def matrix(self) -> Float[Tensor, "h d d"]:
        return self.query.weight.unflatten(0, (self.heads, -1)).mT

    def token_bias(self) -> Float[Tensor, "h d"]:
        return super().token_bias() if self.query.bias is None else self.query.bias.unflatten(0, (self.heads, -1))


class Triangle(nn.Module):
    """Lower triangular matrices, of which size (size + 1) / 2 numbers each are stored; of spread 1 / sqrt(size)."""

    steering: bool = True  # AdamW trains them: packed, they are no matrices

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.empty(count, size * (size + 1) // 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scores of order 1 for tokens of order 1: a spread of 1 would give scores of order `size`, a hard maximum."""
        nn.init.normal_(self.weight, std=self.size**-0.5)

    def forward(self) -> Float[Tensor, "c s s"]:
        rows, columns = torch.tril_indices(self.size, self.size, device=self.weight.device)
        full = self.weight.new_zeros(len(self.weight), self.size, self.size)
        full[:, rows, columns] = self.weight
        return full


class Mirror(Similarity):
    """A triangle and its mirror image: symmetric, not positive."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__(width, heads)
        self.triangle = Triangle(heads, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Operands:
        return x[:, None] @ self.matrix(), x[:, None].expand(-1, self.heads, -1, -1)

    def matrix(self) -> Float[Tensor, "h d d"]:
        lower = self.triangle()
        return lower + lower.tril(-1).mT


class Cholesky(Similarity):
    """T T^T over the whole token."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__(width, heads)
        self.triangle = Triangle(heads, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Operands:
        y = x[:, None] @ self.triangle()
        return y, y

    def matrix(self) -> Float[Tensor, "h d d"]:
        lower = self.triangle()
        return lower @ lower.mT


class CholeskySlice(Similarity):
    """T T^T over the head's own slice of the token, which is not projected: the replication's way, not the paper's."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__(width, heads)
        self.triangle = Triangle(heads, width // heads)

    def forward(self, x: Float[Tensor, "b n d"]) -> Operands:
        y = by_head(x, self.heads) @ self.triangle()
        return y, y

    def matrix(self) -> Float[Tensor, "h d d"]:
        lower, size = self.triangle(), self.width // self.heads
        whole = lower.new_zeros(self.heads, self.width, self.width)
        for head, block in enumerate(self.heads**0.5 * lower @ lower.mT):
            whole[head, head * size : (head + 1) * size, head * size : (head + 1) * size] = block
        return whole
