"""The fair comparison of causal language models: each at one budget, on the same text, for the same steps and seeds.

Loss is in nats a token on text that was held out; a cache is what a model keeps while it writes, in `fresh_memories`.
"""

import json
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from saccade.core.catalogue import language_arms
from saccade.data.text import Source, Split, read_text
from saccade.models.macs import macs
from saccade.models.shakespeare_lm import character_tokenizer
from saccade.models.sizing import Arm, build, parameters
from saccade.nn.eval_mode import eval_mode
from saccade.train.causal import CausalLoss, CausalStage, CausalTask, held_out_nats
from saccade.train.checkpoint import trained
from saccade.train.checks import check_positive
from saccade.train.costs import Quartiles, device_of, forward, ratios, step, timed_in_turn
from saccade.train.equal_budget import ArmRun, Begin, EqualBudget
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim
from saccade.train.records import MEASURED

ARMS = (Arm(name="attention", model="CausalLM"), *(Arm(name=n, model=m) for n, m in language_arms().items()))
BACKWARD = 3  # multiply-adds of a training step for each of a forward


@dataclass(frozen=True)
class Texts:
    """Tokens to train on and tokens held out, of a vocabulary."""

    train: Int[Tensor, " all"]
    held: Int[Tensor, " some"]
    vocabulary: int


@dataclass(frozen=True, kw_only=True)
class LanguageComparison(EqualBudget):
    """As `EqualBudget`, of models that tell the next character.

    source    of the text: shakespeare, or captions, which need no file
    length    of a window, in characters; `windows` of them are held out
    measured  the final loss, on `windows`; along the run, `fit.measure_every` steps apart, on `glimpsed` of them
    Raises ValueError for options out of range.
    """

    arms: tuple[Arm, ...] = ARMS
    width: int = 128
    source: Source = "shakespeare"
    length: int = 128
    windows: int = 128
    glimpsed: int = 16
    fit: Fit = field(
        default_factory=lambda: Fit(
            steps=1000, precision="no", decay=0.99, log_every=20, save_every=500, sheet_every=10**9, measure_every=100,
            optim=Optim(lr=3e-3, muon_lr=1e-2),
        )
    )  # fmt: skip

    baseline: ClassVar[str] = "CausalLM"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(length=self.length, windows=self.windows, glimpsed=self.glimpsed)
        whole = 2 * self.heads  # rotary positions turn pairs of a head's channels
        steps = (replace(arm, step=whole) if arm.scaled == "width" and arm.step % whole else arm for arm in self.arms)
        object.__setattr__(self, "arms", tuple(steps))

    def open(self) -> Texts:
        """The text."""
        return Texts(numbers(self.source, "train"), numbers(self.source, "held-out"), len(character_tokenizer()))

    def base(self, source: Texts) -> dict[str, Any]:
        """Options that every model gets, where it has them."""
        hidden = 8 * round(self.width / 3)  # 8/3 of the width, in eights
        sizes = {name: getattr(self, name) for name in ("depth", "width", "heads")}
        return {**sizes, "vocabulary": source.vocabulary, "ffn": f"swiglu(hidden={hidden})"}

    def multiply_adds(self, model: nn.Module, base: dict[str, Any]) -> float:
        """Of a forward of one window, by token."""
        with eval_mode(model):
            return macs(model, self.example(1, device_of(model))) / self.length

    def runs(self, folder: Path, source: Texts) -> Begin:
        """Runs on one text."""
        return lambda arm, options, seed: LanguageRun(self, arm, options, seed, source)

    def times(self, rounds: int, device: torch.device | str = "cpu") -> dict[str, dict[str, Quartiles]]:
        """Seconds of a forward, a training step and a written token behind a window, as ratios to the first arm's."""
        given = (self.example(self.batch, device),)
        kinds = {
            "forward": partial(forward, given=given), "step": partial(step, given=given),
            "decode": partial(written, start=given[0][:1]),
        }  # fmt: skip
        return ratios(timed_in_turn(self.models(device), kinds, rounds=rounds), self.arms[0].name)

    def example(self, rows: int, device: torch.device | str) -> Int[Tensor, "b n"]:
        """Windows that say nothing."""
        return torch.zeros(rows, self.length, dtype=torch.long, device=device)


@dataclass(frozen=True)
class LanguageRun(ArmRun):
    """One arm with one seed."""

    comparison: LanguageComparison
    source: Texts

    def trained(self, folder: Path) -> nn.Module:
        """The model after its steps, with averaged weights."""
        comparison = self.comparison
        torch.manual_seed(self.seed)
        model = build(self.arm.model, **self.options)
        stage = CausalStage(
            fit=replace(comparison.fit, seed=self.seed), length=comparison.length, batch=comparison.batch
        )
        task = MeasuredTask(model, self.source, stage, comparison.glimpsed)
        settings = {"fit": stage.fit, **task.settings, "model": {**self.options, **self.made}}
        fit(task, stage.fit, folder, settings=settings)
        return model

    def restored(self, folder: Path) -> nn.Module:
        """The model of a finished run, with its averaged weights."""
        model = build(self.arm.model, **self.options)
        CausalLoss(model).load_state_dict(trained(folder))
        return model.eval()

    def result(self, model: nn.Module, folder: Path) -> dict[str, Any]:
        """`loss` on held-out text, what the model costs and keeps, and the curve of its held-out loss."""
        comparison = self.comparison
        spent = comparison.multiply_adds(model, self.options)
        a_step = BACKWARD * spent * comparison.length * comparison.batch
        lines = [json.loads(line) for line in (folder / MEASURED).read_text().splitlines()]
        last = json.loads((folder / "loss.jsonl").read_text().splitlines()[-1])
        nats = held_out_nats(model, self.source.held, length=comparison.length, windows=comparison.windows)
        return {
            "parameters": parameters(model), "macs": spent, "cache_bytes": cache_bytes(model, comparison.length),
            "loss": float(nats.mean()), "seconds": last["seconds"],
            "curve": [(line["step"], line["step"] * a_step, line["held_out"]) for line in lines],
        }  # fmt: skip


class MeasuredTask(CausalTask):
    """A `CausalTask` that also measures some held-out windows along its run."""

    def __init__(self, model: nn.Module, texts: Texts, stage: CausalStage, windows: int) -> None:
        super().__init__(model, texts.train, stage)
        self.held, self.windows = texts.held, windows

    def measures(self) -> dict[str, float]:
        """Nats a token."""
        nats = held_out_nats(self.module.model, self.held, length=self.stage.length, windows=self.windows)
        return {"held_out": float(nats.mean())}


@cache
def numbers(source: Source, split: Split) -> Int[Tensor, " all"]:
    """A text as characters' numbers."""
    return torch.tensor(character_tokenizer()(read_text(source, split), verbose=False).input_ids)


@torch.no_grad()
def cache_bytes(model: nn.Module, tokens: int) -> float | None:
    """What a model keeps of a text of so many tokens, in bytes a token; None for one that keeps no memories."""
    try:
        memories = model.fresh_memories()  # type: ignore[operator]
    except (AttributeError, ValueError):
        return None
    with eval_mode(model):
        model(torch.zeros(1, tokens, dtype=torch.long, device=device_of(model)), memories)
    return sum(memory.size for memory in memories) / tokens


@torch.no_grad()
def written(model: nn.Module, start: Int[Tensor, "1 n"], tokens: int = 8) -> None:
    """Read a text but for its last tokens, and go through those one by one, with memories where the model has some."""
    with eval_mode(model):
        try:
            memories = model.fresh_memories()  # type: ignore[operator]
        except (AttributeError, ValueError):
            memories = None
        for end in range(start.shape[1] - tokens, start.shape[1]):
            first = end == start.shape[1] - tokens or memories is None
            piece = start[:, : end + 1] if first else start[:, end : end + 1]
            model(piece, *(() if memories is None else (memories,)))
