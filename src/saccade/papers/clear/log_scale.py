"""Sharpen attention with the number of keys, so that its entropy stays where training left it.

scale' = scale * sqrt(log(stretch * m) / log(trained)) at m keys; d ** -0.5 becomes sqrt(log_trained(stretch * m) / d).
"""

import math
from dataclasses import dataclass

from saccade.core.call import AttentionCall
from saccade.core.mechanism import Mechanism
from saccade.core.state import Memory


@dataclass(frozen=True, kw_only=True)
class LogScale(Mechanism):
    """Multiply the scale by the root of a ratio of logarithms; 1 at `trained` keys.

    trained   number of keys the model was trained with, text included; at least 2
    stretch   factor on the number of keys, for keys that stand for many
    Keys appended by other mechanisms are not counted, padding is.
    Raises ValueError for options out of range.
    """

    trained: int
    stretch: float = 1.0

    def __post_init__(self) -> None:
        if self.trained < 2:
            raise ValueError(
                f"trained={self.trained} must be at least 2, the number of keys the model was trained with"
            )
        if not self.stretch > 0:
            raise ValueError(f"stretch={self.stretch} must be positive; 1 counts each key once")

    def factor(self, m: int) -> float:
        """What the scale of a call of `m` keys is multiplied by; 0 at a single key, where no scale matters."""
        return math.sqrt(max(math.log(self.stretch * m), 0.0) / math.log(self.trained))

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        return call.replace(scale=call.scale * self.factor(call.layout_k.n))
