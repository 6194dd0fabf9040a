"""What comparisons at one budget share: arms of one size, runs that stay in their folders, seeds as the outer loop.

A run is one arm with one seed. It trains, and its folder then holds `result.json`; a run that is there is not repeated,
a killed one goes on. Seeds are the outer loop, so that a comparison that is cut short has compared all arms.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from saccade.models.sizing import Arm, Budget, build, check_budget, parameters, sized
from saccade.models.stored import read_config
from saccade.train.checkpoint import write_atomically
from saccade.train.checks import check_positive
from saccade.train.costs import Quartiles
from saccade.train.loop import Fit
from saccade.train.settings import keep_settings

Progress = Callable[[int, int, str], None]
Begin = Callable[[Arm, dict[str, Any], int], "ArmRun"]


@dataclass(frozen=True, kw_only=True)
class EqualBudget(ABC):
    """What is equal for all arms.

    budget   multiply-adds of a forward, or parameters: those of `baseline` at `width`
    Raises ValueError for options out of range.
    """

    arms: tuple[Arm, ...]
    budget: Budget = "macs"
    depth: int = 4
    width: int = 64
    heads: int = 4
    seeds: tuple[int, ...] = (0, 1, 2)
    batch: int = 16
    fit: Fit

    baseline: ClassVar[str]

    def __post_init__(self) -> None:
        check_budget(self.budget)
        check_positive(batch=self.batch)
        names = [arm.name for arm in self.arms]
        if not self.seeds or len({*names}) < len(names):
            raise ValueError(f"seeds={self.seeds} must hold at least one, and arms={names} must differ in name")

    @abstractmethod
    def open(self) -> Any:
        """The data."""

    @abstractmethod
    def base(self, source: Any) -> dict[str, Any]:
        """Options that every model gets, where it has them."""

    @abstractmethod
    def multiply_adds(self, model: nn.Module, base: dict[str, Any]) -> float:
        """Of a forward."""

    @abstractmethod
    def runs(self, folder: Path, source: Any) -> Begin:
        """What makes the run of an arm from its options and seed."""

    @abstractmethod
    def times(self, rounds: int, device: torch.device | str = "cpu") -> dict[str, dict[str, Quartiles]]:
        """Seconds of each kind of work, as ratios to the first arm's: quartiles over rounds."""

    def run(self, folder: Path, progress: Progress = lambda done, total, what: None) -> list[dict[str, Any]]:
        """Every run's result; see `ArmRun.result`."""
        cases = self.cases(folder)
        found = []
        for number, (name, result) in enumerate(cases.items()):
            progress(number, len(cases), name)
            found.append(result())
        return found

    def cases(self, folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
        """What trains and measures one arm with one seed, by its name.

        Raises ValueError where the folder holds runs of other settings.
        """
        self.check_folder(folder)
        runs = self.arm_runs(folder)
        return {name: lambda name=name, run=run: run.complete(folder / name) for name, run in runs.items()}

    def arm_runs(self, folder: Path) -> dict[str, "ArmRun"]:
        """Every run by the name of its folder below this one, in the order in which they are made."""
        source = self.open()
        base = self.base(source)
        options = {arm.name: base | {arm.scaled: self.size(arm, base)} for arm in self.arms}
        begin = self.runs(folder, source)
        return {f"{arm.name}-{seed}": begin(arm, options[arm.name], seed) for seed in self.seeds for arm in self.arms}

    def models(self, device: torch.device | str) -> dict[str, nn.Module]:
        """A fresh model of every arm, in its size."""
        base = self.base(self.open())
        return {arm.name: build(arm.model, **base | {arm.scaled: self.size(arm, base)}).to(device) for arm in self.arms}

    def check_folder(self, folder: Path) -> None:
        """Write down what is equal for all runs of a folder.

        Raises ValueError where the folder holds runs of other settings, which would not compare.
        """
        alike = replace(self, arms=type(self)().arms[:1], seeds=(0,))  # type: ignore[call-arg]
        keep_settings(folder / "comparison.json", asdict(alike))

    def size(self, arm: Arm, base: dict[str, Any]) -> int:
        """The value of `arm.scaled` that meets the budget."""
        target = self.cost(build(self.baseline, **base), base)
        return sized(arm, base, lambda model: self.cost(model, base), target)

    def cost(self, model: nn.Module, base: dict[str, Any]) -> float:
        """What a model spends of the budget."""
        return parameters(model) if self.budget == "parameters" else self.multiply_adds(model, base)


@dataclass(frozen=True)
class ArmRun(ABC):
    """One arm with one seed."""

    comparison: Any
    arm: Arm
    options: dict[str, Any]
    seed: int
    source: Any

    @abstractmethod
    def trained(self, folder: Path) -> nn.Module:
        """The model after its steps, with averaged weights."""

    @abstractmethod
    def result(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        """What is measured of it, and what it costs."""

    def complete(self, folder: Path) -> dict[str, Any]:
        """Train and measure, or read what `folder` holds.

        Raises ValueError where the folder holds another arm.
        """
        path = folder / "result.json"
        if not path.exists():
            found = {"arm": self.arm.name, "seed": self.seed, **self.made, **self.result(self.trained(folder), folder)}
            text = json.dumps(found, indent=1) + "\n"
            write_atomically(path, lambda partial: partial.write_text(text))
        found = read_config(path)
        for name, own in self.made.items():
            if found.get(name) != own:
                raise ValueError(f"folder='{folder}' holds {name}={found.get(name)}, not {own}; name the arm otherwise")
        return found

    @property
    def made(self) -> dict[str, Any]:
        """How the arm came to its budget."""
        return {"model": self.arm.model, "option": self.arm.scaled, "scaled": self.options[self.arm.scaled]}
