"""Rows of a bench in one JSON file, written after each case: what is cut short loses nothing, and is gone on with.

{"device": ..., "date": ..., "versions": {...}, "settings": {...}, "rows": [{"case": ..., ...}], "left": []}
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from saccade.experiments.experiment import Progress
from saccade.experiments.results import Row
from saccade.metrics.machine import device_name, versions
from saccade.train.checkpoint import write_atomically

MORE = "give it more time, or a file to go on with"

Case = Callable[[], Iterable[Row]]
SAME = ("device", "versions", "settings")  # figures that differ in one of these stand in files of their own


@dataclass(kw_only=True, eq=False)
class BenchFile:
    """The rows of one bench on one machine.

    file      kept after every case; None keeps nothing
    settings  of the bench, plain values
    device    as torch names it
    seconds   after which no further case begins; None for no limit
    rows      of all cases measured so far, each with the name of its "case"
    left      cases there was no time for

    Raises ValueError where `file` holds figures of other settings, another machine or other versions.
    """

    file: Path | None
    settings: Mapping[str, Any]
    device: str = "cpu"
    seconds: float | None = None
    rows: list[Row] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"seconds={self.seconds} must be positive")
        if self.file is not None and self.file.exists():
            self.rows = self._resumed(self.file)

    def run(self, cases: Mapping[str, Case], progress: Progress = lambda done, total, what: None) -> list[Row]:
        """Measure the cases that the file does not hold yet, or with an "error", one by one while there is time."""
        failed = {row["case"] for row in self.rows if "error" in row}
        self.rows = [row for row in self.rows if row["case"] not in failed]
        started, measured = time.monotonic(), {row["case"] for row in self.rows}
        self.left = [name for name in cases if name not in measured]
        for name in tuple(self.left):
            if self.seconds is not None and time.monotonic() - started > self.seconds:
                break
            progress(len(cases) - len(self.left), len(cases), name)
            self.rows += [{"case": name} | row for row in cases[name]()]
            self.left.remove(name)
            self._write()
        return self.rows

    def note(self) -> str | None:
        """What to say of cases that are left, None where all are measured."""
        if not self.left:
            return None
        shown = ", ".join(self.left[:3]) + (f" and {len(self.left) - 3} more" if len(self.left) > 3 else "")
        return f"no time for {shown}; " + ("run it again to go on" if self.file else MORE)

    def _about(self) -> dict[str, Any]:
        return {
            "device": device_name(self.device),
            "date": datetime.now(UTC).date().isoformat(),
            "versions": versions(),
            "settings": json.loads(json.dumps(self.settings)),
        }

    def _write(self) -> None:
        if self.file is None:
            return
        about = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in self._about().items())
        rows = ",\n".join(f"  {json.dumps(row)}" for row in self.rows)
        text = f'{{\n{about},\n "rows": [\n{rows}\n ],\n "left": {json.dumps(self.left)}\n}}\n'
        write_atomically(self.file, lambda path: path.write_text(text))

    def _resumed(self, file: Path) -> list[Row]:
        try:
            found = json.loads(file.read_text())
            rows = found["rows"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"file='{file}' is not a bench's; name another, or remove it") from error
        about = self._about()
        if differ := [name for name in SAME if found.get(name) != about[name]]:
            shown = "; ".join(f"{name}: {found.get(name)} there, {about[name]} here" for name in differ)
            raise ValueError(f"file='{file}' holds figures of another run ({shown}); name another file, or remove it")
        return rows
