"""What blocks of each size cost the `native` kernel: as measured on this machine, else as on machines seen.

`native_measure` measures; figures are kept in the user's cache, by processor and instruction set.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from saccade.ops.block_cost import BlockCost
from saccade.ops.native_build import cache_folder, instruction_set, processor

# With room for processors not measured
USUAL = {
    torch.float32: (
        BlockCost((128, 128), 1.1, 1.2), BlockCost((64, 64), 1.15, 1.25), BlockCost((32, 16), 1.25, 1.4),
    ),
    torch.bfloat16: (
        BlockCost((128, 128), 1.2, 1.3), BlockCost((64, 64), 1.25, 1.35), BlockCost((32, 32), 1.4, 1.6),
    ),
}  # fmt: skip
NARROW = BlockCost((16, 16), 1.45, 1.55)  # where two vectors hold no more than 16 queries, so that none is wasted


def block_costs(dtype: torch.dtype) -> tuple[BlockCost, ...]:
    """The costs by size of block, the largest first; those of float32 for types the kernel does not take."""
    dtype = dtype if dtype in USUAL else torch.float32
    return _kept(instruction_set()).get(str(dtype)) or usual_costs(dtype)


def usual_costs(dtype: torch.dtype) -> tuple[BlockCost, ...]:
    """Those of machines seen with these instructions."""
    narrow = dtype == torch.float32 and instruction_set() != "avx512"
    return (*USUAL[dtype], NARROW) if narrow else USUAL[dtype]


def keep_costs(found: Mapping[torch.dtype, tuple[BlockCost, ...]]) -> None:
    """Keep what was measured on this machine; calls from now on go by it."""
    rows = {str(dtype): [(*cost.size, cost.full, cost.mixed) for cost in costs] for dtype, costs in found.items()}
    file = cost_file(instruction_set())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows) + "\n")
    _kept.cache_clear()


def cost_file(instructions: str) -> Path:
    """Where the costs of this processor with an instruction set are kept."""
    mark = hashlib.sha256(processor().encode()).hexdigest()[:16]
    return cache_folder() / f"costs-{instructions}-{mark}.json"


@cache
def _kept(instructions: str) -> dict[str, tuple[BlockCost, ...]]:
    file = cost_file(instructions)
    if not file.is_file():
        return {}
    rows = json.loads(file.read_text())
    return {dtype: tuple(BlockCost((s, c), full, mixed) for s, c, full, mixed in rows[dtype]) for dtype in rows}
