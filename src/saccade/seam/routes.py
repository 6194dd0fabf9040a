"""The functions that stand where a host calls attention.

Templates, as those of `entry`: `_saccade_original` is what the host would have called. Without a plan it gets the
host's arguments.
"""

from typing import Any, no_type_check

from torch import Tensor
from torch.nn import functional

from saccade.seam.entry import HERE
from saccade.seam.shadow import Route


@no_type_check
def _sdpa(
    query: Tensor, key: Tensor, value: Tensor, *args: Any, _saccade_original: Any = None, **kwargs: Any
) -> Tensor:
    interceptor = HERE.interceptor
    if interceptor is None or not interceptor.active:
        return _saccade_original(query, key, value, *args, **kwargs)
    interceptor.seen = True
    return interceptor.sdpa(_saccade_original, query, key, value, *args, **kwargs)


@no_type_check
def _dispatch(
    query: Tensor, key: Tensor, value: Tensor, *args: Any, _saccade_original: Any = None, **kwargs: Any
) -> Tensor:
    interceptor = HERE.interceptor
    if interceptor is None or not interceptor.active:
        return _saccade_original(query, key, value, *args, **kwargs)
    interceptor.seen = True
    return interceptor.dispatch(_saccade_original, query, key, value, *args, **kwargs)


def torch_routes() -> tuple[Route, ...]:
    """`F.scaled_dot_product_attention`, tensors (b h n d)."""
    return (
        Route(name="scaled_dot_product_attention", original=functional.scaled_dot_product_attention, template=_sdpa),
    )


def diffusers_routes() -> tuple[Route, ...]:
    """The same, and diffusers' `dispatch_attention_fn`, tensors (b n h d): processors call the one or the other."""
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    return (*torch_routes(), Route(name="dispatch_attention_fn", original=dispatch_attention_fn, template=_dispatch))
