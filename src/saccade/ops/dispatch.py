"""Which kernel takes a call, and why the others do not.

A kernel refuses what it cannot do, and what it would do slower than dense; the first in the device's order that does
not refuse takes the call. Asked for by name, only what it cannot do counts. Choices are kept with the mask, so outside
a graph a repeated call looks one up, and inside a graph nothing is decided.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from saccade.core.call import AttentionCall
from saccade.core.errors import RefusedError
from saccade.core.partial import Partial
from saccade.ops import flex, gather, native, reference, sdpa, spans, triton_kernel
from saccade.ops.operands import too_short, trains
from saccade.ops.split_mask import split_mask


class Kernel(Protocol):
    """What each kernel module offers."""

    NAME: str
    refuses: Callable[..., list[str]]
    unprofitable: Callable[[AttentionCall], list[str]]
    ready: Callable[[AttentionCall], None]
    run: Callable[..., Partial]
    flops: Callable[[AttentionCall], int]
    bytes: Callable[[AttentionCall], int]


KERNELS: dict[str, Any] = {
    module.NAME: module for module in (spans, native, triton_kernel, gather, flex, sdpa, reference)
}
ORDER = {
    "cpu": ("spans", "native", "gather", "flex", "sdpa", "reference"),
    "cuda": ("spans", "triton", "flex", "sdpa", "gather", "reference"),
}

IN_GRAPH = {"native": "gather"}  # what stands in, on the same preparation, for a kernel no graph can hold


@dataclass(frozen=True)
class Choice:
    """The kernel taken, why each other one was not, and the share of pairs the mask allows (1 without one)."""

    kernel: str
    reasons: dict[str, list[str]]
    density: float


def attend(call: AttentionCall, kernel: str | None = None, want_lse: bool = False) -> Partial:
    """Run a call by the kernel `choose` takes; inside a graph, by the one prepared, dense where none was.

    Under autocast q, k and v are cast first, as `scaled_dot_product_attention` casts its own.
    """
    call = cast(call)
    if torch.compiler.is_compiling():
        name = kernel or _prepared(call, want_lse)
        return KERNELS[IN_GRAPH.get(name, name)].run(call, want_lse=want_lse)
    return KERNELS[choose(call, kernel, want_lse).kernel].run(call, want_lse=want_lse)


def choose(call: AttentionCall, kernel: str | None = None, want_lse: bool = False) -> Choice:
    """The kernel for a call, and why not the others.

    Raises RefusedError, with every kernel's reasons, where none takes it, and ValueError for an unknown name.
    """
    call = cast(call)
    if kernel is not None and kernel not in KERNELS:
        raise ValueError(f"kernel='{kernel}' must be one of {tuple(KERNELS)}")
    seen = split_mask(call)
    if (fixed := seen.fixed) is None:
        return _chosen(call, kernel, want_lse, 1.0)
    key = _key(call, kernel, want_lse)

    def make() -> Choice:
        fixed.memo[key] = choice = _chosen(call, kernel, want_lse, fixed.bound.density())
        return choice

    padded = None if seen.keep is None else len(seen.keep)
    return fixed.once((*key, padded, native.is_warm(), flex.num_warm()), make)


def prepare(call: AttentionCall, kernel: str | None = None, want_lse: bool = False) -> Choice:
    """Decide and prepare everything a call like this one needs inside a graph: masks, blocks, tiles.

    Only shapes, types, devices, mask and bias of the call are looked at, so its tensors may be empty views.
    """
    choice = choose(call, kernel, want_lse)
    KERNELS[choice.kernel].ready(cast(call))
    if (fixed := split_mask(call).fixed) is not None:
        fixed.keep_addresses()
    return choice


def warm() -> str | None:
    """Compile `native`, or load it compiled, for all calls of this process; why that failed, None where it did not.

    Takes seconds once for a machine, then next to nothing. Choices made before are made anew. `flex`, compiled for one
    bucket of shapes, has its own `flex.warm(call)`.
    """
    try:
        native.warm()
    except native.BuildError as error:
        return str(error)
    return None


def cast(call: AttentionCall) -> AttentionCall:
    """The call with q, k, v in autocast's type where that is on, as torch's own attention has them; float64 stays."""
    device = call.q.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return call
    dtype, was = torch.get_autocast_dtype(device), (call.q, call.k, call.v)
    if all(x.dtype in (dtype, torch.float64) for x in was):
        return call
    q, k, v = (x if x.dtype == torch.float64 else x.to(dtype) for x in was)
    return call.replace(q=q, k=k, v=v)


def _prepared(call: AttentionCall, want_lse: bool) -> str:
    fixed = split_mask(call).fixed
    if fixed is None:
        return "sdpa"
    choice = fixed.memo.get(_key(call, None, want_lse))
    return "sdpa" if choice is None else choice.kernel


def _key(call: AttentionCall, kernel: str | None, want_lse: bool) -> tuple[Any, ...]:
    biases = "none" if call.bias is None else type(call.bias).__name__
    shape = (*call.q.shape[:2], call.k.shape[1], call.q.shape[-1], call.v.shape[-1])
    return ("choice", kernel, want_lse, biases, call.q.dtype, shape, trains(call))


def _chosen(call: AttentionCall, kernel: str | None, want_lse: bool, density: float) -> Choice:
    reasons: dict[str, list[str]] = {}
    for name in (kernel,) if kernel else ORDER.get(call.q.device.type, ORDER["cpu"]):
        module = KERNELS[name]
        why = module.refuses(call, want_lse=want_lse) if kernel else _declined(module, call, want_lse)
        if not why:
            return Choice(name, reasons, density)
        reasons[name] = why
    cannot = {name: KERNELS[name].refuses(call, want_lse=want_lse) or why for name, why in reasons.items()}
    raise RefusedError(describe(call, want_lse), cannot)


def _declined(module: Any, call: AttentionCall, want_lse: bool) -> list[str]:
    """Why a kernel nobody named is not taken; the blocks of a call too short for it are never sought."""
    short = call.mask is not None and too_short(call, getattr(module, "MIN_TOKENS", 0))
    return short or module.refuses(call, want_lse=want_lse) or module.unprofitable(call)


def describe(call: AttentionCall, want_lse: bool = False) -> str:
    """One line on a call: shapes, type, device, what is added and what is asked."""
    parts = [f"q {tuple(call.q.shape)}", f"k {tuple(call.k.shape)}", f"v {tuple(call.v.shape)}"]
    parts += [f"{call.q.dtype}".removeprefix("torch."), str(call.q.device)]
    parts += [f"mask {type(call.mask).__name__}"] if call.mask is not None else []
    parts += [f"bias {type(call.bias).__name__}"] if call.bias is not None else []
    return ", ".join((*parts, "lse") if want_lse else parts)
