"""What to measure on the day a card is at hand, in parts of some seconds; tiny, the same runs on a CPU by Triton's
interpreter.
"""

import statistics
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from typing import Any

import torch

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.experiments import Row
from saccade.experiments.bench_file import Case
from saccade.metrics.stopwatch import in_turn
from saccade.models.dit import DiT
from saccade.ops.triton_kernel.tiles import PASSES
from saccade.papers import Clear
from saccade.studies.cuda_kernel import build_row, times
from saccade.studies.cuda_kernel.exact import FORMS, KERNELS, Form, exact, held
from saccade.studies.cuda_kernel.times import Shape

Widths = tuple[int, int, int]  # columns of q and k, of a factored bias beside them, of v


@dataclass(frozen=True, kw_only=True)
class GpuBench:
    """What is measured, about eight minutes on one card.

    widths     compared with float64, in each of `dtypes` and `forms`
    lengths    in tokens, timed with `heads` heads of `width` columns at `shares` of the blocks
    side       of the calls compared, side x 2 side tokens; `call_side`: of whole calls that are timed
    model      options of a DiT
    processes  that compile kernels side by side; 0: none, for a CPU
    """

    device: str = "cuda"
    dtypes: tuple[str, ...] = ("bfloat16", "float16", "float32")
    widths: tuple[Widths, ...] = (
        (64, 0, 64), (72, 0, 72), (96, 0, 96), (128, 0, 128), (64, 16, 64), (128, 8, 128)
    )  # fmt: skip
    forms: tuple[str, ...] = FORMS
    side: int = 20
    lengths: tuple[int, ...] = (4608, 16896, 119056)
    heads: int = 24
    width: int = 128
    shares: tuple[float, ...] = (1.0, 0.5, 0.25, 0.1)
    tiles: int = 6
    dtype: str = "bfloat16"
    rounds: int = 10
    call_side: int = 48
    model: tuple[tuple[str, int], ...] = (("depth", 4), ("width", 1152), ("heads", 16), ("side", 128))
    processes: int = 12


DRY = GpuBench(
    device="cpu", dtypes=("float32",), widths=((16, 0, 16),), forms=("plain",), side=6, lengths=(70,), heads=1,
    width=16, shares=(1.0,), tiles=1, dtype="float32", rounds=1, call_side=5,
    model=(("depth", 1), ("width", 16), ("heads", 1), ("side", 16)), processes=0,
)  # fmt: skip


def cases(bench: GpuBench) -> dict[str, Case]:
    """Every part by name, in the order of their worth; one that fails gives a row with its error."""
    shapes = [
        Shape(n=n, heads=bench.heads, width=bench.width, dtype=bench.dtype, rounds=bench.rounds, device=bench.device)
        for n in bench.lengths
    ]
    found: dict[str, Case] = {"card": partial(card, bench), "builds": partial(builds, bench)}
    for dtype in bench.dtypes:
        found[f"exact {dtype}"] = partial(exact, forms(bench, dtype), bench.processes)
    found["waits and graphs"] = partial(all_held, bench)
    for shape in shapes:
        found[f"dense {shape.n}"] = partial(times.dense, shape)
        found[f"own {shape.n}"] = partial(times.own, shape, bench.shares)
    found[f"tiles {shapes[-1].n}"] = partial(times.by_tile, shapes[min(1, len(shapes) - 1)], times.TILES[: bench.tiles])
    for kernel in ("triton", "gather", "flex"):
        found[f"call by {kernel}"] = partial(calls, shapes[0], kernel, bench.call_side)
    found["model"] = partial(model, bench)
    return {name: partial(guarded, case) for name, case in found.items()}


def guarded(case: Case) -> list[Row]:
    """A part's rows; those up to an error, and the error."""
    rows: list[Row] = []
    try:
        rows.extend(case())
    except Exception as failed:  # the other parts are worth having
        rows.append({"error": f"{type(failed).__name__}: {failed}".splitlines()[0]})
    return rows


def card(bench: GpuBench) -> Iterator[Row]:
    """Card, versions of CUDA and cuDNN, and the order in which torch tries its dense kernels."""
    row: Row = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    row["order"] = [str(each) for each in torch._C._get_sdp_priority_order()]
    if bench.device == "cuda":
        about = torch.cuda.get_device_properties(0)
        row |= {"name": about.name, "capability": f"{about.major}.{about.minor}", "memory": about.total_memory}
    yield row


def builds(bench: GpuBench) -> Iterator[Row]:
    """Registers, spilled bytes and shared memory on this card, compiled side by side."""
    if bench.device != "cuda":
        yield {"left out": "the interpreter builds nothing; saccade reproduce cuda_kernel builds without a card"}
        return
    major, minor = torch.cuda.get_device_capability()
    jobs = [
        (10 * major + minor, dtype, width + factors, width_v, which)
        for dtype, (width, factors, width_v), which in product(bench.dtypes, bench.widths, PASSES)
    ]
    with ProcessPoolExecutor(max(bench.processes, 1), mp_context=get_context("spawn")) as pool:
        for rows in pool.map(build_rows, jobs):
            yield from rows


def build_rows(job: tuple[int, str, int, int, Any]) -> list[Row]:
    """One build, in a process of its own."""
    return list(build_row(*job))


def forms(bench: GpuBench, dtype: str) -> list[Form]:
    """Every width and form in one type."""
    return [
        Form(
            dtype=dtype, width=width, factors=factors, width_v=width_v, form=form, side=bench.side, device=bench.device
        )
        for (width, factors, width_v), form in product(bench.widths, bench.forms)
    ]


def all_held(bench: GpuBench) -> Iterator[Row]:
    """A row for each form and kernel, in the first type and width."""
    chosen = forms(bench, bench.dtypes[0])[: len(bench.forms)]
    yield from (held(form, kernel) for form, kernel in product(chosen, KERNELS))


def calls(shape: Shape, kernel: str, side: int) -> Iterator[Row]:
    """The library's own call by one kernel."""
    yield times.whole_call(shape, kernel, side)


def model(bench: GpuBench) -> Iterator[Row]:
    """A DiT of this library, plain and with CLEAR attached: times in turn, and what waits for the card."""
    sizes: dict[str, Any] = dict(bench.model)
    net = DiT(**sizes).to(bench.device, times.TYPES[bench.dtype]).eval()
    side = sizes["side"]
    x = torch.randn(1, net.config.channels, side, side, device=bench.device, dtype=times.TYPES[bench.dtype])
    t, label = torch.tensor([0.5], device=bench.device), torch.tensor([1], device=bench.device)
    layout = Layout.image_only((1, side // net.config.patch, side // net.config.patch))
    step = lambda: net(x, t.to(x.dtype), label).out  # noqa: E731
    with torch.no_grad():
        plain = in_turn({"": step}, bench.rounds, device=bench.device)[""]
        with attach(net, Clear(radius=8.0), layout=layout):
            attached = in_turn({"": step}, bench.rounds, warm=2, device=bench.device)[""]
            waited = number_of_waits(step)
    yield {
        "tokens": layout.n, "plain_ms": 1e3 * statistics.median(plain),
        "attached_ms": 1e3 * statistics.median(attached), "waits": waited,
    }  # fmt: skip


def number_of_waits(work: Callable[[], object]) -> int | None:
    """How often the work waits for the card; None without one."""
    if not torch.cuda.is_available():
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(each.message) for each in caught)


def summary(rows: Iterable[Row]) -> list[Row]:
    """By length: time over all blocks by the best dense kernel's (UNIT), and of mixed blocks by that of open ones."""
    timed = [row for row in rows if "ms" in row]
    found = []
    for n in dict.fromkeys(row["n"] for row in timed if "share" in row):
        best = min((row["ms"] for row in timed if row["case"] == f"dense {n}" and not row["masked"]), default=None)
        own = {(row["share"], row["mixed"]): row["ms"] for row in timed if row["case"] == f"own {n}"}
        ratios = [own[share, True] / own[share, False] for share, mixed in own if mixed and (share, False) in own]
        found.append(
            {"n": n, "unit": None if best is None or (1.0, False) not in own else own[1.0, False] / best}
            | {"mixed": statistics.median(ratios) if ratios else None}
        )
    return found
