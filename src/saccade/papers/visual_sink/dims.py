"""The channels in which sinks are massive: known ones by a language model's sizes, others found from a few prompts.

They are those of the text model and outlive its training with pictures.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.eval_mode import eval_mode
from saccade.papers.visual_sink.sinks import EPS, check_tau

Sizes = tuple[str, int, int, int]  # model type, channels, layers, key heads
SINK_DIMS: Mapping[Sizes, tuple[int, ...]] = {
    ("llama", 4096, 32, 32): (1415, 2533),  # LLaMA-2-7B, LLaVA-1.5-7B
    ("llama", 5120, 40, 40): (2100, 4743),  # LLaMA-2-13B, LLaVA-1.5-13B, LLaVA-1.6-vicuna-13B
    ("qwen2_vl_text", 3584, 28, 4): (458, 2570),  # Qwen2-VL-7B
    ("internlm2", 4096, 32, 8): (3584,),  # InternVL2-8B
}
FIRST = 2  # the first layer with sinks


def known_dims(config: Any) -> tuple[int, ...]:
    """The sink channels of a transformers config, of a model that reads pictures or of its language model.

    Raises ValueError for a model whose channels are not known, with how to find them.
    """
    own = getattr(config, "text_config", config)
    names = ("model_type", "hidden_size", "num_hidden_layers", "num_key_value_heads")
    sizes = tuple(getattr(own, name, None) for name in names)
    for known, dims in SINK_DIMS.items():
        if sizes == known:
            return dims
    raise ValueError(
        f"the sink channels of {sizes[0]} ({sizes[1]} channels, {sizes[2]} layers, {sizes[3]} key heads) are not "
        "known; find them with find_sink_dims(model, prompts) of saccade.papers.visual_sink and give dims="
    )


def massive_dims(inputs: Float[Tensor, "layers p c"], threshold: float = 20.0) -> tuple[int, ...]:
    """Channels beyond `threshold` root mean squares in most layers and prompts, the most frequent first.

    inputs  the first token of every prompt as it enters each layer
    """
    wide = inputs.float()
    values = wide.abs() * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)
    often = (values > threshold).float().mean((0, 1))
    found = (often > 0.5).nonzero().flatten().tolist()
    return tuple(sorted(found, key=lambda channel: -float(often[channel])))


@torch.no_grad()
def find_sink_dims(model: nn.Module, prompts: Sequence[Sequence[int]], *, threshold: float = 20.0) -> tuple[int, ...]:
    """The sink channels of a language model of transformers, with pictures or without.

    prompts    a few texts as ids, each with the token texts begin with at its head
    threshold  in root mean squares; see whether the same channels fire at image tokens before you rely on them
    Raises ValueError where no prompt is given, or no channel is massive in most of them.
    """
    check_tau(threshold)
    if not prompts:
        raise ValueError("prompts=() must hold a few texts as token ids, such as tokenizer(text).input_ids")
    device, found = next(model.parameters()).device, []
    with eval_mode(model):
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=device)
            states = model(input_ids=ids, output_hidden_states=True, use_cache=False, return_dict=True).hidden_states
            found.append(torch.stack([state[0, 0] for state in states[FIRST:-1]]))
    if dims := massive_dims(torch.stack(found, dim=1), threshold):
        return dims
    raise ValueError(
        f"no channel of the first token lies beyond threshold={threshold} in most prompts and layers: this model "
        "has no sinks of that kind; a lower threshold may find weak ones"
    )
