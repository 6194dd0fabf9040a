"""The kernels built ahead of time, for cards that need not be there: registers, spilled bytes, shared memory."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from triton import compile as build
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from saccade.ops.pattern import Size
from saccade.ops.triton_kernel import backward, forward
from saccade.ops.triton_kernel.operator import constants
from saccade.ops.triton_kernel.tiles import Pass, Tile, tile_for

KERNELS: dict[Pass, Any] = {
    "forward": forward.attend,
    "queries": backward.attend_queries,
    "keys": backward.attend_keys,
}
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
POINTERS = {"LSE": "fp32", "DLSE": "fp32", "DELTA": "fp32", "KEEP": "u8"}  # of a fixed type; the rest by use
INDICES = ("ORDER", "SPANS", "COLS", "WHICH", "BITS", "ORDER_Q", "ORDER_K")
ALIGNED = [["tt.divisibility", 16]]


@dataclass(frozen=True, kw_only=True)
class Built:
    """What one program takes: registers a thread, bytes of registers spilled a thread, bytes of shared memory."""

    registers: int
    spilled: int
    shared: int


def built(
    which: Pass, *, target: int, width: int, width_v: int, dtype: torch.dtype = torch.bfloat16,
    size: Size = (128, 128), keep: bool = False, order: bool = False, short: bool = True, tile: Tile | None = None,
    ones: tuple[str, ...] = (),
) -> Built:  # fmt: skip
    """Compile a kernel as the table says, or for a tile of one's own.

    target  80 for sm_80, and so on
    ones    arguments that are 1 in a call: Triton compiles a kernel of its own for those
    """
    tile = tile or tile_for(
        which, capability=divmod(target, 10), width=width, width_v=width_v, dtype=dtype, size=size
    )  # fmt: skip
    chosen = constants(
        width=width, width_v=width_v, size=size, tile=tile, keep=keep, order=order, short=short,
        single=dtype == torch.float32,
    )  # fmt: skip
    made = build(
        _source(KERNELS[which], chosen | dict.fromkeys(ones, 1), TYPES[dtype]),
        target=GPUTarget("cuda", target, 32),
        options={"num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": True},
    )
    registers, spilled = _resources(made.asm["cubin"])
    return Built(registers=registers, spilled=spilled, shared=made.metadata.shared)


def _source(kernel: Any, chosen: dict[str, Any], dtype: str) -> ASTSource:
    """Types as in a call: pointers and strides are multiples of 16."""
    signature: dict[str, str] = {}
    aligned: dict[tuple[int], Any] = {}
    for at, name in enumerate(kernel.arg_names):
        signature[name] = "constexpr" if name in chosen else _type(name, dtype)
        if signature[name].startswith("*") or name.startswith("stride_"):
            aligned[(at,)] = ALIGNED
    fixed = {name: value for name, value in chosen.items() if name in signature}
    return ASTSource(fn=kernel, signature=signature, constexprs=fixed, attrs=aligned)


def _type(name: str, dtype: str) -> str:
    if not name.isupper():
        return "fp32" if name == "scale" else "i32"
    return "*" + ("i32" if name in INDICES else POINTERS.get(name, dtype))


def _resources(cubin: bytes) -> Size:
    """Registers, and bytes of the stack, where ptxas puts what it spills."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(file)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found is not None, text
    return int(found[1]), int(found[2])
