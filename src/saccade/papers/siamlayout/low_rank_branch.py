"""The second branch of an SD3 block by low-rank terms on the block's own weights: those of its text serve the layout.

    W x -> W x + up down x        on queries, keys, values and outputs, and on the modulation of the text
    MLP(x) -> MLP(x) + up' down' gelu(up down x),      Z = up down

The base modulation and the low-rank one each multiply a norm of their own and are added up, so with all of it zero the
layout enters doubled, as released; nothing comes of it, since `Z` is zero then.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from saccade.papers.siamlayout.attention import two_streams
from saccade.papers.siamlayout.branches import Around, Branched, updated

ON_IMAGE = ("to_q", "to_k", "to_v", "to_out.0")
ON_LAYOUT = ("add_q_proj", "add_k_proj", "add_v_proj")
GATED, PLAIN = 6, 2  # shifts, scales and gates of adaLN-Zero; of the last block, whose layout is not updated


class LowRankTerms(nn.Module):
    """up down x; `up` is zero at first."""

    def __init__(self, width: int, out: int, rank: int, *, zero: bool = True) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, rank, bias=False), nn.Linear(rank, out, bias=False)
        nn.init.normal_(self.down.weight, std=1 / rank)
        if zero:
            nn.init.zeros_(self.up.weight)
        else:
            nn.init.normal_(self.up.weight, std=1 / rank)

    def forward(self, x: Float[Tensor, "*b n"]) -> Float[Tensor, "*b m"]:
        """What is added."""
        return self.up(self.down(x))


class LowRankBranch(nn.Module):
    """As `DoubleBranch`, on the weights of the block around it, which it is given in each call."""

    def __init__(self, dim: int, rank: int, *, updates: bool = True) -> None:
        super().__init__()
        self.updates = updates
        names = (*ON_IMAGE, *ON_LAYOUT, *(("to_add_out",) if updates else ()))
        self.attn = nn.ModuleDict({_key(name): LowRankTerms(dim, dim, rank) for name in names})
        self.norm = LowRankTerms(dim, (GATED if updates else PLAIN) * dim, rank)
        self.ff = nn.ModuleList(
            [LowRankTerms(dim, 4 * dim, rank, zero=False), LowRankTerms(4 * dim, dim, rank)] if updates else []
        )
        self.out = LowRankTerms(dim, dim, rank)

    def forward(self, normed: Float[Tensor, "b n d"], layout: Float[Tensor, "b m d"], around: Around) -> Branched:
        """From the modulated image tokens that the block's own attention gets too."""
        block = around.block
        own, gates = self._modulated(layout, around)

        def apply(name: str, x: Tensor) -> Tensor:
            part = _part(block.attn, name)
            base = x if part is None else part(x)
            return base + self.attn[_key(name)](x) if _key(name) in self.attn else base

        options: dict[str, Any] = {"rotary": around.rotary, "keep": around.keep, "updates": self.updates}
        image, seen = two_streams(apply, normed, own, block.attn.heads, **options)
        if seen is None:
            return self.out(image), layout
        return self.out(image), updated(layout, seen, gates, lambda x: block.ff_context(x) + self._mlp(x))

    def _modulated(self, layout: Tensor, around: Around) -> tuple[Tensor, list[Tensor]]:
        """The layout under both modulations, and the sums of the gates, shifts and scales that follow."""
        norm, temb = around.block.norm1_context, around.temb
        terms = self.norm(nn.functional.silu(temb))
        plain = nn.functional.layer_norm(layout, layout.shape[-1:], eps=1e-6)
        if not self.updates:
            scale, shift = (x[:, None] for x in terms.chunk(PLAIN, dim=1))
            return norm(layout, temb) + plain * (1 + scale) + shift, []
        base, *gates = norm(layout, emb=temb)
        shift, scale, *more = terms.chunk(GATED, dim=1)
        own = base + plain * (1 + scale[:, None]) + shift[:, None]
        return own, [a + b for a, b in zip(gates, more, strict=True)]

    def _mlp(self, x: Tensor) -> Tensor:
        first, second = self.ff
        return second(nn.functional.gelu(first(x), approximate="tanh"))

    def copy_(self, block: Any) -> None:
        """Nothing is taken over: the block's weights are used where they are."""


def _key(name: str) -> str:
    """A path as the name of a module."""
    return name.replace(".", "_")


def _part(module: Any, name: str) -> Any:
    """A part by its path, None for a norm that is not there."""
    found: Any = module
    for each in name.split("."):
        found = found[int(each)] if each.isdigit() else getattr(found, each, None)
    return found
