"""How many channels of a layer do anything: activation scores, and the share of those that hardly fire.

    score[c] = mean over pictures and tokens of ReLU(out[.., c]),    redundancy = share of c with score < 0.1 max score

Source: Ai et al., DiCo (2025), which compares convolutions with and without channel attention by it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def channel_scores(module: nn.Module, run: Callable[[], Any]) -> Float[Tensor, " c"]:
    """Scores of the channels that `module` gives out while `run()` calls it, however often.

    Its output is a tensor (b n c), a `MixerOutput`, or a tuple that begins with such a tensor; a map goes by
    `to_tokens`.

    Raises ValueError where it was never called.
    """
    with _heard(module) as outs, torch.no_grad():
        run()
    if not outs:
        raise ValueError(f"run() never called the {type(module).__name__}; give a module that the model uses")
    return torch.cat(outs).mean(0)


def redundancy(scores: Float[Tensor, " c"], threshold: float = 0.1) -> float:
    """Share of channels that score below `threshold` times the best; 1 where none fires at all.

    Raises ValueError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} must be in (0, 1], a share of the best score")
    return float((scores < threshold * scores.max()).double().mean()) if scores.any() else 1.0


@contextmanager
def _heard(module: nn.Module) -> Iterator[list[Float[Tensor, "b c"]]]:
    """Each call's activations, a mean over tokens for every picture."""
    outs: list[Tensor] = []

    def hear(_: nn.Module, __: Any, given: Any) -> None:
        out = given[0] if isinstance(given, tuple) else given
        outs.append(out.detach().float().relu().mean(1))

    hook = module.register_forward_hook(hear)
    try:
        yield outs
    finally:
        hook.remove()
