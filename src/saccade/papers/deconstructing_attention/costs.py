"""What a layer costs by the paper's tables: FLOPs of prefill and of one decoded token, and bytes of cache.

B batch, L tokens (those in the cache, when decoding), d width, h heads; half precision; products of matrices only, the
output projection left out. Rows of `approx` are those of the reading `per_order`, to which they fit.

variant                    prefill                        decode               cache
standard, static_emb_qk    4 B L^2 d + 6 B L d^2          6 B d^2 + 4 B L d    4 B L d
mlp                        6 B L d^2                      6 B d^2              0
approx                     14 B L d^2                     10 B d^2             6 B d + 4 B d^2 / h
nonapprox                  6 B L d^2                      6 B d^2              2 B d + 4 B h
rnd_emb_qk, fixed_seq_qk   2 L^2 d + 2 B L^2 d + 6 B L d^2   2 L d + 2 B L d + 6 B d^2   2 (B + 1) L d
  their maps known         2 L^2 d + 2 B L d^2            2 B L d + 2 d^2      2 (B + 1) L d
"""

from collections.abc import Callable
from dataclasses import dataclass

Formula = Callable[[int, int, int, int], float]


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """FLOPs, FLOPs and bytes."""

    prefill: float
    decode: float
    cache: float


def _standard(B: int, L: int, d: int, h: int) -> LayerCost:
    return LayerCost(
        prefill=4 * B * L**2 * d + 6 * B * L * d**2, decode=6 * B * d**2 + 4 * B * L * d, cache=4 * B * L * d
    )


def _mlp(B: int, L: int, d: int, h: int) -> LayerCost:
    return LayerCost(prefill=6 * B * L * d**2, decode=6 * B * d**2, cache=0)


def _approx(B: int, L: int, d: int, h: int) -> LayerCost:
    return LayerCost(prefill=14 * B * L * d**2, decode=10 * B * d**2, cache=6 * B * d + 4 * B * d**2 / h)


def _nonapprox(B: int, L: int, d: int, h: int) -> LayerCost:
    return LayerCost(prefill=6 * B * L * d**2, decode=6 * B * d**2, cache=2 * B * d + 4 * B * h)


def _fixed(B: int, L: int, d: int, h: int) -> LayerCost:
    prefill = 2 * L**2 * d + 2 * B * L**2 * d + 6 * B * L * d**2
    return LayerCost(prefill=prefill, decode=2 * L * d + 2 * B * L * d + 6 * B * d**2, cache=2 * (B + 1) * L * d)


def _known(B: int, L: int, d: int, h: int) -> LayerCost:
    prefill = 2 * L**2 * d + 2 * B * L * d**2
    return LayerCost(prefill=prefill, decode=2 * B * L * d + 2 * d**2, cache=2 * (B + 1) * L * d)


COSTS = {
    "standard": _standard,
    "mlp": _mlp,
    "approx": _approx,
    "nonapprox": _nonapprox,
    "rnd_emb_qk": _fixed,
    "fixed_seq_qk": _fixed,
    "static_emb_qk": _standard,
}


def layer_cost(variant: str, *, batch: int, tokens: int, width: int, heads: int, maps_known: bool = False) -> LayerCost:
    """Of one layer.

    maps_known   the fixed stream's maps are computed already; of `rnd_emb_qk` and `fixed_seq_qk` alone
    Raises ValueError for an unknown variant, and for maps that another one cannot know.
    """
    if variant not in COSTS:
        raise ValueError(f"variant='{variant}' is unknown; choose one of {', '.join(COSTS)}")
    if maps_known and COSTS[variant] is not _fixed:
        raise ValueError(f"maps_known=True needs a fixed stream, which '{variant}' has not; leave it out")
    return (_known if maps_known else COSTS[variant])(batch, tokens, width, heads)
