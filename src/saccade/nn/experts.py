"""Many feed-forwards side by side: tokens sorted by expert, a product for each group, results added by weight.

kind     inside                                     biases
swiglu   down(silu(gate x) * up x)                  no
geglu    down(gelu(gate x) * up x)                  yes
gelu     down(gelu(up x)), approximated by tanh      yes
relu     down(relu(up x))                           yes
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

ExpertKind = Literal["swiglu", "geglu", "gelu", "relu"]
Layer = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[ExpertKind, Layer] = {
    "swiglu": F.silu,
    "geglu": F.gelu,
    "gelu": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}
GATED, PLAIN = ("swiglu", "geglu"), ("swiglu",)  # kinds with a gate; kinds without biases
ALIGNED = 8  # channels: the grouped product wants rows of 16 bytes


class Expert(nn.Module):
    """One feed-forward of a kind, for every token."""

    def __init__(self, width: int, hidden: int, kind: ExpertKind = "swiglu") -> None:
        super().__init__()
        layer = partial(nn.Linear, bias=check_kind(kind) not in PLAIN)
        self.kind: ExpertKind = kind
        self.gate = layer(width, hidden) if kind in GATED else None
        self.up, self.down = layer(width, hidden), layer(hidden, width)

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        return _fed(x, self.kind, self.gate, self.up, self.down)


class StackedLinear(nn.Module):
    """A linear layer for each of `count` groups of rows."""

    def __init__(self, count: int, into: int, out: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, out, into))
        self.bias = nn.Parameter(torch.empty(count, out)) if bias else None

    def reset(self) -> None:
        """Xavier-uniform weights and zero biases, each layer for itself."""
        for weight in self.weight.data:
            nn.init.xavier_uniform_(weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def each(self) -> Iterator[Layer]:
        """The layers one by one, by `unbind`: the gradient of an index would be as large as all of them."""
        biases = repeat(None) if self.bias is None else self.bias.unbind()
        for weight, bias in zip(self.weight.unbind(), biases, strict=False):
            yield partial(F.linear, weight=weight, bias=bias)

    def forward(self, rows: Float[Tensor, "s i"], counts: Int[Tensor, " e"]) -> Float[Tensor, "s o"]:
        """One product for all groups: the first `counts[0]` rows by the first layer, and so on."""
        out = F.grouped_mm(rows, self.weight.to(rows.dtype).mT, offs=counts.cumsum(0).int())
        if self.bias is None:
            return out
        return out + self.bias.to(out.dtype).repeat_interleave(counts, dim=0, output_size=len(rows))


class Experts(nn.Module):
    """`count` feed-forwards of a kind. A token gets what its own experts say: no capacity, nothing is dropped.

    Raises ValueError for sizes below 1.
    """

    def __init__(self, width: int, count: int, *, hidden: int, kind: ExpertKind = "swiglu") -> None:
        super().__init__()
        for name, value in (("experts", count), ("hidden", hidden)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        layer = partial(StackedLinear, count, bias=check_kind(kind) not in PLAIN)
        self.count = count
        self.kind: ExpertKind = kind
        self.gate = layer(width, hidden) if kind in GATED else None
        self.up, self.down = layer(width, hidden), layer(hidden, width)
        self.reset()

    def reset(self) -> None:
        """Start every expert Xavier-uniform."""
        for layer in (self.gate, self.up, self.down):
            if layer is not None:
                layer.reset()

    def forward(
        self, x: Float[Tensor, "n d"], index: Int[Tensor, "n k"], weight: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n d"]:
        """sum_k weight_k expert_{index_k}(x)."""
        slots = index.flatten()
        order = slots.argsort(stable=True)
        rows = x.index_select(0, order // index.shape[1])
        counts = (slots[:, None] == torch.arange(self.count, device=x.device)).sum(0)  # bincount would wait for a GPU
        out = (self.grouped if self._has_kernel(x) else self.one_by_one)(rows, counts)
        back = out.index_select(0, order.argsort()).unflatten(0, index.shape)
        return (back * weight.to(back.dtype)[..., None]).sum(1)

    def one_by_one(self, rows: Float[Tensor, "s d"], counts: Int[Tensor, " e"]) -> Float[Tensor, "s d"]:
        """Sorted rows through their experts, an expert at a time."""
        gates = repeat(None) if self.gate is None else self.gate.each()
        even = -(-len(rows) // self.count)
        sizes = even if counts.is_meta else counts.tolist()  # without data: any split costs alike
        groups = zip(rows.split(sizes), gates, self.up.each(), self.down.each(), strict=False)
        return torch.cat([_fed(part, self.kind, gate, up, down) for part, gate, up, down in groups])

    def grouped(self, rows: Float[Tensor, "s d"], counts: Int[Tensor, " e"]) -> Float[Tensor, "s d"]:
        """Sorted rows through their experts, all experts in one product for each layer; needs no wait for `counts`."""
        gate = None if self.gate is None else partial(self.gate, counts=counts)
        rows = rows.to(_working_dtype(rows))
        return _fed(rows, self.kind, gate, partial(self.up, counts=counts), partial(self.down, counts=counts))

    def _has_kernel(self, x: Tensor) -> bool:
        fits = all(side % ALIGNED == 0 for side in self.up.weight.shape[1:])
        return x.is_cuda and _working_dtype(x) is torch.bfloat16 and fits and hasattr(F, "grouped_mm")


def check_kind(kind: ExpertKind) -> ExpertKind:
    """Raise ValueError for a kind that there is not."""
    if kind not in ACTIVATIONS:
        raise ValueError(f"kind='{kind}' of experts is unknown; choose one of {', '.join(get_args(ExpertKind))}")
    return kind


def _fed(x: Tensor, kind: ExpertKind, gate: Layer | None, up: Layer, down: Layer) -> Tensor:
    act = ACTIVATIONS[kind]
    return down(act(up(x)) if gate is None else act(gate(x)) * up(x))


def _working_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
