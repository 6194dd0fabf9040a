"""Cost of text in equivalent FLOPs: what is multiplied, and what is read of the cache, at I FLOPs a byte.

    dense     C_comp = N (2 P Lout + 4 S H d L)        C_mem = 2 bytes x 2 G d L x (Lin Lout + N Lout^2 / 2)
    budget B  the same with S(B) = B Lout - max(0, B - Lin)^2 / 2 pairs; each trial reads its own keys
    blocks    and N (2 Lin + Lout) / s Lout H d L, (2 Lin + N Lout) / s Lout G d L for choosing among their mean keys

A dense prompt is read once for all N trials. Prefill, weights, sampling and writing are not counted.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

from saccade.core.checks import check_whole
from saccade.papers.kinetics.shapes import BYTES, Shape

B200 = 562.5  # FLOPs in the time of a byte: 4,500 TFLOP/s by 8 TB/s
B200_TERA = 4500.0  # tera-FLOPs a second
TERA = 1e12
LIKELY = (1, 1e6)  # FLOPs a byte of any machine
Compat = Literal["official"]


@dataclass(frozen=True, kw_only=True)
class Use:
    """Tokens of the prompt, tokens written, and trials at once, which share the prompt.

    Raises ValueError for numbers out of range.
    """

    prompt: int = 0
    generated: int
    trials: int = 1

    def __post_init__(self) -> None:
        check_whole(0, prompt=self.prompt)
        check_whole(1, generated=self.generated, trials=self.trials)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Keys that a new token reads: `local` newest ones and `top` others, chosen singly or, given `block`, in blocks.

    Raises ValueError for fewer than one key, and for blocks that do not fill `top`.
    """

    top: int = 0
    local: int = 0
    block: int | None = None

    def __post_init__(self) -> None:
        check_whole(0, top=self.top, local=self.local)
        if self.keys < 1:
            raise ValueError(f"top={self.top} and local={self.local} leave no key; give at least 1")
        if self.block is not None:
            check_whole(1, block=self.block)
            if self.top % self.block:
                raise ValueError(f"top={self.top} must be a multiple of block={self.block}")

    @property
    def keys(self) -> int:
        """In all."""
        return self.top + self.local


@dataclass(frozen=True, kw_only=True)
class Cost:
    """`compute` in FLOPs, `memory` in bytes."""

    compute: float
    memory: float

    def equivalent(self, intensity: float = B200) -> float:
        """Equivalent FLOPs; at intensity 0 the FLOPs alone.

        Raises ValueError for an intensity below 0; warns of one that no machine has.
        """
        return self.compute + check_intensity(intensity) * self.memory

    def seconds(self, intensity: float = B200, tera: float = B200_TERA) -> float:
        """Of a machine of so many tera-FLOPs a second; beside measured seconds it is an order of magnitude, no more."""
        return self.equivalent(intensity) / (tera * TERA)


def cost_of(shape: Shape, use: Use, budget: Budget | None = None, *, compat: Compat | None = None) -> Cost:
    """What `use` of a model costs, attending to all keys or to a budget of them."""
    wide, kept = shape.heads * shape.head_dim * shape.layers, BYTES * shape.kept
    linear = 2 * shape.parameters * use.generated
    if budget is None:
        pairs = use.prompt * use.generated + use.generated**2 / 2
        read = use.prompt * use.generated + use.trials * use.generated**2 / 2
        return Cost(compute=use.trials * (linear + 4 * pairs * wide), memory=read * kept)
    pairs = touched(budget.keys, use, compat=compat)
    means, read = _choosing(shape, use, budget)
    return Cost(
        compute=use.trials * (linear + 4 * pairs * wide + means), memory=use.trials * pairs * kept + read
    )  # fmt: skip


def touched(keys: int, use: Use, *, compat: Compat | None = None) -> float:
    """Pairs of one trial whose tokens read at most so many keys: the integral of min(keys, prompt + t)."""
    early = max(0, keys - use.prompt)
    if compat == "official":
        return keys * use.generated + early**2 / 2
    if early >= use.generated:
        return use.prompt * use.generated + use.generated**2 / 2
    return keys * use.generated - early**2 / 2


def crossover(shape: Shape, intensity: float = B200) -> float:
    """Tokens, without a prompt, from which on attention costs more than all linear layers."""
    return 2 * shape.parameters / (2 * shape.heads * shape.head_dim * shape.layers + intensity * shape.kept)


def check_intensity(intensity: float) -> float:
    """The intensity, in FLOPs a byte; 0 leaves memory out. Warns of one that no machine has.

    Raises ValueError for one below 0.
    """
    if intensity < 0:
        raise ValueError(f"intensity={intensity} FLOPs a byte must not be negative")
    if intensity and not LIKELY[0] <= intensity <= LIKELY[1]:
        warnings.warn(f"intensity={intensity:g} FLOPs a byte is no machine's; divide FLOP/s by byte/s", stacklevel=3)
    return intensity


def _choosing(shape: Shape, use: Use, budget: Budget) -> tuple[float, float]:
    """FLOPs of one trial and bytes of all that go into scores of mean keys, whole blocks counted."""
    if budget.block is None:
        return 0, 0
    scored = (2 * use.prompt + use.generated) // budget.block * use.generated
    read = (2 * use.prompt + use.trials * use.generated) // budget.block * use.generated
    return scored * shape.heads * shape.head_dim * shape.layers, read * shape.kept / 2
