"""Self-attention with parts left out: fewer matrices for the similarity of tokens, none for what is read from them.

    kind                       similarity               read and joined by       matrices of width^2, one head
    unchanged                  W_Q W_K^T                W_V, W_O                 4
    symmetric/shared           W_Q W_Q^T                W_V, W_O                 3
    symmetric/mirror           a mirrored triangle      W_V, W_O                 2 1/2
    symmetric/cholesky         T T^T                    W_V, W_O                 2 1/2
    symmetric/cholesky_slice   T T^T of a slice         W_V, W_O                 2 1/2, less with more heads
    wqk                        W_QK                     W_V, W_O                 3
    wqk_vo                     W_QK                     W_VO                     2
    wqk_novo                   W_QK                     nothing                  1

Identity matrices are left out, not stored: weight decay would pull them to zero.

Source: Bermeitinger et al., "Reducing the transformer architecture to a minimum" (2024).
"""

from typing import Literal, get_args
from warnings import warn

from jaxtyping import Float
from torch import Tensor, nn

from saccade.core.checks import check_word
from saccade.nn.attention import SelfAttention
from saccade.nn.block import as_made_
from saccade.nn.part import TokenPositions
from saccade.nn.registry import mixer
from saccade.papers.minimal_transformer import similarities
from saccade.papers.minimal_transformer.similarities import Similarity, by_head

Kind = Literal[
    "unchanged", "wqk", "wqk_vo", "wqk_novo", "symmetric/shared", "symmetric/mirror", "symmetric/cholesky",
    "symmetric/cholesky_slice",
]  # fmt: skip
KINDS: dict[str, type[Similarity]] = {
    "unchanged": similarities.Asymmetric,
    "wqk": similarities.Collapsed,
    "wqk_vo": similarities.Collapsed,
    "wqk_novo": similarities.Collapsed,
    "symmetric/shared": similarities.Shared,
    "symmetric/mirror": similarities.Mirror,
    "symmetric/cholesky": similarities.Cholesky,
    "symmetric/cholesky_slice": similarities.CholeskySlice,
}
TOKENS_AS_VALUES = ("wqk_vo", "wqk_novo")


@mixer("minimal")
class MinimalAttention(SelfAttention):
    """Softmax attention of one of the kinds above.

    bias             of the linear layers there are; triangles have none
    allow_multihead  let "wqk" have several heads, of width^2 each, which saves nothing beyond two
    Raises ValueError for several heads of a kind that cannot have them, and where they do not divide the width.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kind: Kind = "unchanged",
        bias: bool = True,
        allow_multihead: bool = False,
    ) -> None:
        check_word(get_args(Kind), kind=kind)
        _check_heads(kind, heads, allow_multihead)
        super().__init__(width, heads, bias=bias)
        del self.qkv  # in its place stand `similarity` and `value`
        self.kind = kind
        self.similarity: Similarity = KINDS[kind](width, heads, bias=bias)  # type: ignore[call-arg]
        self.value: nn.Module = nn.Identity() if kind in TOKENS_AS_VALUES else nn.Linear(width, width, bias=bias)
        if kind == "wqk_novo":
            self.out: nn.Module = nn.Identity()

    def operands(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v by head; q and k may be wider than v."""
        return *self.similarity(x), by_head(self.value(x), self.heads)

    def scores(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n n"]:
        """What the softmax is taken of."""
        q, k = self.similarity(x)
        return q @ k.mT * q.shape[-1] ** -0.5

    def reset(self) -> None:
        """As PyTorch starts linear layers; triangles of spread 1 / sqrt(their size)."""
        as_made_(self)


def _check_heads(kind: Kind, heads: int, allow_multihead: bool) -> None:
    if heads == 1 or KINDS[kind] is not similarities.Collapsed:
        return
    if kind in TOKENS_AS_VALUES:
        raise ValueError(f"kind='{kind}' with heads={heads}: without W_V the outputs of heads are not joined; heads=1")
    if not allow_multihead:
        raise ValueError(
            f"kind='wqk' with heads={heads} stores {heads} matrices of width^2 in place of two; take heads=1, "
            "kind='symmetric/shared', or allow_multihead=True"
        )
    warn(f"kind='wqk' with heads={heads} stores {heads} matrices of width^2 in place of two", stacklevel=4)
