"""A small Llama that learns captions by the character, whose influences are compared with gradients."""

from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from saccade.data.text import CHARACTERS, Split, read_text
from saccade.models.architecture import Prediction
from saccade.train.causal import CausalStage, CausalTask
from saccade.train.loop import fit


class Reader(nn.Module):
    """Answers as the library's own language models do; heads of 16 channels."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        config = LlamaConfig(
            vocab_size=len(CHARACTERS), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=depth,
            num_attention_heads=width // 16, head_dim=16, tie_word_embeddings=True, eos_token_id=None,
            bos_token_id=None, pad_token_id=None, max_position_embeddings=256,
        )  # fmt: skip
        self.host = LlamaForCausalLM(config)

    def forward(self, ids: Int[Tensor, "b n"]) -> Prediction:
        return Prediction(self.host(ids, use_cache=False).logits, {})


def captions(split: Split) -> Int[Tensor, " n"]:
    """Captions of scenes, a number for each character."""
    known = {character: number for number, character in enumerate(CHARACTERS)}
    return torch.tensor([known.get(c, 0) for c in read_text("captions", split)])


def taught(width: int, depth: int, stage: CausalStage, folder: Path) -> Reader:
    """A reader after its training, which `folder` keeps."""
    torch.manual_seed(stage.fit.seed)
    reader = Reader(width, depth)
    fit(CausalTask(reader, captions("train"), stage), stage.fit, folder, cpu=True)
    return reader.eval()
