"""What the benches at one budget share: arms by name or new ones, runs that go on, times of all arms in turn."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.experiments import BenchFile
    from saccade.train.equal_budget import EqualBudget

TIMES = "times"


def run_arms(
    usual: "EqualBudget",
    out: Path,
    arms: list[str],
    settings: list[str],
    *,
    rounds: int,
    file: Path | None,
    seconds: float | None,
    model: Callable[[str], str] = str,
) -> "BenchFile":
    """A row for each run, one a seed and arm, and one for each arm's times (quartiles of ratios to the first arm).

    model   the text of a new arm as a model
    """
    from saccade.experiments import BenchFile
    from saccade.metrics.machine import best_device
    from saccade.train.config import override

    comparison = override(usual, settings)
    comparison = replace(comparison, arms=chosen(arms, comparison.arms, model)) if arms else comparison
    bench = BenchFile(file=file, settings=asdict(comparison), device=best_device(), seconds=seconds)
    cases = {name: lambda result=result: [result()] for name, result in comparison.cases(out).items()}
    times = {TIMES: lambda: [{"arm": name} | each for name, each in comparison.times(rounds, best_device()).items()]}
    with progress_bar() as progress:
        bench.run(cases | (times if rounds else {}), progress)
    return bench


def chosen(wanted: list[str], known: tuple[Any, ...], model: Callable[[str], str] = str) -> tuple[Any, ...]:
    """Arms by name, or new ones written `name=MODEL`.

    Raises ValueError for a name that is not known.
    """
    from saccade.models.sizing import Arm

    by_name = {arm.name: arm for arm in known}
    found = []
    for text in wanted:
        name, new, given = text.partition("=")
        if not new and name not in by_name:
            raise ValueError(f"arm '{name}' is unknown; choose from {', '.join(by_name)}, or write name=MODEL")
        found.append(Arm(name=name, model=model(given)) if new else by_name[name])
    return tuple(found)
