"""Experts in the place of the feed-forwards of a diffusers model, each expert a copy of what it replaces.

>>> from diffusers import DiTTransformer2DModel
>>> size = dict(num_attention_heads=2, attention_head_dim=16, num_layers=2, sample_size=8, in_channels=4)
>>> model = DiTTransformer2DModel(**size, norm_num_groups=4)
>>> dense = put_experts_(model, experts=4)
>>> sorted(dense)
['transformer_blocks.0.ff', 'transformer_blocks.1.ff']
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from typing import Any

from diffusers.models.activations import GEGLU, GELU
from diffusers.models.attention import FeedForward
from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.experts import ExpertKind
from saccade.nn.moe import MoE
from saccade.nn.part import Losses, MixerOutput, TokenPositions, added
from saccade.nn.routing import name_routers
from saccade.papers.dit_moe.upcycling import start_alike_


class HostExperts(nn.Module):
    """A `MoE` that is called as a host calls its feed-forward."""

    def __init__(self, moe: MoE) -> None:
        super().__init__()
        self.moe = moe

    def forward(self, hidden_states: Float[Tensor, "b n d"], *_: Any, **__: Any) -> Float[Tensor, "b n d"]:
        return self.moe(hidden_states, TokenPositions()).out


def put_experts_(
    model: nn.Module, *, where: str = "*.ff", norm_topk: bool = True, shared: int = 0, **options: Any
) -> dict[str, FeedForward]:
    """Replace the feed-forwards of `model` that `where` names by experts, in place; returns them by name.

    Experts are of the kind and size of what they replace; `options` are those of `saccade.nn.moe.MoE`. With `norm_topk`
    the model begins as it was. A shared expert starts by adding 0. The experts' losses: `balance_losses`.
    Raises ValueError where `where` matches no feed-forward.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, FeedForward) and fnmatch(name, where)
    }
    if not found:
        raise ValueError(f"where='{where}' names no feed-forward of {type(model).__name__}; '*' takes all")
    options |= {"norm_topk": norm_topk, "shared": shared}
    for name, made in [(name, _mixture(name, dense, **options)) for name, dense in found.items()]:
        model.set_submodule(name, made)
    name_routers(model)
    return found


@contextmanager
def balance_losses(model: nn.Module) -> Iterator[Losses]:
    """Losses of all experts of a host, summed by name, of the forward run meanwhile; add them to the objective.

    Raises ValueError for a model without experts.
    """
    total: Losses = {}

    def listen(_: nn.Module, __: Any, part: MixerOutput) -> None:
        total.update(added((total, part.losses)))

    handles = [module.register_forward_hook(listen) for module in model.modules() if isinstance(module, MoE)]
    if not handles:
        raise ValueError(f"{type(model).__name__} has no experts to listen to; put_experts_ gives it some")
    try:
        yield total
    finally:
        for handle in handles:
            handle.remove()


def _mixture(name: str, dense: FeedForward, **options: Any) -> HostExperts:
    kind, weights = _weights(name, dense)
    hidden, width = weights["up.weight"].shape
    moe = MoE(width, hidden=hidden, kind=kind, **options).to(weights["up.weight"])
    start_alike_(moe, kind, weights, name)
    return HostExperts(moe).train(dense.training)


def _weights(name: str, dense: FeedForward) -> tuple[ExpertKind, dict[str, Tensor]]:
    """ExpertKind and weights of a diffusers feed-forward; its GEGLU holds up and gate in one layer, in this order."""
    first, last = dense.net[0], dense.net[2]
    down = {f"down.{key}": value for key, value in last.state_dict().items()}
    match first:
        case GEGLU():
            halves = {key: value.chunk(2) for key, value in first.proj.state_dict().items()}
            pairs = {
                f"{part}.{key}": value[i] for key, value in halves.items() for i, part in enumerate(("up", "gate"))
            }
            return "geglu", pairs | down
        case GELU(approximate="tanh"):
            return "gelu", {f"up.{key}": value for key, value in first.proj.state_dict().items()} | down
    raise ValueError(f"{name} is a {type(first).__name__} feed-forward; experts copy GEGLU and GELU by tanh")
