"""One training loop for every task: resumable after a kill, with the same final weights.

A step draws everything random (data, noise) from the seed and its own number, so a checkpoint needs no position beyond
the step: weights, optimisers and average are its whole state. Same machine, same thread count: same bits.
Several processes draw the same batch and take their rows of it: their weights are those of one, up to rounding.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
import torch
from accelerate.utils import broadcast, send_to_device
from torch import Tensor, nn

from saccade.train.averaging import Average
from saccade.train.checkpoint import CHECKPOINT, RESULT, load_state, result_length, save_result, save_state
from saccade.train.checks import check_positive
from saccade.train.launching import accelerator
from saccade.train.optimisers import Optim, optimisers, rate_at, set_rate
from saccade.train.plots import plot_losses, save_picture
from saccade.train.records import Records, bar
from saccade.train.settings import SETTINGS, check_run, write_settings
from saccade.train.shards import FSDPModule, gathered, shard_, spread, spread_optimiser, whole
from saccade.train.split_batch import split_batch
from saccade.train.stopping import stopping
from saccade.train.task import Batch
from saccade.train.task import Task as Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How long and how to train; the run ends at `steps` or `minutes`, whichever comes first.

    Who goes on with a run must have its settings, but for those in `free`. Its length is one of these: a run goes on to
    a greater one, even if it was finished, its learning rate by the share of the new length that is done.

    decay        of the average
    accumulate   parts in which a batch is worked through, one after the other, to save memory
    shard        weights and optimiser states are shared out among the processes (FSDP2), not held by each (DDP)
    find_unused  let DDP look for weights that a step leaves out, such as those of experts without tokens
    compile      run the module through torch.compile
    tensorboard  also write its files, into `tensorboard/`
    log_every, save_every, sheet_every   in steps
    measure_every   in steps, for a task that measures; None: never
    Raises ValueError for options out of range.
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    precision: Literal["bf16", "no"] = "bf16"
    decay: float = 0.999
    log_every: int = 20
    save_every: int = 200
    sheet_every: int = 1000
    measure_every: int | None = None
    accumulate: int = 1
    shard: bool = False
    find_unused: bool = False
    compile: bool = False
    tensorboard: bool = False
    optim: Optim = field(default_factory=Optim)

    free: ClassVar[tuple[str, ...]] = (
        *("steps", "minutes", "log_every", "save_every", "sheet_every", "measure_every", "tensorboard"),
        *("shard", "find_unused", "compile"),  # the same weights up to rounding
    )

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, minutes=self.minutes, log_every=self.log_every, save_every=self.save_every)
        check_positive(sheet_every=self.sheet_every, accumulate=self.accumulate, measure_every=self.measure_every)
        if self.shard and self.optim.flatten:
            raise ValueError("shard=True and optim.flatten=True do not go together; leave one of them out")
        if self.steps is None and self.minutes is None:
            raise ValueError("steps=None and minutes=None leave no end; give one of them")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done."""
        by_step = step / self.steps if self.steps else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_step, by_time))


def fit(
    task: Task, config: Fit, folder: Path, *, cpu: bool = False, settings: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """Train `task.module`, or go on where a killed or shorter run stopped; returns the averaged weights.

    Several processes, as `accelerate launch` starts them, draw the same batches and take a share of the rows each.
    Writes `checkpoint.pt`, `loss.jsonl`, `loss.png`, `sheet-*.png` and at the end `average.safetensors` into `folder`,
    and `measured.jsonl` of a task that measures.
    `task.module` ends with the averaged weights. `cpu`: stay there even if there is an accelerator.
    `settings`: all that decides the result, `config` included; None: `config` and what the task says in its own
    attribute `settings`. They are kept in `settings.json`.
    Ctrl-C ends it when its step is done, which is saved first.
    Raises ValueError for a folder with a run of other settings or of another model, or with files that are not whole.
    """
    decides = {"fit": config, **getattr(task, "settings", {})} if settings is None else settings
    return _Run(task, config, folder, cpu, decides).train()


def finished(config: Fit, folder: Path) -> bool:
    """Whether the training in `folder` has its result and is as long as `config` asks.

    Raises ValueError for a result that is not whole.
    """
    if (length := result_length(folder)) is None:
        return False
    if config.progress(*length) < 1:
        log.info("%s: finished at step %d, goes on to a greater length", folder.name, length[0])
        return False
    log.info("%s: finished at step %d, nothing left to train", folder.name, length[0])
    return True


class _Run:
    def __init__(self, task: Task, config: Fit, folder: Path, cpu: bool, settings: Mapping[str, Any]) -> None:
        self.task, self.config, self.folder = task, config, folder
        self.settings = settings
        folder.mkdir(parents=True, exist_ok=True)
        check_run(folder, settings)
        self.accelerator = accelerator(config, cpu=cpu)
        self.module, self.optimisers = self._prepare()
        self.plain: nn.Module = self.accelerator.unwrap_model(self.module)
        self.average = Average(self.plain, config.decay)
        self.step, self.seconds = 0, 0.0
        self._resume()
        self.records = Records(folder, self.accelerator, self.step, tensorboard=config.tensorboard)

    def _prepare(self) -> tuple[nn.Module, list[Any]]:
        module, accelerator = self.task.module, self.accelerator
        module.to(accelerator.device)
        if self.config.compile:
            module.compile()
        if self.config.shard:
            shard_(module, accelerator.device, accelerator.num_processes)
        made = optimisers(module, self.task.uses_muon, self.config.optim)
        if self.config.shard:
            return module, [accelerator.prepare_optimizer(optimiser) for optimiser in made]
        module, *made = accelerator.prepare(module, *made)
        return module, made

    def train(self) -> dict[str, Tensor]:
        if self.config.progress(self.step, self.seconds) < 1 and self.accelerator.is_main_process:
            (self.folder / RESULT).unlink(missing_ok=True)  # of a shorter run, all of which is in the checkpoint
        with bar(self.folder.name) as show, stopping() as asked:
            while (progress := self.config.progress(self.step, self.seconds)) < 1:
                started = time.perf_counter()
                self._advance(rate_at(progress, self.config.optim))
                self.seconds = self._agreed(self.seconds + time.perf_counter() - started)
                self._keep_records()
                show(progress, self.records.shown)
                if asked():
                    self._stop()
        return self._finish()

    def _stop(self) -> NoReturn:
        self._save()
        log.info("%s: stopped at step %d, which is saved; the same command goes on", self.folder.name, self.step)
        raise KeyboardInterrupt

    def _advance(self, rate: float) -> None:
        rng = np.random.default_rng([self.config.seed, self.step, 0])
        torch.manual_seed(int(rng.integers(2**63)) + self.accelerator.process_index)
        self.records.add(self._backward(self._parts(rng)), rate)
        if self.config.optim.clip is not None:
            self.accelerator.clip_grad_norm_(self.plain.parameters(), self.config.optim.clip)
        set_rate(self.optimisers, rate)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.average.update_(self.plain, self.step)
        self.step += 1

    def _parts(self, rng: np.random.Generator) -> list[Batch]:
        """What this process has to work through in this step."""
        at = {"process": self.accelerator.process_index, "processes": self.accelerator.num_processes}
        shared = getattr(self.task, "shared", ())
        return split_batch(self.task.batch(rng), accumulate=self.config.accumulate, shared=shared, **at)

    def _backward(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Add up the gradients of the mean of the parts' losses; returns their mean losses."""
        found: list[dict[str, Tensor]] = []
        for i, part in enumerate(parts):
            with self._alone(last=i == len(parts) - 1), self.accelerator.autocast():
                losses = self.module(send_to_device(part, self.accelerator.device, non_blocking=True))
                self.accelerator.backward(losses["loss"] / len(parts))
            found.append({name: value.detach() for name, value in losses.items()})
        return {name: sum(losses[name] for losses in found) / len(parts) for name in found[0]}  # type: ignore[misc]

    def _alone(self, *, last: bool) -> AbstractContextManager[object]:
        """Gradients stay where they are before the last part."""
        if isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(last)
            return nullcontext()
        return nullcontext() if last else self.accelerator.no_sync(self.module)

    def _agreed(self, seconds: float) -> float:
        """The main process's clock, by which all of them stop."""
        if self.accelerator.num_processes == 1 or self.config.minutes is None:
            return seconds
        return float(broadcast(torch.tensor(seconds, device=self.accelerator.device)))  # type: ignore[arg-type]

    def _keep_records(self) -> None:
        if self.step % self.config.log_every == 0:
            self.records.write(self.step, self.seconds)
        if self.step % self.config.save_every == 0:
            self._save()
        if self.step % self.config.sheet_every == 0:
            self._draw()
        if self.config.measure_every and self.step % self.config.measure_every == 0:
            self._measure()

    def _save(self) -> None:
        if self.records.pending:
            self.records.means()  # a loss that is no number is never stored
        state = {
            "module": whole(self.plain.state_dict()),
            "average": whole(self.average.state),
            "optimisers": [whole(optimiser.state_dict()) for optimiser in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
        }
        if self.accelerator.is_main_process:
            write_settings(self.folder / SETTINGS, self.settings)
            save_state(self.folder / CHECKPOINT, state)

    def _resume(self) -> None:
        state = load_state(self.folder / CHECKPOINT)
        if state is None and (self.folder / RESULT).exists():
            raise ValueError(
                f"{self.folder} holds {RESULT} without {CHECKPOINT}, from which alone a training goes on; "
                "name another folder, or remove the result to begin anew"
            )
        if state is not None:
            self._take(state)
            log.info("%s: going on at step %d", self.folder.name, self.step)

    def _take(self, state: dict[str, Any]) -> None:
        try:
            like = self.plain.state_dict()
            self.plain.load_state_dict(spread(state["module"], like))
            self.average.load(spread(send_to_device(state["average"], self.accelerator.device), like))
            for optimiser, stored in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(spread_optimiser(stored, optimiser))
            self.step, self.seconds = state["step"], state["seconds"]
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.folder / CHECKPOINT} is not of this {type(self.task.module).__name__} and its optimisers: "
                f"{' '.join(str(error).split())}; name another folder"
            ) from None

    def _measure(self) -> None:
        if self.accelerator.is_main_process or self.config.shard:
            with self._averaged():
                found: dict[str, float] = self.task.measures()  # type: ignore[attr-defined]
            if self.accelerator.is_main_process:
                self.records.measure(self.step, found)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The module with its averaged weights, whole on every process."""
        weights = {name: value.clone() for name, value in self.plain.state_dict().items()}
        self.plain.load_state_dict(self.average.state)
        with gathered(self.plain):
            yield
        self.plain.load_state_dict(weights)

    def _draw(self) -> None:
        main = self.accelerator.is_main_process
        if not main and not self.config.shard:
            return
        with self._averaged():
            picture = self.task.sheet()
        if main:
            plot_losses(self.folder / "loss.jsonl", self.folder / "loss.png")
        if main and picture is not None:
            save_picture(self.folder / f"sheet-{self.step:06d}.png", picture)

    def _finish(self) -> dict[str, Tensor]:
        if self.records.pending:
            self.records.write(self.step, self.seconds)
        self._save()
        self._draw()
        final = {name: value.cpu().contiguous() for name, value in whole(self.average.state).items()}
        if self.accelerator.is_main_process:
            save_result(self.folder, final, step=self.step, seconds=self.seconds)
        self.plain.load_state_dict(self.average.state)
        self.records.close()
        self.accelerator.wait_for_everyone()
        return final
