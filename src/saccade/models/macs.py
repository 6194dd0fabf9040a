"""Multiply-adds of one forward, counted as it runs; on `torch.device("meta")` nothing is computed.

>>> from saccade.models import DiT
>>> with torch.device("meta"):
...     model, x, t, labels = DiT.of("S/2"), torch.zeros(1, 4, 32, 32), torch.zeros(1), torch.zeros(1).long()
>>> macs(model, x, t, labels)
6055673856
"""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode


def macs(model: nn.Module, *inputs: Any, attention: bool = True, **named: Any) -> int:
    """Multiply-adds of convolutions, linear layers and matrix products in `model(*inputs, **named)`, all rows together.

    `attention`: also what calls of `scaled_dot_product_attention` multiply, as if no mask spared anything; products of
    q and k that a model writes out count as any others. Norms, activations and pooling are never counted.
    """
    with FlopCounterMode(display=False) as counter, _Attention(counter) as apart, torch.no_grad():
        model(*inputs, **named)
    return (counter.get_total_flops() - apart.flops) // 2 + apart.macs * attention


class _Attention(TorchFunctionMode):
    """Keeps attention apart: whether `counter` sees it at all depends on the kernel."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self.counter, self.flops, self.macs = counter, 0, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        before = self.counter.get_total_flops()
        out = func(*args, **(kwargs or {}))
        self.flops += self.counter.get_total_flops() - before
        self.macs += _multiplied(**dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {}))
        return out


def _multiplied(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> int:
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])
