"""Hooks by which the linear projections of attached sites add the terms of adapters; no weight is touched.

All projections of one path share one hook, which finds its terms at the site whose code is running: so blocks alike
share graphs. Outside a planned site it changes nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.errors import SilentSiteError
from saccade.core.projections import Adapter, LowRankTerm
from saccade.seam.entry import HERE
from saccade.seam.interceptor import SiteInterceptor

Hook = Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]
Added = dict[str, tuple[LowRankTerm, ...]]


@dataclass(eq=False)
class ProjectionHooks:
    """The hooks of one run by site and path, and the terms of each adapter where and as its sites need them."""

    handles: dict[tuple[str, str], Any] = field(default_factory=dict)
    moved: WeakKeyDictionary[Any, dict[Any, Added]] = field(default_factory=WeakKeyDictionary)

    def added(
        self, interceptor: SiteInterceptor, adapters: Iterable[Adapter], device: torch.device, dtype: torch.dtype
    ) -> Added:
        """The terms of all adapters by path, each path hooked.

        Raises ValueError for terms that do not fit the site, SilentSiteError where its projections are fused.
        """
        found: Added = {}
        for adapter in adapters:
            for path, terms in self._terms(interceptor, adapter, device, dtype).items():
                found[path] = (*found.get(path, ()), *terms)
        for path in found:
            self._ensure(interceptor, path)
        return found

    def _terms(self, interceptor: SiteInterceptor, adapter: Adapter, device: torch.device, dtype: torch.dtype) -> Added:
        """Terms that are trained stay what they are; others are kept on the device and in the type of the operands."""
        kept, key = self.moved.setdefault(adapter, {}), (interceptor.site.name, device, dtype)
        if key not in kept:
            check_adapter(interceptor, adapter)
            found = adapter.terms(interceptor.site)
            if any(t.requires_grad for term in found.values() for t in term):
                return {path: (term,) for path, term in found.items()}
            kept[key] = {path: (LowRankTerm(*(t.to(device, dtype) for t in term)),) for path, term in found.items()}
        return kept[key]

    def _ensure(self, interceptor: SiteInterceptor, path: str) -> None:
        module = interceptor.view.module
        if getattr(module, "fused_projections", False):
            raise SilentSiteError(
                f"the projections of site '{interceptor.site.name}' are fused, so '{path}' is not run and an adapter "
                "cannot add to it; call unfuse_qkv_projections() on the model"
            )
        key = interceptor.site.name, path
        if key not in self.handles:
            self.handles[key] = module.get_submodule(path).register_forward_hook(hook_of(path))

    def remove(self) -> None:
        """Take every hook away."""
        for handle in self.handles.values():
            handle.remove()
        self.handles.clear()
        self.moved.clear()


@cache
def hook_of(path: str) -> Hook:
    """The one forward hook of all projections of this path."""

    def add_terms(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        interceptor = HERE.interceptor
        if interceptor is None or path not in interceptor.added:
            return output
        x = args[0]
        for down, up in interceptor.added[path]:
            output = output + F.linear(F.linear(x, down.to(x.dtype)), up.to(x.dtype)).to(output.dtype)
        return output

    return add_terms


def check_adapter(interceptor: SiteInterceptor, adapter: Adapter) -> None:
    """The terms of an adapter fit the site's projections.

    Raises ValueError where they do not, where there are none, and where heads were chosen.
    """
    site, module = interceptor.site.name, interceptor.view.module
    if interceptor.heads is not None:
        raise ValueError(f"{adapter!r} adds to all heads of '{site}'; attach without choosing heads")
    inside = dict(module.named_modules())
    for path, (down, up) in adapter.terms(interceptor.site).items():
        linear = inside.get(path)
        size = getattr(linear, "in_features", None), getattr(linear, "out_features", None)
        if size != (down.shape[1], up.shape[0]):
            there = "has no such linear" if None in size else f"has {size[0]} -> {size[1]} there"
            raise ValueError(
                f"{adapter!r} adds {down.shape[1]} -> {up.shape[0]} channels to '{path}' of '{site}', which {there}; "
                f"{adapter.mend}"
            )
