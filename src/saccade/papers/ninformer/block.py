"""The NiN block, a stack of it, and the names their weights have in the official code.

    x = x + MGU(LN x),    x = x + FF(LN x)        by one and the same LayerNorm, as the official code has it

Source: Abdullah & Aydin, "NiNformer" (2024).
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.checkpoint_names import Names, Report, export, load
from saccade.models.unwrapping import State
from saccade.nn.part import TokenPositions
from saccade.nn.token_mlp import feed_forward
from saccade.papers.ninformer.gating_unit import MixerGatingUnit

BLOCK_NAMES: Names = (
    ("norm.", "norm."),
    ("unit.projection.", "mgu.proj."),
    ("unit.inner.norm1.", "mgu.Mixer.token_mix.0."),
    ("unit.inner.mix.net.", "mgu.Mixer.token_mix.2.net."),
    ("unit.inner.norm2.", "mgu.Mixer.channel_mix.0."),
    ("unit.inner.ffn.", "mgu.Mixer.channel_mix.1.net."),
    ("ffn.", "ffn.net."),
)
STACK_NAMES: Names = tuple((f"blocks.{{}}.{ours}", f"model.{{}}.{theirs}") for ours, theirs in BLOCK_NAMES)


class Official(nn.Module):
    """Weights under the official code's names, both ways."""

    official: Names = ()

    def load_official(self, state: Mapping[str, Any], *, strict: bool = True) -> Report:
        """As `Architecture.load_official`: raises LoadError for names that do not match, and copies nothing."""
        return load(self, state, (self.official,), strict=strict)

    def official_state(self) -> State:
        """Raises ValueError where the official code has no such weight."""
        return export(self, self.official)


class NiNBlock(Official):
    """A gating unit and a feed-forward of `hidden` channels around a residual stream of `tokens` tokens.

    shared_norm   one LayerNorm before both, as in the official code; False: one each
    hidden        None: twice the width; `dropout` is that of every feed-forward
    options       further ones of `MixerGatingUnit`: token_hidden, gate, activation, projection
    """

    official = BLOCK_NAMES

    def __init__(
        self,
        width: int,
        *,
        tokens: int,
        hidden: int | None = None,
        dropout: float = 0.0,
        shared_norm: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.second_norm = None if shared_norm else nn.LayerNorm(width)
        self.unit = MixerGatingUnit(width, tokens=tokens, hidden=hidden, dropout=dropout, **options)
        self.ffn = feed_forward(width, 2 * width if hidden is None else hidden, dropout)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions | None = None) -> Float[Tensor, "b n d"]:
        """`place`: of the tokens; only a convolution as gate needs their grid."""
        x = x + self.unit(self.norm(x), place or TokenPositions()).out
        norm = self.norm if self.second_norm is None else self.second_norm
        return x + self.ffn(norm(x))


class NiNStack(Official):
    """`depth` blocks, each as `NiNBlock` takes them; the official class NiNformer."""

    official = STACK_NAMES

    def __init__(self, width: int, *, depth: int, **options: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(NiNBlock(width, **options) for _ in range(depth))

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions | None = None) -> Float[Tensor, "b n d"]:
        for block in self.blocks:
            x = block(x, place)
        return x
