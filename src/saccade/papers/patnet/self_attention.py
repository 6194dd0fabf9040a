"""PAT_sf: the first channels are convolved, the rest attends to itself with a bias by distance.

    x1, x2 = the first C // divide channels, the rest
    (conv3x3(x1), attention(layer_norm(x2)))        logits scale q k^T + T[h, bucket(i, j)]

Source: Huang et al., PATNet (2025).
"""

from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models.checkpoint_names import Names
from saccade.nn.attention import per_head
from saccade.nn.map_mixer import MapPart
from saccade.nn.part import to_map, to_tokens
from saccade.nn.registry import mixer
from saccade.papers.patnet.official import below
from saccade.papers.patnet.partial import PartialConv
from saccade.papers.patnet.relative_bias import RelativeBias


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Keep operands as they are, on devices that might round them."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


class BiasedAttention(nn.Module):
    """Softmax attention over the places of a map, with a bias by distance; computed in float32 at least.

    Raises ValueError for a width that the heads do not divide, and for a dropout outside [0, 1).
    """

    names: ClassVar[Names] = (("qkv.", "qkv."), ("out.", "proj."), ("bias.table", "rpe_k.lookup_table_bias"))

    def __init__(self, width: int, heads: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must be in [0, 1)")
        self.heads, self.head_dim, self.dropout = heads, per_head(width, heads), dropout
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.bias = RelativeBias(heads)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The same shape, of any sides."""
        grid = (x.shape[2], x.shape[3])
        q, k, v = self.qkv(to_tokens(x)).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        out = self.out(self.attend(q, k, v, grid).transpose(1, 2).flatten(2))
        return to_map(F.dropout(out, self.dropout, self.training), grid)

    @no_type_check  # run-time shape checks would wrap the code in which the call of attention is found
    def attend(
        self,
        q: Float[Tensor, "b h n e"],
        k: Float[Tensor, "b h n e"],
        v: Float[Tensor, "b h n e"],
        grid: tuple[int, int],
    ) -> Float[Tensor, "b h n e"]:
        """Logits and bias add up in float32 at least, also under autocast."""
        kind = v.dtype
        wide = torch.promote_types(kind, torch.float32)
        with no_autocast(q.device):
            bias, share = self.bias(*grid).to(wide), self.dropout * self.training
            out = F.scaled_dot_product_attention(q.to(wide), k.to(wide), v.to(wide), attn_mask=bias, dropout_p=share)
        return out.to(kind)


class SelfPAT(PartialConv):
    """PAT_sf: convolution for the first channels, attention for the rest.

    heads, dropout   of the attention, whose width `width - width // divide` they must divide
    """

    names: ClassVar[Names] = (
        *PartialConv.names,
        *below("attention.", "attn.", BiasedAttention.names),
        ("norm.", "norm."),
    )

    def __init__(self, width: int, *, heads: int = 4, divide: int = 4, dropout: float = 0.1) -> None:
        super().__init__(width, divide=divide)
        self.attention = BiasedAttention(self.rest, heads, dropout=dropout)
        self.norm = nn.LayerNorm(self.rest, eps=1e-6)

    def attended(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Each place normed, then attention over all."""
        return self.attention(self.norm(x.movedim(1, -1)).movedim(-1, 1))


@mixer("pat_sf")
class SelfPATMixer(MapPart):
    """PAT_sf: a part of the channels looks at its neighbours, the rest attends to all places.

    divide    share of the channels that are convolved, one in so many
    dropout   of attention weights and of the output
    """

    def __init__(self, width: int, heads: int = 4, *, divide: int = 4, dropout: float = 0.1) -> None:
        super().__init__("pat_sf", SelfPAT(width, heads=heads, divide=divide, dropout=dropout))
