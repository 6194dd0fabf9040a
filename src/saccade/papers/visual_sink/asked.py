"""Pictures of one figure and questions about them as texts of ids, and a small Llama that answers.

[begin] [64 patches, row by row] [question] [answer]      a patch's id says its place and its colour, 0 is background
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from saccade.core.layout import Layout, Segment
from saccade.train.causal import CausalStage

SIDE, COLOURS = 8, 4  # the background counts as one
FIGURES = torch.tensor(
    [[[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]],
     [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]],
     [[1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1]],
     [[1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]]]
)  # fmt: skip
PATCHES = SIDE * SIDE
BEGIN = PATCHES * COLOURS
QUESTION = BEGIN + 1  # which figure, which colour, how far down
ANSWER = QUESTION + 3  # four figures, three colours, four rows
VOCABULARY = ANSWER + 4 + (COLOURS - 1) + 4
LAYOUT = Layout(
    (Segment("begin", "text", 1), Segment("image", "image", PATCHES, (1, SIDE, SIDE)), Segment("text", "text", 1))
)


@dataclass(frozen=True, eq=False)
class Asked:
    """Texts up to the question, and what answers it."""

    ids: Int[Tensor, "b n"]
    answers: Int[Tensor, " b"]

    @property
    def background(self) -> Bool[Tensor, "b p"]:
        """Which patches are."""
        return self.ids[:, 1 : 1 + PATCHES] % COLOURS == 0


def asked(rng: np.random.Generator, count: int) -> Asked:
    """Pictures with one question each."""
    figure, colour, question = (
        torch.from_numpy(rng.integers(low, high, count)) for low, high in ((0, 4), (1, 4), (0, 3))
    )
    top, left = (torch.from_numpy(rng.integers(0, 4, count)) for _ in range(2))
    levels = torch.zeros(count, SIDE, SIDE, dtype=torch.long)
    for row in range(count):
        levels[row, top[row] : top[row] + 5, left[row] : left[row] + 5] = FIGURES[figure[row]] * colour[row]
    patches = torch.arange(PATCHES) * COLOURS + levels.flatten(1)
    choices = torch.stack((figure, 3 + colour, 7 + top))  # where each question's answers begin
    answers = ANSWER + choices.gather(0, question[None])[0]
    ids = torch.cat((torch.full((count, 1), BEGIN), patches, QUESTION + question[:, None]), dim=1)
    return Asked(ids, answers)


class Answering(nn.Module):
    """Cross-entropy of the answer, and the mean one of the patches."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        config = LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=depth,
            num_attention_heads=width // 16, num_key_value_heads=width // 16, tie_word_embeddings=True,
            eos_token_id=None, bos_token_id=None, pad_token_id=None, max_position_embeddings=128,
        )  # fmt: skip
        self.host = LlamaForCausalLM(config)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Float[Tensor, ""]]:
        logits = self.host(batch["ids"], use_cache=False).logits
        answer = F.cross_entropy(logits[:, -1], batch["answers"])
        patches = F.cross_entropy(logits[:, :-2].flatten(0, 1), batch["ids"][:, 1:-1].flatten())
        return {"loss": answer + patches, "answer": answer, "patches": patches}


class AnsweringTask:
    """A `Task`: fresh pictures in every batch."""

    def __init__(self, module: Answering, stage: CausalStage) -> None:
        self.module, self.stage = module, stage

    @property
    def settings(self) -> dict[str, int]:
        return {"batch": self.stage.batch}

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        made = asked(rng, self.stage.batch)
        return {"ids": made.ids, "answers": made.answers}

    def uses_muon(self, name: str) -> bool:
        return False

    def sheet(self) -> None:
        return None


@torch.no_grad()
def right(host: LlamaForCausalLM, given: Asked) -> float:
    """Share of the questions answered rightly; among all words, not only answers."""
    logits = host(given.ids, use_cache=False).logits[:, -1]
    return float((logits.argmax(-1) == given.answers).float().mean())


@torch.no_grad()
def layer_inputs(host: LlamaForCausalLM, given: Asked) -> Float[Tensor, "layers b n c"]:
    """What enters each layer."""
    states = host(given.ids, use_cache=False, output_hidden_states=True).hidden_states
    return torch.stack(states[:-1])
