"""Sums written out, and small models that write them: digits, then after each the sum so far, modulo 10.

3 7 2 9 = 3 0 2 1        the last one is the answer
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from saccade.models.architecture import Prediction
from saccade.papers.kinetics.shapes import Shape

EQUALS, VOCABULARY = 10, 11


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Questions of `digits` digits."""

    digits: int = 24

    def questions(self, rng: np.random.Generator, count: int) -> Int[Tensor, "b n"]:
        """Digits and the mark behind them."""
        drawn = torch.from_numpy(rng.integers(0, 10, (count, self.digits)))
        return torch.cat((drawn, torch.full((count, 1), EQUALS)), dim=1)

    def texts(self, questions: Int[Tensor, "b n"]) -> Int[Tensor, "b m"]:
        """Questions with their sums."""
        return torch.cat((questions, questions[:, :-1].cumsum(1) % 10), dim=1)

    def right(self, questions: Int[Tensor, "b n"], answers: Int[Tensor, "b t"]) -> Bool[Tensor, " b"]:
        """Whether the last sum is."""
        return answers[:, -1] == questions[:, :-1].sum(1) % 10


class Writer(nn.Module):
    """A Llama of some width and depth, heads of 16 channels; answers as the library's own language models do."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        config = LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=depth,
            num_attention_heads=width // 16, num_key_value_heads=max(width // 32, 1), head_dim=16,
            tie_word_embeddings=True, eos_token_id=None, bos_token_id=None, pad_token_id=None,
            max_position_embeddings=256,
        )  # fmt: skip
        self.host = LlamaForCausalLM(config)

    def forward(self, ids: Int[Tensor, "b n"]) -> Prediction:
        return Prediction(self.host(ids, use_cache=False).logits, {})

    @property
    def shape(self) -> Shape:
        """What its texts cost by."""
        config: Any = self.host.config
        return Shape(
            parameters=self.host.num_parameters(), layers=config.num_hidden_layers, heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads, head_dim=config.head_dim,
        )  # fmt: skip


@torch.no_grad()
def written(host: LlamaForCausalLM, questions: Int[Tensor, "b n"], tokens: int) -> Int[Tensor, "b {tokens}"]:
    """An answer to each question, drawn from the model's predictions; torch's own generator decides."""
    made = host.generate(questions, max_new_tokens=tokens, do_sample=True, temperature=1.0, top_k=0)  # type: ignore[operator]
    return made[:, questions.shape[1] :]
