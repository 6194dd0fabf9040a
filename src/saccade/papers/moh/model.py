"""DiT with a mixture of heads in every block: published sizes, and trained DiTs made into one.

`heads` of a layer, `shared` ones and `routed` ones; the number in a size's name is the share of heads that act.
The larger sizes have more heads in later blocks, of the same width, so they have other weights than DiT.

Source: Jin et al., "MoH: Multi-Head Attention as Mixture-of-Head Attention" (2024).
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any, ClassVar, Literal

from torch import nn

from saccade.models.checkpoint_names import Names
from saccade.models.dit import DiT, DiTConfig
from saccade.nn.attention import SelfAttention
from saccade.papers.moh.head_routing import HeadCounts

BALANCE = 0.01
Runs = Sequence[tuple[int, int, int, int]]  # blocks, and what each of them has: heads, shared, routed


def layers(*runs: tuple[int, int, int, int]) -> tuple[HeadCounts, ...]:
    """Head counts of every layer, from runs of layers alike."""
    return tuple(
        HeadCounts(heads=heads, shared=shared, routed=routed)
        for blocks, heads, shared, routed in runs
        for _ in range(blocks)
    )


def active_share(of: Iterable[HeadCounts]) -> Fraction:
    """Share of a network's heads that act on a token."""
    of = tuple(of)
    return Fraction(sum(each.active for each in of), sum(each.heads for each in of))


def mixers(of: Sequence[HeadCounts], *, balance: float = BALANCE, **options: Any) -> tuple[str, ...]:
    """Every layer's mixer as text; `balance` weighs the mean of their losses, `options` go to `MixtureOfHeads`."""
    routed = sum(each.routed > 0 for each in of)
    return tuple(_text(each, balance=balance / max(routed, 1), **options) for each in of)


def _text(counts: HeadCounts, **options: Any) -> str:
    options_text = ", ".join(f"{name}={value!r}" for name, value in (asdict(counts) | options).items())
    return f"moh({options_text})"


def _size(base: str, of: tuple[HeadCounts, ...]) -> DiTConfig:
    config: DiTConfig = DiT.sizes[base]
    return replace(config, mixer=mixers(of, head_dim=config.width // config.heads))


LAYERS = {
    "XL/2-90": layers((9, 8, 8, 0), (10, 16, 16, 0), (9, 24, 16, 3)),
    "XL/2-75": layers((9, 8, 8, 0), (10, 16, 10, 2), (9, 24, 14, 2)),
    "L/2-90": layers((8, 8, 8, 0), (8, 16, 16, 0), (8, 24, 16, 3)),
    "L/2-75": layers((8, 8, 8, 0), (8, 16, 8, 4), (8, 24, 12, 4)),
    "B/2-90": layers((5, 12, 6, 4), (5, 12, 7, 4), (2, 12, 12, 0)),
    "B/2-75": layers((2, 12, 4, 2), (8, 12, 6, 3), (2, 12, 12, 0)),
    "S/2-90": layers((8, 6, 3, 2), (4, 6, 6, 0)),
    "S/2-75": layers((2, 6, 2, 1), (4, 6, 3, 1), (4, 6, 3, 2), (2, 6, 6, 0)),
}
TRANSNEXT = {  # head counts of the vision transformers; the TransNeXt model itself is not built here
    "Base-75": layers((5, 4, 4, 0), (5, 8, 8, 0), (23, 16, 4, 8), (5, 32, 5, 16)),
    "Base-50": layers((5, 4, 2, 2), (5, 8, 2, 4), (23, 16, 2, 6), (5, 32, 4, 8)),
    "Small-80": layers((5, 3, 3, 0), (5, 6, 6, 0), (22, 12, 3, 6), (5, 24, 8, 12)),
    "Small-75": layers((5, 3, 3, 0), (5, 6, 6, 0), (22, 12, 3, 6), (5, 24, 4, 12)),
}


class MoHDiT(DiT):
    """DiT whose mixers are "moh(...)"; a mixer of another kind works too, and is then as in DiT."""

    sizes: ClassVar[dict[str, Any]] = {name: _size(name.split("-")[0], of) for name, of in LAYERS.items()}
    names: ClassVar[Names] = (
        ("blocks.{}.mixer.gates.router.linear.", "blocks.{}.attn.wg."),
        ("blocks.{}.mixer.gates.side_router.", "blocks.{}.attn.wg_0."),
        ("blocks.{}.mixer.gates.shared_router.", "blocks.{}.attn.wg_1."),
        *DiT.names,
    )


def to_mixture_of_heads(
    model: DiT,
    *,
    shared: int | Sequence[int],
    routed: int | Sequence[int],
    routing: Literal["learned", "norm"] = "learned",
    balance: float = BALANCE,
    std: float = 0.02,
) -> MoHDiT:
    """A trained DiT as a mixture of heads, to be trained on: every weight is kept, routers are new and small.

    shared, routed   heads of every block, or a number for each
    std              of the routers' weights; gates start near one, and which heads act differs from token to token
    Raises ValueError for a block without plain attention, or lists that do not fit the depth.
    """
    found = [_plain(block.mixer, i) for i, block in enumerate(model.blocks)]
    numbers = zip(_each(shared, len(found), "shared"), _each(routed, len(found), "routed"), strict=True)
    of = [HeadCounts(heads=a.heads, shared=s, routed=k) for a, (s, k) in zip(found, numbers, strict=True)]
    texts = mixers(of, balance=balance, routing=routing)
    mixer = tuple(f"{text[:-1]}, {_options(a)})" for text, a in zip(texts, found, strict=True))
    made = MoHDiT(model.config, mixer=mixer).to(next(model.parameters()))
    made.load_state_dict(model.state_dict(), strict=False)
    for name, weight in made.named_parameters():
        if ".mixer.gates." in name:
            nn.init.normal_(weight, std=std)
    return made


def _plain(mixer: Any, block: int) -> SelfAttention:
    if type(mixer) is not SelfAttention or mixer.return_trace:
        raise ValueError(f"block {block} has a {type(mixer).__name__}, not plain attention; convert a plain DiT")
    return mixer


def _options(attention: SelfAttention) -> str:
    normed = isinstance(attention.norm_q, nn.LayerNorm)
    return f"head_dim={attention.head_dim}, qk_norm={normed}, rotary={attention.rotary}"


def _each(given: int | Sequence[int], depth: int, name: str) -> Sequence[int]:
    found = [given] * depth if isinstance(given, int) else given
    if len(found) != depth:
        raise ValueError(f"{name} has {len(found)} entries for depth={depth} blocks; give one, or one for each")
    return found
