"""What a frozen block pattern saves, for attention alone and in a small bidirectional transformer.

A run has four kinds of steps: dense, the one that finds the pattern, the first that uses it (the kernel prepares for
it), and all later ones. Every round times one of each, and plain dense, in turn. A whole run of T steps is put
together from the medians, finding and preparing counted.

plain   the model as it is, its attention by torch
best    for attention alone: dense by the kernel that runs the sparse steps, where that is faster than torch's
ideal   as if a step's attention took its density's share of plain attention, and finding the pattern nothing
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from statistics import mean, median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

from saccade.attach import Run, attach
from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.masks import Lowered
from saccade.experiments import Row
from saccade.mechanisms.block_grid import BlockGrid
from saccade.metrics.stopwatch import in_turn
from saccade.models.attention_alone import Attention
from saccade.ops import attend, native
from saccade.papers.sparsed.system import SparseD

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STEPS = (32, 128, 1024)  # lengths of whole runs
KINDS = ("plain", "dense", "find", "first", "sparse")  # what a round times
Times = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How steps are timed.

    keep    share of the key blocks kept; `skip` of the steps dense; `block` in tokens
    tokens  lengths, of which the last quarter is generated
    heads   of `width` each, in `layers` of the transformer
    rounds  times every kind of step is run
    Raises ValueError for options out of range.
    """

    keep: float = 0.3
    block: int = 128
    skip: float = 0.2
    heads: int = 4
    width: int = 64
    layers: int = 2
    rounds: int = 5
    threads: int = 2
    tokens: tuple[int, ...] = (4096, 8192)
    dtypes: tuple[str, ...] = tuple(DTYPES)

    def __post_init__(self) -> None:
        if bad := [name for name in self.dtypes if name not in DTYPES]:
            raise ValueError(f"dtypes={','.join(bad)} must be among {', '.join(DTYPES)}")
        if self.rounds < 2:
            raise ValueError(f"rounds={self.rounds} must be at least 2, for a median with quartiles")

    def sparsed(self, tokens: int) -> SparseD:
        """The system for so many tokens."""
        return SparseD(keep=self.keep, block=self.block, skip=self.skip, generation=tokens // 4)


class Block(nn.Module):
    """A layer of an encoder: attention, then an MLP of four times the width."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        width = heads * head_dim
        self.qkv, self.attn, self.out = nn.Linear(width, 3 * width), Attention(heads, head_dim), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.attn(self.qkv(self.norm(x))))
        return x + self.mlp(self.norm_mlp(x))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch on so many threads, then on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(n: int, dtype: str, timing: Timing) -> tuple[Row, Row]:
    """Attention alone, then the model: medians of each kind of step, in milliseconds, and how much faster a sparse step
    is than a plain one, with quartiles."""
    torch.manual_seed(0)
    heads, width = timing.heads, timing.heads * timing.width
    alone = Attention(heads, timing.width), torch.randn(1, n, 3 * width)
    model = nn.Sequential(*(Block(heads, timing.width) for _ in range(timing.layers))), torch.randn(1, n, width)
    kind = DTYPES[dtype]
    times, density = timed(alone[0].to(kind), alone[1].to(kind), timing, dense_kernel(alone[1].to(kind), timing))
    whole, _ = timed(model[0].to(kind), model[1].to(kind), timing)
    attention, all_ = (median(found["plain"]) for found in (times, whole))
    rest = max(all_ - timing.layers * attention, 0)  # what no pattern saves
    ideal = all_ / (rest + density * (all_ - rest))
    about = {"tokens": n, "dtype": dtype, "density": density}
    return (
        {"what": "attention"} | about | _figures(times) | {"ideal": 1 / density},
        {"what": "model"} | about | _figures(whole) | {"ideal": ideal},
    )


def timed(model: nn.Module, x: Tensor, timing: Timing, best: Callable[[], object] | None = None) -> tuple[Times, float]:
    """Seconds of each kind of step, and of `best` where it is given, round by round; the density of sparse steps."""
    system, steps = timing.sparsed(x.shape[1]), STEPS[0]
    last = system.last_dense(steps)
    at = {"dense": 0, "find": last, "first": last + 1, "sparse": last + 2}
    plain, model = model.eval(), deepcopy(model).eval()
    with torch.inference_mode(), attach(model, system, layout=Layout.plain(x.shape[1]), heads=timing.heads) as run:

        def step(number: int) -> Callable[[], object]:
            def work() -> object:
                run.step(number, of=steps)
                return model(x)

            return work

        arms: dict[str, Callable[[], object]] = {"plain": lambda: plain(x)}
        arms |= {kind: step(number) for kind, number in at.items()}
        arms |= {} if best is None else {"best": best}
        return in_turn(arms, timing.rounds), _density(run)


def dense_kernel(x: Tensor, timing: Timing) -> Callable[[], object] | None:
    """Dense attention by the native kernel, with every block open; None where it cannot run."""
    q, k, v = (t.contiguous() for t in x.unflatten(-1, (3, timing.heads, -1)).permute(2, 0, 3, 1, 4))
    layout, count = Layout.plain(x.shape[1]), -(-x.shape[1] // timing.block)
    every = BlockGrid(torch.ones(1, 1, count, count, dtype=torch.bool), timing.block, layout.n)
    call = plain_call(q, k, v, layout=layout, mask=Lowered(every, layout, layout, every.bind(layout, layout)))
    return None if native.refuses(call) else lambda: attend(call, kernel="native")


def _density(run: Run) -> float:
    """Mean share of pairs the patterns keep."""
    return mean(float(memory.get("density")) for memory in run.state.memories.values())


def _figures(times: Times) -> Row:
    ms = {f"{kind}_ms": 1e3 * median(times[kind]) for kind in KINDS}
    best = min(1e3 * median(times["best"]), ms["plain_ms"]) if "best" in times else None
    ratios = [dense / sparse for dense, sparse in zip(times["plain"], times["sparse"], strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    return ms | {"best_ms": best, "speedup": middle, "speedup_low": low, "speedup_high": high}


def whole_run(steps: int, row: Row, system: SparseD) -> dict[str, Any]:
    """Speed-up of a run of `steps`, its ideal, and the share of its time that finding and preparing the pattern add."""
    last = system.last_dense(steps)
    taken = last * row["dense_ms"] + row["find_ms"] + row["first_ms"] + (steps - last - 2) * row["sparse_ms"]
    extra = row["find_ms"] - row["dense_ms"] + row["first_ms"] - row["sparse_ms"]
    best = 1 / system.density(steps, share=1 / row["ideal"])
    return {"speedup": steps * row["plain_ms"] / taken, "ideal": best, "pattern_share": extra / taken}
