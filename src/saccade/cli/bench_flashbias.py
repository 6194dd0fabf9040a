"""`saccade bench flashbias`: attention with a bias, dense against factored, in time and memory and in digits.

Three arms in turn on the same inputs: torch's `scaled_dot_product_attention` without a bias, the same with the dense
bias as its mask, and ours with the factors. Times are medians with the quartiles' distance, bias or factors ready.
Memory is the bias or the factors themselves and the peak of what torch's allocator hands out in the attention; q, k, v
are not counted.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from saccade.cli.printing import console
from saccade.core.biases import LowRank
from saccade.core.call import plain_call
from saccade.metrics.allocations import peak_allocated
from saccade.metrics.machine import device_name, versions
from saccade.ops import attend
from saccade.ops.exact_factors import alibi_slopes, cosine_factors, distance_factors, linear_factors
from saccade.ui.progress import ProgressCallback as ProgressCallback
from saccade.ui.progress import progress_bar

SIZES, DTYPES, PRIORS, PASSES = (
    (1024, 4096, 8192),
    ("float32", "bfloat16"),
    ("alibi", "distance"),
    ("forward", "backward"),
)
ARMS = ("plain", "dense", "factors")
Added = Tensor | LowRank | None
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
TITLES = (
    "prior",
    "type",
    "n",
    "pass",
    "no bias ms",
    "dense ms",
    "factors ms",
    "faster",
    "dense MB",
    "factors MB",
    "smaller",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One size, element type, prior and pass. Ratios above 1 are in favour of the factors."""

    prior: str
    dtype: str
    n: int
    part: str
    plain_ms: float
    dense_ms: float
    factors_ms: float
    dense_spread_ms: float
    factors_spread_ms: float
    time_ratio: float
    dense_bytes: int
    factors_bytes: int
    memory_ratio: float


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

    def bias(self, arm: str) -> Tensor | LowRank | None:
        """What each arm adds to the scores; the dense one in the type of the operands."""
        if arm == "plain":
            return None
        factors = self.factors()
        return factors if arm == "factors" else (factors.phi_q @ factors.phi_k.mT).to(getattr(torch, self.dtype))


def run(
    *,
    sizes: tuple[int, ...] = SIZES,
    dtypes: tuple[str, ...] = DTYPES,
    priors: tuple[str, ...] = PRIORS,
    heads: int = 4,
    channels: int = 64,
    repeats: int = 5,
    clock: str = "wall",
    told: Told = lambda done, total, what: None,
) -> dict[str, Any]:
    """`rows` (see `Row`), `crossover` per prior, type and pass, `exactness` in float64, and the machine.

    clock: "wall", or "cpu", the time this process computed (all threads), which other processes do not lengthen.
    Raises ValueError for names that are not known. Cost: repeats + 1 rounds of 3 arms, forward and backward.
    """
    _check("clock", (clock,), tuple(CLOCKS))
    _check("dtypes", dtypes, ("float32", "bfloat16", "float16", "float64"))
    _check("priors", priors, PRIORS)
    settings = [
        Setting(prior=p, dtype=d, n=n, heads=heads, channels=channels) for p in priors for d in dtypes for n in sizes
    ]
    rows: list[Row] = []
    for done, setting in enumerate(settings):
        told(done, len(settings), f"{setting.prior} {setting.dtype} n={setting.n}")
        rows += _measure(setting, repeats, CLOCKS[clock])
    return {
        "rows": [asdict(row) for row in rows],
        "crossover": _crossovers(rows),
        "exactness": exactness(),
        "setting": {
            "heads": heads,
            "channels": channels,
            "repeats": repeats,
            "clock": clock,
            "threads": torch.get_num_threads(),
        },
        "machine": {"device": device_name("cpu"), **versions()},
    }


def exactness(n: int = 65, m: int = 33, heads: int = 4, channels: int = 8) -> dict[str, dict[str, float]]:
    """Per exact prior: columns, and the largest difference to dense softmax attention in float64, out and gradients."""
    i, j = (torch.arange(size, dtype=torch.float64) for size in (n, m))
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(size, 3, dtype=torch.float64, generator=generator) for size in (n, m))
    slopes = alibi_slopes(heads)
    cases = {
        "alibi": (linear_factors(slopes, i, j), slopes[:, None, None] * (j - i[:, None])),
        "alibi, by key": (linear_factors(slopes, i, j, "keys"), slopes[:, None, None] * (j - i[:, None])),
        "distance, 3d": (distance_factors(x, y, form="each_axis"), -(x[:, None] - y).square().sum(-1)),
        "distance, d + 2": (distance_factors(x, y), -(x[:, None] - y).square().sum(-1)),
        "distance, d + 1": (distance_factors(x, y, form="keys"), -(x[:, None] - y).square().sum(-1)),
        "cosine": (cosine_factors(0.3, i, j), (0.3 * (i[:, None] - j)).cos()),
    }
    shapes = ((1, heads, size, channels) for size in (n, m, m))
    qkv = [torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes]
    return {name: _gaps(qkv, factors, values) for name, (factors, values) in cases.items()}


def flashbias(
    sizes: Annotated[str, typer.Option(help="numbers of tokens")] = ",".join(map(str, SIZES)),
    dtypes: Annotated[str, typer.Option(help="element types")] = ",".join(DTYPES),
    priors: Annotated[str, typer.Option(help="alibi, distance")] = ",".join(PRIORS),
    heads: Annotated[int, typer.Option(help="attention heads")] = 4,
    channels: Annotated[int, typer.Option(help="channels per head")] = 64,
    repeats: Annotated[int, typer.Option(help="runs per arm")] = 5,
    clock: Annotated[str, typer.Option(help="wall, or cpu on a machine that does other work")] = "wall",
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
) -> None:
    """A bias as low-rank factors against the same bias written out: time, memory and digits."""
    with progress_bar() as told:
        figures = run(
            sizes=tuple(int(n) for n in sizes.split(",")), dtypes=tuple(dtypes.split(",")),
            priors=tuple(priors.split(",")), heads=heads, channels=channels, repeats=repeats, clock=clock, told=told,
        )  # fmt: skip
    console().print(_table(figures["rows"]))
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(setting: Setting, repeats: int, now: Callable[[], float]) -> Iterator[Row]:
    qkv, biases = setting.operands(), {arm: setting.bias(arm) for arm in ARMS}
    seconds = _times(qkv, biases, repeats, now)
    for number, part in enumerate(PASSES):
        ms = {arm: [1e3 * pair[number] for pair in seconds[arm]] for arm in ARMS}
        median = {arm: statistics.median(ms[arm]) for arm in ARMS}
        held = {arm: _bytes(biases[arm]) + _peak(qkv, biases[arm], part) for arm in ARMS[1:]}
        yield Row(
            prior=setting.prior, dtype=setting.dtype, n=setting.n, part=part,
            plain_ms=median["plain"], dense_ms=median["dense"], factors_ms=median["factors"],
            dense_spread_ms=_spread(ms["dense"]), factors_spread_ms=_spread(ms["factors"]),
            time_ratio=median["dense"] / median["factors"],
            dense_bytes=held["dense"], factors_bytes=held["factors"], memory_ratio=held["dense"] / held["factors"],
        )  # fmt: skip


def _times(
    qkv: list[Tensor], biases: dict[str, Added], repeats: int, now: Callable[[], float]
) -> dict[str, list[tuple[float, float]]]:
    """(forward, backward) seconds per arm, arms in turn, after one round that is not counted."""
    found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in biases}
    for _ in range(repeats + 1):
        for arm, bias in biases.items():
            start = now()
            out = _forward(qkv, bias)
            middle = now()
            out.backward(out.detach())
            found[arm].append((middle - start, now() - middle))
            for x in qkv:
                x.grad = None
    return {arm: pairs[1:] for arm, pairs in found.items()}


def _peak(qkv: list[Tensor], bias: Added, part: str) -> int:
    """Of the forward without a graph, or of forward and backward."""

    def step() -> None:
        with torch.set_grad_enabled(part == "backward"):
            out = _forward(qkv, bias)
        if part == "backward":
            torch.autograd.grad(out, qkv, out.detach())

    return peak_allocated(step)


def _bytes(bias: Added) -> int:
    tensors = (bias.phi_q, bias.phi_k) if isinstance(bias, LowRank) else (bias,)
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def _forward(qkv: list[Tensor], bias: Added) -> Tensor:
    if isinstance(bias, LowRank):
        return attend(plain_call(*qkv, bias=bias)).out
    return scaled_dot_product_attention(*qkv, attn_mask=bias)


def _gaps(qkv: list[Tensor], factors: LowRank, values: Tensor) -> dict[str, float]:
    q, k, v = qkv
    truth = (q @ k.mT * q.shape[-1] ** -0.5 + values).softmax(-1) @ v
    out = _forward(qkv, factors)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    pairs = zip(*(torch.autograd.grad(result, qkv, weight) for result in (out, truth)), strict=True)
    gradient = max(float((mine - other).abs().max()) for mine, other in pairs)
    return {"rank": factors.rank, "output_gap": float((out - truth).detach().abs().max()), "gradient_gap": gradient}


def _crossovers(rows: list[Row]) -> dict[str, int | None]:
    """The smallest measured n from which on the factors are faster, None where even the largest n is not."""
    found: dict[str, int | None] = {}
    for key in dict.fromkeys(f"{r.prior} {r.dtype} {r.part}" for r in rows):
        same = sorted((r for r in rows if f"{r.prior} {r.dtype} {r.part}" == key), key=lambda r: -r.n)
        won = list(takewhile(lambda r: r.time_ratio > 1, same))
        found[key] = won[-1].n if won else None
    return found


def _spread(values: list[float]) -> float:
    """Distance of the quartiles."""
    if len(values) < 2:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4)
    return third - first


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(*TITLES)
    for r in rows:
        times = [f"{r[f'{arm}_ms']:.1f} ± {r[f'{arm}_spread_ms']:.1f}" for arm in ARMS[1:]]
        held = [f"{r[f'{arm}_bytes'] / 1e6:.1f}" for arm in ARMS[1:]]
        first = (r["prior"], r["dtype"], str(r["n"]), r["part"], f"{r['plain_ms']:.1f}")
        table.add_row(*first, *times, f"{r['time_ratio']:.2f}x", *held, f"{r['memory_ratio']:.1f}x")
    return table


def _check(name: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    if bad := [x for x in given if x not in known]:
        raise ValueError(f"{name}={','.join(bad)} must be among {', '.join(known)}")
