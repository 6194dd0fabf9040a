"""The Triton kernels by Triton's interpreter, in a process of its own: `python -m tests.ops.interpreted CASE ...`.

Prints one JSON object: for each case its errors against float64, each with what the library's error budget allows.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from saccade.core.biases import LowRank, PerKey
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.masks import Mask
from saccade.core.partial import Partial
from saccade.core.places import Disc
from saccade.core.regions import Partition
from saccade.mechanisms.region_grid import RegionGrid
from saccade.ops import attend, gather, reference, triton_kernel
from saccade.ops.block_cost import BlockCost
from saccade.ops.pattern import Pattern
from tests.ops.cases import allowed_error, biases, block_mask, call, error, operands, padding, truth, written_out

Found = dict[str, Any]
HALF = torch.bfloat16
WHOLE = triton_kernel.COSTS


def mend_bfloat16() -> None:
    """The interpreter keeps bfloat16 in 16-bit integers: it multiplies those as they are, and cuts off where a card
    rounds to the nearest.
    """
    cast = InterpreterBuilder.cast_impl

    def wide(x: Any) -> np.ndarray:
        bits = x.data.astype(np.uint32) << 16 if x.dtype.scalar == tl.bfloat16 else None
        return x.data.astype(np.float32) if bits is None else bits.view(np.float32)

    def create_dot(self: Any, a: Any, b: Any, d: Any, *precision: Any) -> Any:
        return TensorHandle(np.matmul(wide(a), wide(b)) + d.data, d.dtype.scalar)

    def cast_impl(self: Any, src: Any, to: Any) -> Any:
        if src.dtype.scalar != tl.float32 or to.scalar != tl.bfloat16:
            return cast(self, src, to)
        bits = np.ascontiguousarray(src.data, np.float32).view(np.uint32)
        return TensorHandle(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16), tl.bfloat16)

    InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl = create_dot, cast_impl


def compared(at: AttentionCall) -> Found:
    """Errors of out and lse, and whether queries without a key give 0 and -inf."""
    found, true = triton_kernel.run(at, want_lse=True), truth(at)
    assert found.lse is not None and true.lse is not None
    seen = true.lse > -torch.inf
    exact = at.bias is None or at.q.dtype == torch.float32
    return {
        "out": [error(found.out, true.out), allowed_error(at, true.out) if bool(seen.all()) else 1e-5],
        "lse": [error(found.lse[seen], true.lse[seen]), 1e-4 if exact else 3e-2],
        "empty": [int((~seen).sum()), bool((found.out[~seen] == 0).all() and (found.lse[~seen] == -torch.inf).all())],
        "refused": triton_kernel.refuses(at, want_lse=True),
    }  # fmt: skip


def differentiated(at: AttentionCall) -> Found:
    """Errors of all gradients, those through lse among them."""
    factors = () if at.bias is None else tuple(x for t in at.bias.terms for x in vars(t).values())
    leaves = (at.q, at.k, at.v, *factors)
    g = torch.Generator().manual_seed(5)
    weights = torch.randn(*at.q.shape[:3], at.v.shape[-1], generator=g), torch.randn(at.q.shape[:3], generator=g)

    def gradients(run: Callable[[AttentionCall], Partial], wide: bool, lse_too: bool = True) -> tuple[Tensor, ...]:
        q, k, v, *rest = (x.detach().to(torch.float64 if wide else x.dtype).requires_grad_() for x in leaves)
        bias = LowRank(*rest[:2]) + PerKey(rest[2]) if rest else None
        found = run(at.replace(q=q, k=k, v=v, bias=bias))
        loss = (found.out * weights[0].to(found.out)).sum()
        if lse_too:
            lse = found.lse
            assert lse is not None
            loss = loss + (lse * weights[1].to(lse))[lse > -torch.inf].sum()
        return torch.autograd.grad(loss, (q, k, v, *rest))

    oracle = lambda each: reference.run(each, want_lse=True)  # noqa: E731
    true, plain_true = gradients(oracle, True), gradients(oracle, True, lse_too=False)
    found = gradients(lambda each: triton_kernel.run(each, want_lse=True), False)
    plain = gradients(lambda each: Partial(written_out(each)), False, lse_too=False)
    hair = 1e-5 if at.q.dtype == torch.float32 else 1e-2  # of the largest gradient
    names = ("dq", "dk", "dv", "dphi_q", "dphi_k", "dvalues")
    yardstick = lambda a, b: 0.0 if a.isnan().any() else 2 * error(a, b)  # a softmax over no keys is NaN  # noqa: E731
    return {
        name: [error(got, want), yardstick(eager, eager_want) + hair * max(want.abs().max().item(), 1)]
        for name, got, want, eager, eager_want in zip(names, found, true, plain, plain_true, strict=False)
    }


def small(
    shape: tuple[int, int, int, int, int] = (1, 2, 2, 70, 90), d: int = 16, dv: int = 16,
    dtype: torch.dtype = torch.float32,
    *, padded: int = 0, biased: bool = False, by_head: bool = False, keep: float = 0.4,
) -> AttentionCall:  # fmt: skip
    """A call whose pattern has blocks of 32."""
    b, h, _, n, m = shape
    mask: Mask = block_mask(n, m, b=b, h=h if by_head else 1, size=24, keep=keep)
    mask = mask & padding(b, m, padded) if padded else mask
    return call(*operands(*shape, d=d, dv=dv, dtype=dtype), mask, biases(h, n, m, dtype) if biased else None)


def ordered() -> AttentionCall:
    """Tokens on a grid that a better order brings together, text beside them."""
    layout = Layout.joint(text=5, grid=(1, 4, 32))
    q, k, v = operands(1, 1, 1, layout.n, layout.n)
    at = call(q, k, v, Disc(2) & padding(1, layout.n, 3), biases(1, layout.n, layout.n))
    return at.replace(layout_q=layout, layout_k=layout)


def pattern_of(at: AttentionCall) -> Pattern:
    return gather.found_pattern(at, triton_kernel.COSTS[at.q.dtype])


def of_an_order() -> Found:
    at = ordered()
    return {"moved": pattern_of(at).order is not None, **compared(at), **differentiated(at)}


def of_regions() -> Found:
    """Mingled regions that fill no block, so that fillers stand between tokens."""
    n = 100
    label = torch.randperm(n, generator=torch.Generator().manual_seed(3)) % 3
    allow = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)[None, None]
    made = RegionGrid(Partition.of(label), allow).lowered(Layout.plain(n), Layout.plain(n))
    assert made is not None
    at = call(*operands(2, 2, 2, n, n), made & padding(2, n, 9))
    return {"gaps": pattern_of(at).gaps, **compared(at), **differentiated(at)}


def whole_blocks() -> Found:
    """Blocks of 128 as they are used, by the public way in."""
    triton_kernel.COSTS = WHOLE
    at = call(*operands(1, 1, 1, 130, 140, d=64, dv=64), block_mask(130, 140, size=70))
    found = attend(at, kernel="triton", want_lse=True)
    return {"size": list(pattern_of(at).size), "out": [error(found.out, truth(at).out), 1e-5]}


GROUPS = (1, 4, 2, 40, 70)
CASES: dict[str, Callable[[], Found]] = {
    "float32": lambda: compared(small()) | differentiated(small()),
    "bfloat16 grouped": lambda: compared(at := small(GROUPS, dtype=HALF, by_head=True)) | differentiated(at),
    "padded until nothing is left": lambda: compared(at := small((2, 1, 1, 40, 40), padded=40)) | differentiated(at),
    "order and factors": of_an_order,
    "regions": of_regions,
    "float16": lambda: compared(at := small(dtype=torch.float16)) | differentiated(at),
    "bfloat16 factors": lambda: compared(at := small(d=64, dv=40, dtype=HALF, biased=True)) | differentiated(at),
    "by batch, head and padding": lambda: (
        compared(at := small((2, 4, 2, 45, 77), 24, 16, by_head=True, padded=9)) | differentiated(at)
    ),
    "wide": lambda: compared(at := small((1, 1, 1, 33, 64), d=136, dv=128)) | differentiated(at),
    "blocks of 128": whole_blocks,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    mend_bfloat16()
    triton_kernel.COSTS = dict.fromkeys(WHOLE, (BlockCost((32, 32), 1.0, 1.3),))
    sys.stdout.write(json.dumps({name: CASES[name]() for name in sys.argv[1:]}))
