"""The functions that stand where a host calls attention.

Templates: a shadow rebuilds each over its own globals, where `_saccade_interceptor` is the interceptor of one site and
`_saccade_<name>` what the host would have called; so no decorator may wrap one, run-time shape checks included.
Without a plan the host's function gets the host's arguments.
"""

from typing import Any, no_type_check

from torch import Tensor
from torch.nn import functional

from saccade.seam.shadow import Route

_saccade_interceptor: Any = None  # each shadow carries its own
_saccade_scaled_dot_product_attention: Any = None
_saccade_dispatch_attention_fn: Any = None


@no_type_check
def _sdpa(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    interceptor = _saccade_interceptor
    interceptor.seen = True
    if interceptor.active:
        return interceptor.sdpa(_saccade_scaled_dot_product_attention, query, key, value, *args, **kwargs)
    return _saccade_scaled_dot_product_attention(query, key, value, *args, **kwargs)


@no_type_check
def _dispatch(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    interceptor = _saccade_interceptor
    interceptor.seen = True
    if interceptor.active:
        return interceptor.dispatch(_saccade_dispatch_attention_fn, query, key, value, *args, **kwargs)
    return _saccade_dispatch_attention_fn(query, key, value, *args, **kwargs)


def torch_routes() -> tuple[Route, ...]:
    """`F.scaled_dot_product_attention`, tensors (b h n d)."""
    return (
        Route(name="scaled_dot_product_attention", original=functional.scaled_dot_product_attention, template=_sdpa),
    )


def diffusers_routes() -> tuple[Route, ...]:
    """The same, and diffusers' `dispatch_attention_fn`, tensors (b n h d): processors call the one or the other."""
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    return (*torch_routes(), Route(name="dispatch_attention_fn", original=dispatch_attention_fn, template=_dispatch))
