"""Attention with a bias, dense against factored, in time and memory.

Three arms in turn on the same inputs: torch's `scaled_dot_product_attention` without a bias, the same with the dense
bias as its mask, and ours with the factors. Times are medians with the quartiles' distance, bias or factors ready.
Memory is the bias or the factors themselves and the peak of what torch's allocator hands out in the attention; q, k, v
are not counted.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from saccade.core.biases import LowRank
from saccade.core.call import plain_call
from saccade.experiments import Row
from saccade.metrics.allocations import peak_allocated
from saccade.metrics.stopwatch import in_turn
from saccade.ops import attend
from saccade.ops.exact_factors import alibi_slopes, distance_factors, linear_factors

PRIORS, PASSES, ARMS = ("alibi", "distance"), ("forward", "backward"), ("plain", "dense", "factors")
Added = Tensor | LowRank | None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured: `heads` of `channels`, one batch row, by `prior` at `n` tokens in `dtype`."""

    prior: str
    dtype: str
    n: int
    heads: int
    channels: int

    def operands(self) -> list[Tensor]:
        """q, k, v that want gradients."""
        generator = torch.Generator().manual_seed(self.n)
        shape = (1, self.heads, self.n, self.channels)
        made = [torch.randn(shape, generator=generator).to(getattr(torch, self.dtype)) for _ in range(3)]
        return [x.requires_grad_() for x in made]

    def factors(self) -> LowRank:
        """ALiBi, or the distance between places in space."""
        if self.prior == "alibi":
            order = torch.arange(self.n, dtype=torch.float32)
            return linear_factors(alibi_slopes(self.heads).float(), order, order)
        places = torch.rand(self.n, 3, generator=torch.Generator().manual_seed(self.n))
        return distance_factors(places, places, torch.full((self.heads, 1), 4.0))

    def bias(self, arm: str) -> Added:
        """What each arm adds to the scores; the dense one in the type of the operands."""
        if arm == "plain":
            return None
        factors = self.factors()
        return factors if arm == "factors" else (factors.phi_q @ factors.phi_k.mT).to(getattr(torch, self.dtype))


def costs(setting: Setting, repeats: int) -> Iterable[Row]:
    """A row for the forward and one for the backward pass: milliseconds, their spread, and bytes of each arm."""
    qkv, biases = setting.operands(), {arm: setting.bias(arm) for arm in ARMS}
    seconds = _times(qkv, biases, repeats)
    for part in PASSES:
        row: Row = {"prior": setting.prior, "dtype": setting.dtype, "n": setting.n, "part": part}
        for arm in ARMS:
            ms = [1e3 * value for value in seconds[f"{arm} {part}"]]
            row |= {f"{arm}_ms": statistics.median(ms), f"{arm}_spread_ms": _spread(ms)}
        for arm in ARMS[1:]:
            row[f"{arm}_bytes"] = _bytes(biases[arm]) + _peak(qkv, biases[arm], part)
        yield row


def crossover(rows: Iterable[Row]) -> int | None:
    """The smallest measured n from which on the factors are faster, None where even the largest n is not."""
    longest_first = sorted(rows, key=lambda row: -row["n"])
    won = list(takewhile(lambda row: row["dense_ms"] > row["factors_ms"], longest_first))
    return won[-1]["n"] if won else None


def _times(qkv: list[Tensor], biases: dict[str, Added], repeats: int) -> dict[str, list[float]]:
    """Seconds by arm and pass, as "dense forward"."""
    outs: dict[str, Tensor] = {}

    def forward(arm: str) -> None:
        outs[arm] = _attended(qkv, biases[arm])

    def backward(arm: str) -> None:
        torch.autograd.grad(outs[arm], qkv, outs.pop(arm).detach())

    work = {"forward": forward, "backward": backward}
    return in_turn({f"{arm} {part}": partial(work[part], arm) for arm in biases for part in PASSES}, repeats)


def _peak(qkv: list[Tensor], bias: Added, part: str) -> int:
    """Of the forward without a graph, or of forward and backward."""

    def step() -> None:
        with torch.set_grad_enabled(part == "backward"):
            out = _attended(qkv, bias)
        if part == "backward":
            torch.autograd.grad(out, qkv, out.detach())

    return peak_allocated(step)


def _bytes(bias: Added) -> int:
    tensors = (bias.phi_q, bias.phi_k) if isinstance(bias, LowRank) else (bias,)
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def _attended(qkv: list[Tensor], bias: Added) -> Tensor:
    if isinstance(bias, LowRank):
        return attend(plain_call(*qkv, bias=bias)).out
    return scaled_dot_product_attention(*qkv, attn_mask=bias)


def _spread(values: list[float]) -> float:
    """Distance of the quartiles."""
    if len(values) < 2:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4)
    return third - first
