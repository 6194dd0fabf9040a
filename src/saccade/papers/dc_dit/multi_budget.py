"""Training for many budgets at once: every step drops another share of the kept tokens.

Source: Haridas et al., DC-DiT, second version (2026).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from saccade.train.checks import check_positive
from saccade.train.denoising import ArchitectureLoss, ArchitectureTask


@dataclass(frozen=True, kw_only=True)
class MultiBudget:
    """Shares to draw from, all equally likely, once `warmup` steps have dropped nothing.

    Raises ValueError for options out of range.
    """

    shares: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    warmup: int = 5_000

    def __post_init__(self) -> None:
        if not self.shares or not all(0 <= share < 1 for share in self.shares):
            raise ValueError(f"shares={self.shares} must be one or more numbers in [0, 1)")
        if self.warmup < 0:
            raise ValueError(f"warmup={self.warmup} must be at least 0")

    def rho(self, step: int, rng: np.random.Generator) -> float:
        """The share of a step; the loop gives all processes the same `rng`, so it is the same on all."""
        return 0.0 if step < self.warmup else float(rng.choice(self.shares))


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """The ratio that the loss aims at: from `start` to `end`, evenly over `steps`.

    Raises ValueError for options out of range.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        check_positive(steps=self.steps)
        for name, value in (("start", self.start), ("end", self.end)):
            if not value > 1:
                raise ValueError(f"{name}={value} must be above 1, tokens for each one that is kept")

    def ratio(self, step: int) -> float:
        """At a step; `end` from the last on."""
        return self.start + (self.end - self.start) * min(1.0, step / self.steps)


class BudgetLoss(ArchitectureLoss):
    """The losses of a batch that says what share is dropped and what ratio is aimed at."""

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        def model(x: Tensor, t: Tensor, condition: Any) -> Any:
            return self.model(x, t, condition, **batch["budget"])

        return self.objective.loss(model, batch["x"], batch["condition"], batch["t"], batch["noise"])


class BudgetTask(ArchitectureTask):
    """A `Task` whose model takes `rho` and `ratio`: those of the step, the same for all rows."""

    shared = ("budget",)

    def __init__(self, *given: Any, budget: MultiBudget | None = None, ramp: Ramp | None = None, **more: Any) -> None:
        super().__init__(*given, **more)
        self.module = BudgetLoss(self.model, self.objective)
        self.budget, self.ramp = budget or MultiBudget(), ramp

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the options of the loop."""
        return super().settings | {"budget": self.budget, "ramp": self.ramp}

    def batch(self, rng: np.random.Generator) -> dict[str, Any]:
        batch, step = super().batch(rng), step_of(rng)
        aimed = {} if self.ramp is None else {"ratio": self.ramp.ratio(step)}
        return batch | {"budget": {"rho": self.budget.rho(step, rng), **aimed}}


def step_of(rng: np.random.Generator) -> int:
    """The step that the training loop made `rng` for, from (seed, step, 0).

    Raises ValueError for any other generator.
    """
    entropy = getattr(rng.bit_generator.seed_seq, "entropy", None)
    if not isinstance(entropy, (list, tuple)) or len(entropy) != 3:
        raise ValueError(f"rng was made from {entropy}; give one made from (seed, step, 0), as the training loop does")
    return int(entropy[1])
