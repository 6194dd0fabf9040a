"""A tiny language model that refines a canvas by diffusion, reading a prompt from a cache."""

import torch

from tests.hosts.host import Host
from tests.hosts.stand_ins import Near
from tests.hosts.transformers.texts import RIGHT, SHARED, VOCABULARY, Made, words


def diffusion_gemma() -> Made:
    """Ten words of prompt, of which the first layer's window keeps three, and a canvas of six."""
    from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion

    text = {
        **SHARED, "head_dim": 8, "global_head_dim": 8, "sliding_window": 4, "num_experts": 4, "top_k_experts": 2,
        "moe_intermediate_size": 16, "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    vision = {
        "model_type": "gemma4_vision", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 8, "patch_size": 4,
        "position_embedding_size": 8,
    }  # fmt: skip
    config = DiffusionGemmaConfig(text_config=text, vision_config=vision, canvas_length=6)
    canvas = {
        "decoder_input_ids": torch.randint(1, VOCABULARY, (2, 6)),
        "decoder_attention_mask": torch.cat((RIGHT, torch.ones_like(RIGHT[:, :6])), dim=1),
    }
    return DiffusionGemmaForBlockDiffusion(config), {**words(RIGHT), **canvas}


LAST = "model.encoder.language_model.layers.1.self_attn"  # of which only the keys are read, which come before it
HOSTS = (Host("diffusion_gemma", diffusion_gemma, "text 10", Near(3), Near(1000), idle=LAST),)
