"""Any module that calls attention, itself or by its processor: what its tokens are is given by hand."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from saccade.core.errors import SelectorError
from saccade.core.layout import Layout
from saccade.core.site import Site, SiteKind
from saccade.seam.cache_span import within
from saccade.seam.family import Family, Inputs, Layouts, joint_layouts
from saccade.seam.routes import diffusers_routes, torch_routes
from saccade.seam.shadow import Route, calls

BY_HAND = "a plain module is known by its layout alone; write a Family for it to offer more"
HEADS = ("heads", "num_heads", "n_heads", "num_attention_heads", "n_head")


def plain(model: nn.Module, layout: Layout) -> Family:
    """The family of one module: every submodule whose code, or whose processor's, calls attention is a site.

    All of them see `layout`. Raises SelectorError where there is none.
    """

    def layouts(model: nn.Module, inputs: Inputs, site: Site) -> Layouts:
        return joint_layouts(layout)

    if not (names := list(attending(model))):
        raise SelectorError(unseen(model))
    kind: SiteKind = "joint" if layout.text_n and layout.of("image") else "self"
    return Family(
        name=type(model).__name__,
        library="torch",
        classes=(type(model).__name__,),
        sites=dict.fromkeys(names, kind),
        layout=layouts,
        routes=routes,
        unsupported=dict.fromkeys(("hidden", "stream", "enter", "project", "rotary", "raw"), BY_HAND),
        text="given",
        grid="given",
        bind="either",
        unseen=switched_off,
    )


def by_hand(family: Family, layout: Layout) -> Family:
    """A known family over other tokens: queries are the last of them where a cache holds those before."""

    def layouts(model: nn.Module, inputs: Inputs, site: Site) -> Layouts:
        if site.kind == "cross":
            return family.layout(model, inputs, site)
        size = family.cache_span(inputs, site)
        return joint_layouts(layout) if size is None else within(layout, size)

    return replace(family, layout=layouts)


def routes() -> tuple[Route, ...]:
    """What a module of any make may call: diffusers' dispatcher too, if that was imported."""
    return diffusers_routes() if sys.modules.get("diffusers") else torch_routes()


def attending(model: nn.Module) -> Iterator[str]:
    """Names of the submodules whose code, or whose processor's, calls attention, in order."""
    found = routes()
    return (name for name, module in model.named_modules() if calls(type(module), found) or by_processor(module))


def by_processor(module: nn.Module) -> bool:
    """Whether it is the module's processor, as diffusers has them, that calls attention."""
    processor = getattr(module, "processor", None)
    return processor is not None and calls(type(processor), routes()) > 0


def unseen(model: nn.Module) -> str:
    """Why no attention of a module can be seen."""
    processors = dict.fromkeys(type(p).__name__ for m in model.modules() if (p := getattr(m, "processor", None)))
    calling = "calls " + " or ".join(route.name for route in routes())
    if processors:
        return (
            f"no processor of {type(model).__name__} ({', '.join(processors)}) {calling}; choose one that does, as "
            "AttnProcessor2_0, by set_attn_processor, then attach"
        )
    return (
        f"no code of {type(model).__name__} {calling}, so there are no attention sites; attach a module whose code does"
    )


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
