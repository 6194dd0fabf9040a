"""Tiny random language models and encoders of the real classes, and inputs for one forward of each."""

from typing import Any

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, dict[str, Any]]
VOCABULARY, LENGTH = 40, 10
LEFT, RIGHT = torch.ones(2, LENGTH, dtype=torch.long), torch.ones(2, LENGTH, dtype=torch.long)
LEFT[1, :3], RIGHT[1, -3:] = 0, 0
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
SHARED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2}


def words(mask: Tensor | None = None, length: int = LENGTH) -> dict[str, Any]:
    """The arguments of a forward over two rows of random words."""
    padding = {} if mask is None else {"attention_mask": mask}
    return {"input_ids": torch.randint(1, VOCABULARY, (2, length)), **padding, "return_dict": False}


def llama() -> Made:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SHARED)), {**words(), "use_cache": False}


def llama_body() -> Made:
    from transformers import LlamaConfig, LlamaModel

    return LlamaModel(LlamaConfig(**SHARED)), {**words(RIGHT), "use_cache": False}


def llada() -> Made:
    """Llama used both ways, as LLaDA is."""
    from transformers import LlamaConfig, LlamaForCausalLM

    both_ways: dict[str, Any] = {**SHARED, "is_causal": False}
    return LlamaForCausalLM(LlamaConfig(**both_ways)), {**words(), "use_cache": False}


def qwen3() -> Made:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**SHARED, head_dim=8)), {**words(LEFT), "use_cache": False}


def bert() -> Made:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(**SIZES)), words(RIGHT)


def roberta() -> Made:
    from transformers import RobertaConfig, RobertaForMaskedLM

    return RobertaForMaskedLM(RobertaConfig(**SIZES)), words()


def modern_bert() -> Made:
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    layers = ["full_attention", "sliding_attention"]
    return ModernBertForMaskedLM(ModernBertConfig(**SIZES, local_attention=8, layer_types=layers)), words(RIGHT)


MAKERS = (llama, llama_body, llada, qwen3, bert, roberta, modern_bert)
