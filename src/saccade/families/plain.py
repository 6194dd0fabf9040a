"""Any module that calls `F.scaled_dot_product_attention`: what its tokens are is given by hand."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from saccade.core.layout import Layout
from saccade.core.site import Site, SiteKind
from saccade.seam.cache_span import within
from saccade.seam.family import Family, Inputs, Layouts, joint_layouts
from saccade.seam.routes import torch_routes
from saccade.seam.shadow import calls

BY_HAND = "a plain module is known by its layout alone; write a Family for it to offer more"
HEADS = ("heads", "num_heads", "n_heads", "num_attention_heads", "n_head")


def plain(model: nn.Module, layout: Layout) -> Family:
    """The family of one module: every submodule whose own code calls attention is a site over `layout`."""

    def layouts(model: nn.Module, inputs: Inputs, site: Site) -> Layouts:
        return joint_layouts(layout)

    kind: SiteKind = "joint" if layout.text_n and layout.of("image") else "self"
    return Family(
        name=type(model).__name__,
        library="torch",
        classes=(type(model).__name__,),
        sites={name: kind for name in attending(model)},
        layout=layouts,
        routes=torch_routes,
        unsupported=dict.fromkeys(("hidden", "stream", "enter", "project", "rotary", "raw"), BY_HAND),
        text="given",
        grid="given",
        bind="methods",
        unseen=switched_off,
    )


def by_hand(family: Family, layout: Layout) -> Family:
    """A known family over other tokens: queries are the last of them where a cache holds those before."""

    def layouts(model: nn.Module, inputs: Inputs, site: Site) -> Layouts:
        if site.kind == "cross":
            return family.layout(model, inputs, site)
        size = family.cache_span(inputs, site.index)
        return joint_layouts(layout) if size is None else within(layout, size)

    return replace(family, layout=layouts)


def attending(model: nn.Module) -> Iterator[str]:
    """Names of the submodules whose own code calls `F.scaled_dot_product_attention`, in order."""
    routes = torch_routes()
    return (name for name, module in model.named_modules() if calls(type(module), routes))


def switched_off(module: Any) -> str | None:
    """Why a module with timm's switch computes attention without the call; None if it makes the call."""
    if getattr(module, "fused_attn", True):
        return None
    return (
        "fused_attn=False, so it multiplies q, k and v by hand; set fused_attn = True on the module, "
        "or call timm.layers.set_fused_attn() before the model is made"
    )


def heads_of(module: Any) -> int | None:
    """Number of heads by the usual attribute names, of the module or its config."""
    found = (getattr(owner, name, None) for owner in (module, getattr(module, "config", None)) for name in HEADS)
    return next((h for h in found if isinstance(h, int)), None)
