"""One training loop for every task: resumable after a kill, with the same final weights.

A step draws everything random (data, noise) from the seed and its own number, so a checkpoint needs no position beyond
the step: weights, optimisers and average are its whole state. Same machine, same thread count: same bits.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors.torch import save_file
from torch import Tensor, nn

from saccade.train.averaging import Average
from saccade.train.checkpoint import keep_lines_until, load_state, save_state, write_atomically
from saccade.train.checks import check_positive
from saccade.train.optimisers import Optim, optimisers, rate_at, set_rate
from saccade.train.plots import plot_losses, save_picture

log = logging.getLogger(__name__)
Batch = Any


class Task(Protocol):
    """What is trained, and on what."""

    @property
    def module(self) -> nn.Module:
        """The trained module; `module(batch)` returns named losses, of which `loss` is minimised."""
        ...

    def batch(self, rng: np.random.Generator) -> Batch:
        """A fresh batch, a nest of tensors, that depends on `rng` alone."""
        ...

    def is_hidden(self, name: str) -> bool:
        """Whether the matrix of that name inside `module` is one for Muon."""
        ...

    def sheet(self) -> UInt8[np.ndarray, "h w 3"] | None:
        """A picture of what `module` can do now, or None."""
        ...


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How long and how to train; the run ends at `steps` or `minutes`, whichever comes first.

    `decay`: of the average. `log_every`, `save_every`, `sheet_every`: in steps.
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    precision: Literal["bf16", "no"] = "bf16"
    decay: float = 0.999
    log_every: int = 20
    save_every: int = 200
    sheet_every: int = 1000
    optim: Optim = field(default_factory=Optim)

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, minutes=self.minutes, log_every=self.log_every, save_every=self.save_every)
        if self.steps is None and self.minutes is None:
            raise ValueError("steps=None and minutes=None leave no end; give one of them")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done."""
        by_step = step / self.steps if self.steps else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_step, by_time))


def fit(task: Task, config: Fit, folder: Path, *, cpu: bool = False) -> dict[str, Tensor]:
    """Train `task.module`, or go on where a killed run stopped; returns the averaged weights.

    Writes `checkpoint.pt`, `loss.jsonl`, `loss.png`, `sheet-*.png` and at the end `average.safetensors` into `folder`.
    `task.module` ends with the averaged weights. `cpu`: stay there even if there is an accelerator.
    """
    return _Run(task, config, folder, cpu).train()


class _Run:
    def __init__(self, task: Task, config: Fit, folder: Path, cpu: bool) -> None:
        self.task, self.config, self.folder = task, config, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = Accelerator(cpu=cpu, mixed_precision=config.precision)
        made = optimisers(task.module, task.is_hidden, config.optim)
        self.module, *self.optimisers = self.accelerator.prepare(task.module, *made)
        self.plain: nn.Module = self.accelerator.unwrap_model(self.module)
        self.average = Average(self.plain, config.decay)
        self.step, self.seconds = 0, 0.0
        self._resume()

    def train(self) -> dict[str, Tensor]:
        lines: list[dict[str, float]] = []
        with _bar(self.folder.name) as show:
            while (progress := self.config.progress(self.step, self.seconds)) < 1:
                started = time.perf_counter()
                lines.append(self._advance(rate_at(progress, self.config.optim)))
                self.seconds += time.perf_counter() - started
                show(progress, lines[-1]["loss"])
                self._keep_records(lines)
        return self._finish()

    def _advance(self, rate: float) -> dict[str, float]:
        seed = [self.config.seed, self.step, self.accelerator.process_index]
        rng = np.random.default_rng(seed)
        torch.manual_seed(int(rng.integers(2**63)))
        losses = self.module(send_to_device(self.task.batch(rng), self.accelerator.device))
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(self.plain.parameters(), self.config.optim.clip)
        set_rate(self.optimisers, rate)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.average.update_(self.plain, self.step)
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()} | {"rate": rate}

    def _keep_records(self, lines: list[dict[str, float]]) -> None:
        due = {every: self.step % every == 0 for every in (self.config.log_every, self.config.save_every)}
        if due[self.config.log_every] and self.accelerator.is_main_process:
            mean = {name: float(np.mean([line[name] for line in lines])) for name in lines[0]}
            with (self.folder / "loss.jsonl").open("a") as file:
                file.write(json.dumps({"step": self.step, "seconds": round(self.seconds, 2), **mean}) + "\n")
            lines.clear()
        if due[self.config.save_every]:
            self._save()
        if self.step % self.config.sheet_every == 0:
            self._draw()

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            state = {
                "module": self.plain.state_dict(),
                "average": self.average.state,
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "step": self.step,
                "seconds": self.seconds,
            }
            save_state(self.folder / "checkpoint.pt", state)

    def _resume(self) -> None:
        state = load_state(self.folder / "checkpoint.pt")
        if state is not None:
            self.plain.load_state_dict(state["module"])
            self.average.load(send_to_device(state["average"], self.accelerator.device))
            for optimiser, stored in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(stored)
            self.step, self.seconds = state["step"], state["seconds"]
            log.info("%s: going on at step %d", self.folder.name, self.step)
        keep_lines_until(self.folder / "loss.jsonl", self.step)

    def _draw(self) -> None:
        if not self.accelerator.is_main_process:
            return
        plot_losses(self.folder / "loss.jsonl", self.folder / "loss.png")
        weights = {name: value.clone() for name, value in self.plain.state_dict().items()}
        self.plain.load_state_dict(self.average.state)
        picture = self.task.sheet()
        self.plain.load_state_dict(weights)
        if picture is not None:
            save_picture(self.folder / f"sheet-{self.step:06d}.png", picture)

    def _finish(self) -> dict[str, Tensor]:
        self._save()
        self._draw()
        final = {name: value.cpu().contiguous() for name, value in self.average.state.items()}
        if self.accelerator.is_main_process:
            write_atomically(self.folder / "average.safetensors", lambda path: save_file(final, path))
        self.plain.load_state_dict(self.average.state)
        return final


@contextmanager
def _bar(name: str) -> Iterator[Any]:
    """A progress bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = TextColumn(name), BarColumn(), TextColumn("loss {task.fields[loss]:.4f}"), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(name, total=1.0, loss=float("nan"))
        yield lambda done, loss: progress.update(bar, completed=done, loss=loss)
