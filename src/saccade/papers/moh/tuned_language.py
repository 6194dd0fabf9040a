"""The bundled language model as it is and with fewer heads for a token, before and after a short tuning."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoTokenizer

from saccade.attach import attach
from saccade.data.text import Source, Split, read_text
from saccade.metrics import masked_bound
from saccade.models import path
from saccade.papers.moh.system import MoH
from saccade.systems.dense import Dense
from saccade.train.loop import Fit, fit
from saccade.train.masked import MaskedStage, MaskedTask
from saccade.train.optimisers import Optim

MODEL = "shakespeare-lm"
SYSTEMS = {"eight heads": Dense(), "six of eight": MoH()}


@dataclass(frozen=True, kw_only=True)
class LanguageTuning:
    """Steps of a batch of 16 windows of the corpus; `texts`: held-out windows that bounds are taken of."""

    corpus: Source = "shakespeare"
    steps: int = 40
    characters: int = 128
    texts: int = 24

    def rows(self, work: Path, progress: Callable[[int, int, str], None]) -> Iterable[dict[str, Any]]:
        """Bounds of every held-out text, in nats a character, untuned and tuned."""
        for number, (arm, system) in enumerate(SYSTEMS.items()):
            progress(number, len(SYSTEMS), arm)
            model = AutoModelForMaskedLM.from_pretrained(path(MODEL)).eval()
            with attach(model, system):
                untuned = self.bounds(model)
                self.tune(model, work / arm.replace(" ", "-"))
                tuned = self.bounds(model)
            for text, (before, after) in enumerate(zip(untuned, tuned, strict=True)):
                yield {"arm": arm, "text": text, "untuned": before, "tuned": after}

    def tune(self, model: Any, folder: Path) -> None:
        """Train on, from what the folder holds; the model ends with its averaged weights."""
        optim = Optim(lr=2e-4, muon_lr=5e-4, cooldown=0.5)
        config = Fit(steps=self.steps, precision="no", decay=0.9, optim=optim)
        stage = MaskedStage(fit=config, lengths=(self.characters,), tokens=16 * self.characters, compile=False)
        ids, mask_id = numbers(self.corpus, "train")
        fit(MaskedTask(model, ids, mask_id, stage), config, folder, cpu=True)

    def bounds(self, model: Any) -> list[float]:
        """Of windows spread over the held-out text."""
        ids, mask_id = numbers(self.corpus, "held-out")
        starts = torch.linspace(0, len(ids) - self.characters, self.texts).long()
        texts, noise = ids[starts[:, None] + torch.arange(self.characters)], torch.Generator().manual_seed(0)
        return masked_bound(model, texts, mask_id=mask_id, draws=16, generator=noise).tolist()


@cache
def numbers(corpus: Source, split: Split) -> tuple[Int[Tensor, " all"], int]:
    """A text as the model's tokens, and its mask token."""
    tokenizer = AutoTokenizer.from_pretrained(path(MODEL))
    ids = tokenizer(read_text(corpus, split), verbose=False).input_ids
    return torch.tensor(ids), tokenizer.mask_token_id
