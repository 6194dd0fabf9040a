"""LoRA on the layers of a FLUX transformer that Scale-DiT tunes, by the names peft gives them, with or without peft.

`add_lora_` puts layers in place whose weights bear peft's names (`base_layer`, `lora_A.default`, `lora_B.default`), so
files of weights go both ways. Where peft is installed its own layers do as well:

    transformer.add_adapter(LoraConfig(r=16, lora_alpha=16, init_lora_weights="gaussian", target_modules=TARGETS))

Which tokens a layer acts on is `LowStream`'s to say.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

_DOUBLE = r"transformer_blocks\.\d+\.(norm1\.linear|attn\.to_[qkv]|attn\.to_out\.0|ff\.net\.2)"
_SINGLE = r"single_transformer_blocks\.\d+\.(norm\.linear|proj_mlp|proj_out|attn\.to_[qkv])"
TARGETS = rf"x_embedder|{_DOUBLE}|{_SINGLE}"  # as a regular expression, which peft takes for `target_modules`


class LoraLinear(nn.Module):
    """base_layer(x) + alpha / rank * lora_B(lora_A(x)); outputs what the layer it wraps does at initialisation.

    Raises ValueError for a rank below 1.
    """

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float, adapter: str = "default") -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank={rank} must be at least 1; the paper has 16")
        self.base_layer = base
        self.lora_A = nn.ModuleDict({adapter: nn.Linear(base.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({adapter: nn.Linear(rank, base.out_features, bias=False)})
        self.scaling = {adapter: alpha / rank}
        nn.init.normal_(self.lora_A[adapter].weight, std=1 / rank)  # type: ignore[arg-type]
        nn.init.zeros_(self.lora_B[adapter].weight)  # type: ignore[arg-type]
        self.to(base.weight)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        return self.base_layer(x) + lora_part(self, x)


def add_lora_(transformer: nn.Module, *, rank: int = 16, alpha: float | None = None) -> list[nn.Parameter]:
    """Put LoRA on the paper's layers of a FLUX transformer, in place, and freeze the rest; returns what is to be tuned.

    alpha  over rank is the scale; None: equal to the rank, as in the paper
    Raises ValueError where there are no such layers, or they have LoRA already.
    """
    found = [name for name, module in transformer.named_modules() if re.fullmatch(TARGETS, name) and _plain(module)]
    if not found:
        raise ValueError(
            f"{type(transformer).__name__} has none of the layers LoRA goes on, or has LoRA there already; "
            "give a FLUX transformer without it, such as pipe.transformer"
        )
    transformer.requires_grad_(False)
    for name in found:
        layer = LoraLinear(transformer.get_submodule(name), rank=rank, alpha=alpha or rank)  # type: ignore[arg-type]
        transformer.set_submodule(name, layer)
    return [p for _, layer in lora_layers(transformer) for p in lora_parameters(layer)]


def lora_layers(transformer: nn.Module) -> Iterator[tuple[str, Any]]:
    """The paper's layers with LoRA, ours or peft's, by name; LoRA elsewhere is none of ours and acts as it does."""
    named = transformer.named_modules()
    return ((name, module) for name, module in named if hasattr(module, "lora_A") and re.fullmatch(TARGETS, name))


def lora_parameters(layer: Any) -> Iterable[nn.Parameter]:
    """Of the low-rank part of a layer."""
    return (*layer.lora_A.parameters(), *layer.lora_B.parameters())


def lora_part(layer: Any, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"] | Float[Tensor, ""]:
    """What LoRA adds to a layer's output, all active adapters together.

    Raises ValueError where peft has merged them into the weights, from which no token could be left out.
    """
    if getattr(layer, "merged", False):
        raise ValueError("LoRA is merged into the weights; unmerge it, so that it can act on some tokens alone")
    names = [name for name in getattr(layer, "active_adapters", tuple(layer.lora_A)) if name in layer.lora_A]
    if getattr(layer, "disable_adapters", False) or not names:
        return x.new_zeros(())
    return sum(_one(layer, name, x) for name in names)  # type: ignore[return-value]


def _one(layer: Any, name: str, x: Tensor) -> Tensor:
    drop = getattr(layer, "lora_dropout", {})
    down = layer.lora_A[name]
    hidden = x.to(down.weight.dtype)
    hidden = drop[name](hidden) if name in drop else hidden
    return (layer.lora_B[name](down(hidden)) * layer.scaling[name]).to(x.dtype)


def _plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and not hasattr(module, "lora_A")
