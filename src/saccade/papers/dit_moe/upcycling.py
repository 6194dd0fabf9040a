"""From one feed-forward to many experts that begin as copies of it.

Source: Komatsuzaki et al., "Sparse Upcycling" (2023); Fei et al., DiT-MoE (2024).
"""

from dataclasses import fields
from typing import Any

from torch import Tensor, nn

from saccade.models.dit import DiT
from saccade.nn.experts import ExpertKind, Experts
from saccade.nn.feedforward import Mlp, SwiGlu
from saccade.nn.moe import MoE
from saccade.papers.dit_moe.model import DiTMoE, DiTMoEConfig

ROUTER_START = 0.02  # spread of a router's first weights


def upcycle(parent: DiT, *, experts: int = 8, top: int = 2, norm_topk: bool = True, **options: Any) -> DiTMoE:
    """A `DiTMoE` all of whose experts are the feed-forward that a dense parent has in that block.

    The parent is a DiT with `ffn="swiglu"` (or `"mlp"`, for experts of `kind="gelu"`), or a `DiTMoE` of one expert;
    `options` are those of `DiTMoEConfig`. With `norm_topk` the model begins as its parent was; without, the experts'
    part shrinks by the share of probability that the chosen have, about top / experts. Routers start anew; a shared
    expert that the parent lacks starts by adding 0.
    Raises ValueError where a parent's feed-forward is of another kind or size than the experts.
    """
    known = {field.name: getattr(parent.config, field.name) for field in fields(parent.config)}
    model = DiTMoE(DiTMoEConfig(**known | {"experts": experts, "top": top, "norm_topk": norm_topk} | options))
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    equal = {name: value for name, value in parent.state_dict().items() if shapes.get(name) == value.shape}
    model.load_state_dict(equal, strict=False)
    for i, (block, old) in enumerate(zip(model.blocks, parent.blocks, strict=True)):
        name = f"blocks.{i}.ffn"
        if isinstance(block.ffn, MoE):
            kind, weights = _dense(old.ffn, name)  # type: ignore[arg-type]
            start_alike_(block.ffn, kind, weights, name, shared=f"{name}.shared.up.weight" in equal)
        elif type(block.ffn) is not type(old.ffn):
            raise ValueError(f"{name} is a {type(old.ffn).__name__}; moe_every={model.config.moe_every} leaves it none")
    return model


def start_alike_(moe: MoE, kind: ExpertKind, weights: dict[str, Tensor], name: str, *, shared: bool = False) -> None:
    """Make every expert of `moe` the feed-forward of those weights, and draw its router anew; in place.

    The shared expert starts by adding 0, unless it is known already (`shared`).
    Raises ValueError, with the feed-forward's `name`, where kind or sizes differ.
    """
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    wanted = {key: tuple(value.shape[1:]) for key, value in moe.experts.state_dict().items()}
    if kind != moe.experts.kind or shapes != wanted:
        raise ValueError(
            f"{name} is of kind '{kind}' with {shapes}, but its experts are '{moe.experts.kind}' with {wanted}; "
            "give experts of that kind and hidden size, or a parent trained with theirs"
        )
    moe.experts.load_state_dict({key: value.expand(moe.experts.count, *value.shape) for key, value in weights.items()})
    nn.init.normal_(moe.router.gate.weight, std=ROUTER_START)
    if moe.shared is not None and not shared:
        for weight in moe.shared.down.parameters():
            nn.init.zeros_(weight)


def _dense(ffn: nn.Module, name: str) -> tuple[ExpertKind, dict[str, Tensor]]:
    """ExpertKind and weights of a feed-forward that experts can be copies of."""
    match ffn:
        case SwiGlu():
            return "swiglu", ffn.state_dict()
        case Mlp(approximate="tanh"):
            return "gelu", ffn.state_dict()
        case MoE(experts=Experts(count=1) as experts):
            return experts.kind, {key: value[0] for key, value in experts.state_dict().items()}
    raise ValueError(f"{name} is a {type(ffn).__name__} that experts cannot copy; train the parent with ffn='swiglu'")
