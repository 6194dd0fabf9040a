"""Influence by gradients: how much a logit of the last token moves with each input token, beside what rollout says."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


def gradient_influence(model: Any, ids: Int[Tensor, "b n"], *, row: int = -1) -> Float[Tensor, "b n"]:
    """|d logit / d x_j| of the largest logit of token `row`, by input embedding x_j, scaled to a sum of one.

    model   a language model of transformers, which takes `inputs_embeds`
    Raises ValueError where no input moves the logit.
    """
    inputs = model.get_input_embeddings()(ids).detach().requires_grad_()
    with torch.enable_grad():
        logits = model(inputs_embeds=inputs, use_cache=False).logits[:, row]
        (slope,) = torch.autograd.grad(logits.amax(-1).sum(), inputs)
    size = slope.double().norm(dim=-1)
    if not (size.sum(-1) > 0).all():
        raise ValueError(f"the logits of row={row} do not depend on any input; is the last layer all zero?")
    return size / size.sum(-1, keepdim=True)
