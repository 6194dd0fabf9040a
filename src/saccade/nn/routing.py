"""Routers: which token goes where. Each returns a `Routing`; a recorder collects them without touching the model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Routing(NamedTuple):
    """A token's `k` choices among `e`, what each weighs, and the probabilities they were taken from."""

    index: Int[Tensor, "*n k"]
    weight: Float[Tensor, "*n k"]
    probs: Float[Tensor, "*n e"]


class Router(nn.Module):
    """Base of all routers: `forward` returns a `Routing`. `name`: its place in the model, for messages."""

    steering: bool = True  # AdamW trains its matrices

    name = "router"


def name_routers(model: nn.Module) -> None:
    """Give every router of `model` its path, so that an error can say which one it was."""
    for name, module in model.named_modules():
        if isinstance(module, Router):
            module.name = name


def choose(
    probs: Float[Tensor, "*n e"], k: int, *, renormalise: bool = False, offset: Float[Tensor, " e"] | None = None
) -> Routing:
    """The k most probable of e, the weights as they are or summing to one; of equals the first.

    `offset` is added for the choice alone; weights do not know of it, and it has no gradient.
    Raises ValueError for a k out of range.
    """
    if not 1 <= k <= probs.shape[-1]:
        raise ValueError(f"k={k} must be between 1 and the {probs.shape[-1]} that there are to choose from")
    scores = probs if offset is None else probs.detach() + offset
    index = scores.argmax(-1, keepdim=True) if k == 1 else scores.argsort(dim=-1, descending=True, stable=True)[..., :k]
    weight = probs.gather(-1, index)
    return Routing(index, weight / weight.sum(-1, keepdim=True) if renormalise else weight, probs)


def softmax(logits: Float[Tensor, "*n e"], name: str) -> Float[Tensor, "*n e"]:
    """Probabilities in single precision at least.

    Raises FloatingPointError naming the router where a logit is NaN (checked on the CPU only: elsewhere it would wait).
    """
    return _checked(logits, name).softmax(-1)


def sigmoid(logits: Float[Tensor, "*n e"], name: str) -> Float[Tensor, "*n e"]:
    """A score in (0, 1) for each, in single precision at least.

    Raises FloatingPointError as `softmax` does.
    """
    return _checked(logits, name).sigmoid()


def _checked(logits: Tensor, name: str) -> Tensor:
    if logits.device.type == "cpu" and not torch.compiler.is_compiling() and bool(logits.isnan().any()):
        raise FloatingPointError(f"router '{name}' has NaN logits; the training diverged, or its input holds NaN")
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def balance(routing: Routing, keep: Bool[Tensor, "*n"] | None = None, *, per_row: bool = False) -> Float[Tensor, ""]:
    """e sum_i f_i P_i: f_i the share of choices that fell on i, P_i its mean probability; 1 when either is even.

    The gradient flows through P alone. `keep`: tokens that count. `per_row`: of a routing (b n k), the mean over b.
    Source: Fedus et al., Switch Transformers (2021).
    """
    probs, index = (each if per_row else each.flatten(0, -2)[None] for each in (routing.probs, routing.index))
    there = probs.new_ones(probs.shape[:2]) if keep is None else keep.reshape(probs.shape[:2]).to(probs.dtype)
    count = there.sum(1, keepdim=True).clamp(min=1)
    chosen = torch.zeros_like(probs[:, 0]).scatter_add(1, index.flatten(1), there.repeat_interleave(index.shape[-1], 1))
    mean = (probs * there[..., None]).sum(1) / count
    return probs.shape[-1] * (chosen / (count * index.shape[-1]) * mean).sum(1).mean()


def straight_through(hard: Float[Tensor, "*n e"], soft: Float[Tensor, "*n e"]) -> Float[Tensor, "*n e"]:
    """`hard` in the forward pass, to the bit; the gradient of `soft` in the backward pass."""
    return hard.detach() + (soft - soft.detach())


@contextmanager
def record_routing(model: nn.Module, *, detach: bool = True) -> Iterator[dict[str, list[Routing]]]:
    """Every `Routing` that the routers of `model` make meanwhile, by the router's name, in order of calls.

    `detach=False` keeps gradients, for losses of routers that a model does not know it has.
    Raises ValueError for a model without routers.
    """
    found: dict[str, list[Routing]] = {}
    routers = {name: module for name, module in model.named_modules() if isinstance(module, Router)}
    if not routers:
        raise ValueError(f"{type(model).__name__} has no router to record")

    def listen(name: str) -> Callable[[nn.Module, object, Routing], None]:
        def hook(_: nn.Module, __: object, routing: Routing) -> None:
            found.setdefault(name, []).append(Routing(*(x.detach() for x in routing)) if detach else routing)

        return hook

    handles = [router.register_forward_hook(listen(name)) for name, router in routers.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
