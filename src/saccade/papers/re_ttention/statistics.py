"""What a window lacks, taken at a dense step and given back at sparse ones.

For a query, with w the softmax over its window S, a that over all keys, and rho = sum_S a_j = exp(LSE_S - LSE_all):

    a_j = rho w_j for j in S, so   sum_j a_j v_j = rho sum_S w_j v_j + R   with R = sum_{j not in S} a_j v_j

This is exact at the dense step, and what sparse steps compute with rho and R as they were.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.masks import And, Lowered, Mask, Table
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Parts
from saccade.core.state import Memory
from saccade.mechanisms.frozen_pattern import refuse_causal
from saccade.ops.parts import attend_parts
from saccade.ops.split_mask import split_mask

RATIO, RESIDUAL, AGE = "ratio", "residual", "age"  # keys in memory: rho, R, and the sparse steps since
NOTHING_OUTSIDE = 1e-4  # mass outside a window, below which the window held all, up to rounding of the two sums


@dataclass(frozen=True, kw_only=True)
class TakeStatistics(Mechanism):
    """Attend to everything, and keep what distinguishes that from attention to the window, which the plan brings.

    window  the mask, the same object that stands in the plan
    ratio   keep rho; False leaves it 1, so that the residual is the whole difference
    """

    window: Mask
    ratio: bool = True
    needs: ClassVar[frozenset[str]] = frozenset({"lse"})
    puts: ClassVar[frozenset[str]] = frozenset({RATIO, RESIDUAL, AGE})
    more_pairs: ClassVar[float] = 1.0

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        check_window(self.window, layout_q, layout_k)

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        every = attend_to_all(call, self.window)
        rho = window_share(parts, every) if self.ratio else torch.ones_like(_lse(parts))
        mem.put(RATIO, rho)
        mem.put(RESIDUAL, every.total.to(rho.dtype) - rho[..., None] * parts.total)
        mem.put(AGE, rho.new_zeros(()))
        return every


@dataclass(frozen=True, kw_only=True)
class UseStatistics(Mechanism):
    """Scale the window's output by rho and add the residual, both from the last dense step.

    ramp      added to rho for each sparse step since
    ramp_all  rows whose window held everything too
    clamp     keep rho at 1 or below
    residual  add it
    """

    window: Mask
    ramp: float
    ramp_all: bool = False
    clamp: bool = False
    residual: bool = True
    gets: ClassVar[frozenset[str]] = frozenset({RATIO, RESIDUAL, AGE})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        check_window(self.window, layout_q, layout_k)

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        """Raises StateError without statistics, and for those of a batch or sequence of another size."""
        rho, age = mem.get(RATIO, shape=tuple(call.q.shape[:3])), mem.get(AGE)
        mem.put(AGE, age + 1)
        parts = parts.gain(self.ramped(rho, age)[..., None])
        return parts.plus(mem.get(RESIDUAL)) if self.residual else parts

    def ramped(self, rho: Float[Tensor, "b h n"], age: Float[Tensor, ""]) -> Float[Tensor, "b h n"]:
        """rho after `age` sparse steps."""
        risen = rho + self.ramp * age
        if not self.ramp_all:
            risen = torch.where(1 - rho < NOTHING_OUTSIDE, rho, risen)
        return risen.clamp(max=1) if self.clamp else risen


def attend_to_all(call: AttentionCall, window: Mask) -> Parts:
    """Attention of a call whose mask holds the window to what it would see without: (out, lse), groups kept.

    Raises ValueError for causal attention.
    """
    every = call.replace(mask=without(call.mask, window))
    refuse_causal(every, split_mask(every))
    return attend_parts(every, want_lse=True)


def window_share(window: Parts, every: Parts) -> Float[Tensor, "b h n"]:
    """Share of the softmax over all keys that falls on the window; 1 for queries whose keys are all padding."""
    of_window, of_all = _lse(window), _lse(every)
    return torch.where(of_all == -torch.inf, 1.0, torch.exp(of_window - of_all))


def without(mask: Mask | None, window: Mask) -> Mask | None:
    """A conjunction without the window in it; None where nothing else is left."""
    if isinstance(mask, Lowered):
        left = without(mask.mask, window)
        return mask if left is mask.mask else left
    if not isinstance(mask, And):
        return None if mask is window else mask
    a, b = without(mask.a, window), without(mask.b, window)
    if a is mask.a and b is mask.b:
        return mask
    return b if a is None else a if b is None else And(a, b)


def check_window(window: Mask, layout_q: Layout, layout_k: Layout) -> None:
    """Raises ValueError for a table of other tokens, and where a query keeps no key."""
    for table in tables(window):
        sizes = table.label_q.shape[-1], table.label_k.shape[-1]
        if sizes != (layout_q.n, layout_k.n):
            raise ValueError(
                f"mask= is a table of {sizes[0]} queries and {sizes[1]} keys, the tokens are {layout_q.n} and "
                f"{layout_k.n} ({layout_k.describe()}); make it for these"
            )
    if (lone := window.bind(layout_q, layout_k).empty_row()) is not None:
        batch, head, query = lone
        raise ValueError(
            f"mask={type(window).__name__} leaves query {query} of batch row {batch}, head {head} without a key, so "
            "its share of the softmax is 0; let every query keep at least itself"
        )


def tables(mask: Mask) -> Iterator[Table]:
    """Every table a mask is made of."""
    if isinstance(mask, Table):
        yield mask
    for part in vars(mask).values():
        if isinstance(part, Mask):
            yield from tables(part)


def _lse(parts: Parts) -> Float[Tensor, "b h n"]:
    assert parts.lse is not None
    return parts.lse
