"""An experiment: settings, parts that give rows, sections of a page. Seeds, resuming and files are the harness's.

EXPERIMENT = Experiment(name="moh", settings=Settings(), quick=Settings(steps=4, seeds=(0,)), hours=0.3, sections=...)

@EXPERIMENT.part(per_seed=True)
def conversion(bench: Bench[Settings]) -> Iterable[Row]: ...
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch

from saccade.experiments.claims import Claim
from saccade.experiments.page import Section, fill
from saccade.experiments.results import Results, Row, file_of, rounded
from saccade.metrics.machine import best_device, device_name, versions
from saccade.train.checkpoint import write_atomically
from saccade.train.settings import SETTINGS, keep_settings

S = TypeVar("S")
USUAL_THREADS = torch.get_num_threads()  # before any experiment sets its own
Progress = Callable[[int, int, str], None]  # done, in all, what runs now


@dataclass(frozen=True, kw_only=True)
class Bench(Generic[S]):
    """What a part is run with.

    settings  of the experiment; those of its quick form in a quick run
    work      folder of this part, kept until the experiment is done: checkpoints go here
    seed      of this call
    progress  to be called with what is done, of how much, and what runs now
    """

    settings: S
    work: Path
    seed: int = 0
    progress: Progress = lambda done, total, what: None


@dataclass(frozen=True, kw_only=True)
class Part(Generic[S]):
    """A function from a bench to rows, which become the table of its name.

    per_seed  called once for each of `settings.seeds`, its rows marked with the seed
    tables    its rows name their table themselves, under "table"
    """

    name: str
    rows: Callable[[Bench[S]], Iterable[Row]]
    per_seed: bool
    tables: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment(Generic[S]):
    """Declared once, run by `saccade reproduce`.

    name      as the command takes it; of its page and its results
    settings  a frozen dataclass; `seeds` among its fields where a part runs by seed
    quick     the same, so small that everything runs in seconds
    hours     about, on two CPU cores
    sections  by the mark on the page they fill
    claims    with the verdicts, printed after a run
    page      below `docs/`; by default that of the paper
    threads   of torch, None for its own choice; figures of trainings depend on them
    device    where its parts run, as results say: the "cpu", or the "best" there is
    dated     results are filed by device and date, so that later ones stand beside earlier ones
    """

    name: str
    settings: S
    quick: S
    hours: float
    sections: Mapping[str, Section] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    page: str = ""
    threads: int | None = 1
    device: Literal["cpu", "best"] = "cpu"
    dated: bool = False
    parts: dict[str, Part[S]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.page:
            object.__setattr__(self, "page", f"papers/{self.name}.md")

    def part(
        self, *, per_seed: bool = False, tables: bool = False, name: str = ""
    ) -> Callable[[Callable[[Bench[S]], Iterable[Row]]], Callable[[Bench[S]], Iterable[Row]]]:
        """Declare a part: its function's name, unless another is given, is its table's."""

        def declare(rows: Callable[[Bench[S]], Iterable[Row]]) -> Callable[[Bench[S]], Iterable[Row]]:
            made = Part(name=name or rows.__name__, rows=rows, per_seed=per_seed, tables=tables)
            self.parts[made.name] = made
            return rows

        return declare

    def run(
        self,
        work: Path,
        *,
        only: Iterable[str] = (),
        quick: bool = False,
        progress: Progress = lambda done, total, what: None,
    ) -> Results:
        """Run all parts, or those of `only`; what lies in `work` is not run again.

        Raises ValueError for a part there is not, and for a folder with results of other settings.
        """
        settings = self.quick if quick else self.settings
        check_parts(only, self.parts)
        keep_settings(work / SETTINGS, settings)
        torch.set_num_threads(self.threads or USUAL_THREADS)
        found = Results(
            device=device_name(best_device() if self.device == "best" else "cpu"),
            date=datetime.now(UTC).date().isoformat(),
            versions=versions(),
            settings=plain(settings),
        )
        for part in self.parts.values():
            if not only or part.name in only:
                self._run(part, settings, work, found, progress)
        return found

    def publish(self, found: Results, docs: Path) -> None:
        """Keep results below the folder of the documentation, and fill the page from what is kept.

        An experiment without parts has none to keep: its page says what the package itself holds.
        """
        if self.parts:
            file = file_of(docs / "results", self.name, found.device, found.date if self.dated else "")
            found.save(file)
            found = Results.load(file)
        fill(docs / self.page, self.name, self.sections, found)

    def _run(self, part: Part[S], settings: S, work: Path, found: Results, progress: Progress) -> None:
        seeds: tuple[int | None, ...] = settings.seeds if part.per_seed else (None,)  # type: ignore[attr-defined]
        for number, seed in enumerate(seeds):
            label = f"{self.name}: {part.name}" + ("" if seed is None else f", seed {seed}")
            progress(number, len(seeds), label)
            bench = Bench(settings=settings, work=work / part.name, seed=seed or 0, progress=_labelled(progress, label))
            spent, rows = _kept(work / f"{part.name}{'' if seed is None else f'-{seed}'}.json", part, bench)
            found.seconds[part.name] = found.seconds.get(part.name, 0.0) + spent
            for row in rows:
                table = row.pop("table") if part.tables else part.name
                marked = row if seed is None or "seed" in row else {"seed": seed} | row
                found.tables.setdefault(table, []).append(marked)


def check_parts(only: Iterable[str], parts: Mapping[str, Any]) -> None:
    """Raise ValueError for a part there is not."""
    for name in only:
        if name not in parts:
            raise ValueError(f"only='{name}' is no part; choose from {', '.join(parts)}")


def plain(settings: Any) -> dict[str, Any]:
    """Settings as plain values."""
    return json.loads(json.dumps(rounded(asdict(settings)), default=str))


def _kept(file: Path, part: Part[Any], bench: Bench[Any]) -> tuple[float, list[Row]]:
    """Seconds and rows of one call, made now unless the file holds them."""
    if not file.exists():
        started = time.perf_counter()
        rows = list(part.rows(bench))
        text = json.dumps({"seconds": time.perf_counter() - started, "rows": rows})
        write_atomically(file, lambda path: path.write_text(text))
    found = json.loads(file.read_text())
    return found["seconds"], found["rows"]


def _labelled(progress: Progress, label: str) -> Progress:
    return lambda done, total, what: progress(done, total, f"{label}: {what}" if what else label)
