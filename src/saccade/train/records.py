"""Records of a run: lines of JSON, TensorBoard, a progress bar. Losses wait on their device until then."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from saccade.core.errors import SaccadeError
from saccade.train.checkpoint import keep_lines_until

MEASURED = "measured.jsonl"


class DivergedError(SaccadeError):
    """The loss became NaN or infinite."""


class Records:
    """Losses since the last line. Lines after `step`, of a run killed after its last checkpoint, are dropped."""

    def __init__(self, folder: Path, accelerator: Accelerator, step: int, *, tensorboard: bool) -> None:
        self.file, self.measured, self.accelerator = folder / "loss.jsonl", folder / MEASURED, accelerator
        self.first, self.pending = step, list[dict[str, Tensor]]()
        self.rate, self.shown = 0.0, float("nan")
        self.writer = _writer(folder, step) if tensorboard and accelerator.is_main_process else None
        if accelerator.is_main_process:
            keep_lines_until(self.file, step)
            keep_lines_until(self.measured, step)

    def add(self, losses: dict[str, Tensor], rate: float) -> None:
        """Keep one step's losses."""
        self.pending.append(losses)
        self.rate += rate

    def means(self) -> dict[str, float]:
        """Mean losses over the steps kept and over the processes, which must all ask.

        Raises DivergedError naming the first step whose loss is no finite number.
        """
        names = list(self.pending[0])
        table = torch.stack([torch.stack([losses[name].float() for name in names]) for losses in self.pending])
        found: Tensor = self.accelerator.reduce(table, reduction="mean")  # type: ignore[assignment]
        for i, loss in enumerate(found[:, names.index("loss")].tolist()):
            if not isfinite(loss):
                raise DivergedError(
                    f"loss={loss} at step {self.first + i + 1}; lower optim.lr, or try precision='no'. "
                    "The last checkpoint is from before it"
                )
        return dict(zip(names, found.double().mean(0).tolist(), strict=True))

    def write(self, step: int, seconds: float) -> None:
        """Write the means, and begin anew."""
        means = self.means() | {"rate": self.rate / len(self.pending)}
        if self.accelerator.is_main_process:
            with self.file.open("a") as file:
                file.write(json.dumps({"step": step, "seconds": round(seconds, 2), **means}) + "\n")
        if self.writer is not None:
            for name, value in means.items():
                self.writer.add_scalar(name, value, step)
            self.writer.flush()
        self.first, self.pending, self.rate, self.shown = step, [], 0.0, means["loss"]

    def measure(self, step: int, found: Mapping[str, float]) -> None:
        """Write what the task measured at a step."""
        with self.measured.open("a") as file:
            file.write(json.dumps({"step": step, **found}) + "\n")

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self.writer is not None:
            self.writer.close()


def _writer(folder: Path, step: int) -> Any:
    if find_spec("tensorboardX") is None:
        raise ImportError("tensorboard=True needs tensorboardX: pip install 'saccade[train]'")
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)


@contextmanager
def bar(name: str) -> Iterator[Any]:
    """A progress bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = TextColumn(name), BarColumn(), TextColumn("{task.fields[loss]}"), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        shown = progress.add_task(name, total=1.0, loss="")
        yield lambda done, loss: progress.update(shown, completed=done, loss="" if isnan(loss) else f"loss {loss:.4f}")
