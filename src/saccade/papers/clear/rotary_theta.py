"""Change the base of rotary positions on a host that rotates already: turn q and k by the difference of the angles.

Rotations compose, so this equals rotating the raw q and k with the new base (NTK-aware scaling of all axes).
"""

from dataclasses import dataclass

from saccade.core.call import AttentionCall
from saccade.core.mechanism import Mechanism
from saccade.core.state import Memory


@dataclass(frozen=True, kw_only=True)
class RotaryTheta(Mechanism):
    """Rotary frequencies of base `factor * theta` instead of the host's theta, on every axis.

    Raises ValueError for options out of range.
    """

    factor: float
    needs = frozenset({"host.rotary"})

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise ValueError(f"factor={self.factor} must be positive; 1 leaves the host's base as it is")

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        rotary = call.host.rotary
        further = rotary.angles(theta=rotary.theta * self.factor) - rotary.angles()
        return call.replace(q=rotary.turn(call.q, further), k=rotary.turn(call.k, further))
