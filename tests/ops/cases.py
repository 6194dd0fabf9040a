"""Calls to try kernels on, and how far from the truth a kernel may be."""

import torch
from torch import Tensor

from saccade.core.biases import Bias, LowRank, PerKey
from saccade.core.call import AttentionCall, plain_call
from saccade.core.masks import KeyPadding, Mask, Table
from saccade.core.partial import Partial
from saccade.ops import reference

HALF = (torch.bfloat16, torch.float16)


def operands(
    b: int,
    h: int,
    hk: int,
    n: int,
    m: int,
    d: int = 16,
    dv: int = 16,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """q as a host hands it over (a transposed view), k and v; drawn from the seed."""
    g = torch.Generator().manual_seed(seed)
    q = torch.randn(b, n, h, d, generator=g).transpose(1, 2)
    k, v = torch.randn(b, hk, m, d, generator=g), torch.randn(b, hk, m, dv, generator=g)
    return q.to(dtype), k.to(dtype), v.to(dtype)


def block_mask(n: int, m: int, *, b: int = 1, h: int = 1, keep: float = 0.4, size: int = 50, seed: int = 0) -> Table:
    """Random blocks of `size` tokens by batch row and head; every query keeps one block."""
    g = torch.Generator().manual_seed(seed)
    rows, columns = -(-n // size), -(-m // size)
    allow = torch.rand(b, h, rows, columns, generator=g) < keep
    allow[..., torch.arange(rows), torch.arange(rows) % columns] = True
    return Table(torch.arange(n) // size, torch.arange(m) // size, allow)


def padding(b: int, m: int, hidden: int = 7) -> KeyPadding:
    """The last keys of the first batch row are padding."""
    keep = torch.ones(b, m, dtype=torch.bool)
    keep[0, m - hidden :] = False
    return KeyPadding(keep)


def biases(h: int, n: int, m: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Bias:
    """Factors by head that end before the last keys, and values for every key."""
    g = torch.Generator().manual_seed(seed)
    phi_q, phi_k = torch.randn(1, h, n, 3, generator=g) / 3, torch.randn(1, 1, m - 5, 3, generator=g) / 3
    return LowRank(phi_q.to(dtype), phi_k.to(dtype)) + PerKey(torch.randn(1, h, m, generator=g).to(dtype))


def call(q: Tensor, k: Tensor, v: Tensor, mask: Mask | None = None, bias: Bias | None = None) -> AttentionCall:
    """A call outside any host."""
    return plain_call(q, k, v, mask=mask, bias=bias)


def truth(at: AttentionCall) -> Partial:
    """The reference in float64, on the very operands of the call."""
    wide = at.replace(q=at.q.double(), k=at.k.double(), v=at.v.double())
    return reference.run(wide, want_lse=True)


def written_out(at: AttentionCall) -> Tensor:
    """Attention in three lines in the call's own type: the yardstick of the error budget."""
    repeat = at.q.shape[1] // at.k.shape[1]
    k, v = (x.repeat_interleave(repeat, dim=1) for x in (at.k, at.v))
    scores = at.q @ k.mT * at.scale
    if at.bias is not None:
        scores = scores + at.bias.materialize(at.q.shape[2], at.k.shape[2]).to(scores.dtype)
    if at.mask is not None:
        scores = scores.masked_fill(~at.mask.materialize(at.layout_q, at.layout_k), -torch.inf)
    return torch.softmax(scores, -1) @ v


def error(a: Tensor, b: Tensor) -> float:
    """The largest difference."""
    return (a.double() - b.double()).abs().max().item()


def allowed_error(at: AttentionCall, true: Tensor) -> float:
    """Twice the error of the yardstick, and a hair."""
    return 2 * error(written_out(at), true) + 1e-5
