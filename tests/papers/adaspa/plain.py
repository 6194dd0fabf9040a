"""AdaSpa rewritten plainly in float64, row by row, and runs of it on operands at hand."""

from typing import Any

import torch
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.partial import Parts, whole
from saccade.core.site import Site
from saccade.core.stack import Attend, make_plan, run_plan
from saccade.core.state import Memory
from saccade.ops import reference
from saccade.papers.adaspa import AdaSpa

SITE = Site(name="blocks.0.attn", kind="joint", heads=4)
LAYOUT = Layout.joint(text=5, grid=(2, 3, 4), text_first=False)  # 29 tokens
STEPS = 5  # searches at steps 0 and 2 by default


def operands(
    n: int = LAYOUT.n, seed: int = 0, dtype: torch.dtype = torch.float64, batch: int = 2
) -> tuple[Tensor, ...]:
    """q, k and v of four heads, the later ones sharper."""
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, 4, n, 4, generator=g, dtype=torch.float64) for _ in range(3))
    return (q * torch.tensor([0.3, 1.0, 3.0, 9.0]).double()[:, None, None]).to(dtype), k.to(dtype), v.to(dtype)


def exact(call: AttentionCall, want_lse: bool, kernel: str | None) -> Parts:
    return whole(reference.run(call, want_lse=want_lse))


def memory_of() -> Memory:
    return Memory("'adaspa' at 'blocks.0.attn' (main)")


def walk(
    system: AdaSpa,
    inputs: list[tuple[Tensor, ...]],
    layout: Layout = LAYOUT,
    attend: Attend = exact,
    memory: Memory | None = None,
    **fields: Any,
) -> list[Tensor]:
    """One output a step, as a run would make them."""
    memory, outs = memory or memory_of(), []
    for step, (q, k, v) in enumerate(inputs):
        memory.tick()
        items = {"adaspa": system.plan(SITE, Clock(step=step, num_steps=len(inputs)))}
        plan = make_plan(items, SITE, layout, layout, torch.device("cpu"))
        call = plain_call(q, k, v, layout=layout, site=SITE, **fields)
        outs.append(run_plan(plan, call, {"adaspa": memory}, attend).total)
    memory.tick()
    return outs


def dense(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> Tensor:
    scores = q @ k.mT * q.shape[-1] ** -0.5
    return (scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)).softmax(-1) @ v


def lse_of(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.mT * q.shape[-1] ** -0.5).logsumexp(-1)


def mass_of(q: Tensor, k: Tensor, lse: Tensor, block: int) -> Tensor:
    """(b h Q K), sums of exp(z - lse), tile by tile."""
    z = q @ k.mT * q.shape[-1] ** -0.5
    tiles = [[(c - r) for c, r in zip(z.split(block, 2), lse[..., None].split(block, 2), strict=True)]]
    return torch.stack([torch.stack([t.exp().sum((2, 3)) for t in row.split(block, 3)], -1) for row in tiles[0]], -2)


def row_mask(row: Tensor, text: list[bool], sparsity: float) -> list[bool]:
    """The blocks of one row that does not hold text."""
    count = max(int((1 - sparsity) * len(row) + 0.5 + 1e-9), 1)
    video = sorted((j for j in range(len(row)) if not text[j]), key=lambda j: -float(row[j]))
    return [text[j] or j in video[:count] for j in range(len(row))]


def head_mask(mass: Tensor, text: list[bool], sparsity: float) -> Tensor:
    """(Q K) of one head."""
    rows = [[True] * len(text) if text[i] else row_mask(mass[i], text, sparsity) for i in range(len(text))]
    return torch.tensor(rows)


def adaptive_mask(mass: Tensor, text: list[bool], sparsity: float, head_adaptive: bool = True) -> Tensor:
    """(b h Q K), steps 3 and 4 of the algorithm."""
    found = []
    for heads in mass:
        common = [head_mask(w, text, sparsity) for w in heads]
        recalls = [float((w * m).sum() / w.sum()) for w, m in zip(heads, common, strict=True)]
        order = sorted(range(len(heads)), key=lambda h: -recalls[h])
        n = min(sum(r > 0.8 for r in recalls), len(heads) // 2) if head_adaptive else 0
        own = dict.fromkeys(order[:n], (1 + sparsity) / 2) | dict.fromkeys(
            order[len(order) - n :], (3 * sparsity - 1) / 2
        )
        found.append(torch.stack([head_mask(w, text, own.get(h, sparsity)) for h, w in enumerate(heads)]))
    return torch.stack(found)


def text_blocks(layout: Layout, block: int) -> list[bool]:
    """Which blocks hold a text token."""
    return [bool(part.any()) for part in layout.is_("text").split(block)]


def expanded(mask: Tensor, block: int, n: int) -> Tensor:
    """Blocks written out as pairs of tokens."""
    return mask.repeat_interleave(block, -2).repeat_interleave(block, -1)[..., :n, :n]
