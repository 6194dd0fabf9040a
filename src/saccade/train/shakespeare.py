"""The recipe of the shipped `shakespeare-lm`: train, export, evaluate.

A finished training is not run again, a killed one goes on: repeat the command to resume.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.models.modernbert.modeling_modernbert import ModernBertForMaskedLM

from saccade.data.text import Source, Split, read_text
from saccade.metrics.language import masked_bound, pseudo_nll
from saccade.models.shakespeare_lm import MASK, ShakespeareLM, character_tokenizer
from saccade.runs import generate
from saccade.train.checkpoint import trained, write_atomically
from saccade.train.checks import check_positive
from saccade.train.loop import finished, fit
from saccade.train.masked import MaskedLoss, MaskedStage, MaskedTask
from saccade.train.settings import check_run, flat

Stage = Literal["train", "export", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`windows` of held-out text as long as the model's context; `draws`: of masked tokens for each.

    A sample goes on from `prompt` for `length` tokens in blocks of `block`.
    Raises ValueError for options out of range.
    """

    windows: int = 64
    draws: int = 8
    prompt: str = "ROMEO:\n"
    length: int = 192
    steps: int = 192
    block: int = 8
    temperature: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(draws=self.draws)
        if self.windows < 2:
            raise ValueError(f"windows={self.windows} must be at least 2; their spread gives the error")


@dataclass(frozen=True, kw_only=True)
class ShakespeareRecipe:
    """Everything that decides the result; `seed` of the random start, `source` of the text."""

    seed: int = 0
    source: Source = "shakespeare"
    model: ShakespeareLM = field(default_factory=ShakespeareLM)
    train: MaskedStage = field(default_factory=MaskedStage)
    evaluation: Evaluation = field(default_factory=Evaluation)

    free: ClassVar[tuple[str, ...]] = ("evaluation",)

    def run(self, folder: Path, stages: Sequence[Stage] = STAGES) -> Path:
        """Run `stages` in order, each taking over what earlier ones left in `folder`; returns the model's folder."""
        torch.manual_seed(self.seed)
        check_run(folder / "train", self)
        if "train" in stages and not finished(self.train.fit, folder / "train"):
            task = MaskedTask(self.model.model(), self._ids("train"), MASK, self.train)
            fit(task, self.train.fit, folder / "train", settings=flat(self))
        if "export" in stages:
            model = self.model.model()
            MaskedLoss(model, MASK, compiled=False).load_state_dict(trained(folder / "train"))
            export(model, character_tokenizer(self.model.context), folder / "model")
        if "evaluate" in stages:
            self._evaluate(folder / "model")
        return folder / "model"

    def _ids(self, split: Split) -> Int[Tensor, " all"]:
        return torch.tensor(character_tokenizer()(read_text(self.source, split), verbose=False).input_ids)

    def _evaluate(self, folder: Path) -> None:
        model, wanted = ModernBertForMaskedLM.from_pretrained(folder), self.evaluation
        found = {
            "source": self.source,
            "split": "held-out",
            **score(model, self._ids("held-out"), wanted, context=self.model.context),
            "sample": sample(model, wanted),
        }
        text = json.dumps({"measured": found}, indent=1) + "\n"
        write_atomically(folder / "measured.json", lambda path: path.write_text(text))


def score(
    model: ModernBertForMaskedLM, ids: Int[Tensor, " all"], wanted: Evaluation, *, context: int
) -> dict[str, Any]:
    """Nats a token: the bound on all tokens, each token given all others, and what the frequencies alone would cost."""
    starts = torch.linspace(0, len(ids) - context, wanted.windows).long()
    windows = ids[starts[:, None] + torch.arange(context)]
    noise = torch.Generator().manual_seed(wanted.seed)
    shares = ids.bincount() / len(ids)
    nats = {
        "bound": masked_bound(model, windows, mask_id=MASK, draws=wanted.draws, generator=noise),
        "given_all_others": pseudo_nll(model, windows[: max(1, wanted.windows // 16)], mask_id=MASK),
        "frequencies": -(shares * shares.clamp(min=1e-12).log()).sum(),
    }
    means = {name: round(float(value.mean()), 4) for name, value in nats.items()}
    spread = float(nats["bound"].std() / wanted.windows**0.5)
    return {
        "windows": wanted.windows, "draws": wanted.draws, "context": context,
        "nats": means, "nats_of_uniform": round(log(model.config.vocab_size), 4), "bound_error": round(spread, 4),
    }  # fmt: skip


def sample(model: ModernBertForMaskedLM, wanted: Evaluation) -> dict[str, Any]:
    """A text the model wrote, and how."""
    tokenizer = character_tokenizer()
    how = {name: getattr(wanted, name) for name in ("length", "steps", "block", "temperature")}
    prompt = tokenizer(wanted.prompt, return_tensors="pt").input_ids
    noise = torch.Generator().manual_seed(wanted.seed)
    ids = generate(model, prompt, mask_id=MASK, generator=noise, **how)
    return {"prompt": wanted.prompt, **how, "seed": wanted.seed, "text": tokenizer.decode(ids[0])}


def export(model: ModernBertForMaskedLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Store model and tokenizer, in half precision, in such a way that plain `from_pretrained` loads it in single."""
    half = {name: value.half() for name, value in model.state_dict().items() if name != "decoder.weight"}  # it is tied
    model.save_pretrained(folder, state_dict=half)
    tokenizer.save_pretrained(folder)
