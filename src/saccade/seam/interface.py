"""The seam of transformers: one registered attention, which hands each call to the interceptor of its module.

An attention module reads the name of its attention from its config, and many modules and models share one config. So an
attached module gets a config of its own, a copy that names ours. The model keeps its config, and its masks are made for
the attention it had; a model loaded with our name, attached or not, gets torch's attention and masks.
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from saccade.core.errors import SaccadeError
from saccade.seam.host_mask import split_additive
from saccade.seam.interceptor import SiteInterceptor
from saccade.seam.shadow import Undo

BINDING = "_saccade_binding"  # the attribute of an attached module that holds what follows
NAME = "saccade"
READ = ("sdpa", "eager", NAME)  # attention whose masks are maps we can read
STRANGE = ("softcap", "cache")  # arguments that change what is computed


@dataclass(frozen=True, eq=False)
class InterfaceBinding:
    """What an attached module carries: its interceptor, and the attention and config it had."""

    interceptor: SiteInterceptor
    original: Callable[..., Any]
    config: Any


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Any]:
    """What is registered: operands (b h n d), output (b n h d); weights where the host's own attention gives them."""
    binding = getattr(module, BINDING, None)
    if binding is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    binding.interceptor.seen = True
    if binding.interceptor.active:
        return _through(binding, module, query, key, value, attention_mask, **kwargs), None
    return binding.original(module, query, key, value, attention_mask, **kwargs)


def take(module: Any, interceptor: SiteInterceptor) -> tuple[Undo, Callable[[], str | None]]:
    """Bind the interceptor at a module; returns what undoes it, and a check whether somebody chose other attention.

    Raises ValueError where the module asks no attention interface, SaccadeError for attention whose masks are no maps.
    """
    config = getattr(module, "config", None)
    home = inspect.unwrap(type(module).forward).__globals__
    if config is None or "ALL_ATTENTION_FUNCTIONS" not in home:
        raise ValueError(f"the code of {type(module).__name__} asks no attention interface")
    name = config._attn_implementation
    if name not in READ:
        raise SaccadeError(
            f"attn_implementation='{name}' at site '{interceptor.site.name}' hands over no mask that can be read; "
            "call model.set_attn_implementation('sdpa'), then attach"
        )
    had = "sdpa" if name == NAME else name
    original = home["ALL_ATTENTION_FUNCTIONS"].get_interface(had, home.get("eager_attention_forward"))
    own = copy.copy(config)
    own._attn_implementation_internal = NAME
    object.__setattr__(module, BINDING, InterfaceBinding(interceptor, original, config))
    module.config = own

    def undo() -> None:
        vars(module).pop(BINDING, None)
        if module.config is own:
            module.config = config

    def changed() -> str | None:
        now = config._attn_implementation if module.config is own else module.config._attn_implementation
        return None if now == name and module.config is own else f"another attention ({now})"

    return undo, changed


def _through(
    binding: InterfaceBinding,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    interceptor, n = binding.interceptor, query.shape[2]
    _check(interceptor, kwargs)
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    mask, bias = _read(attention_mask)
    if position_bias is not None:
        bias = position_bias if bias is None else bias + position_bias
    ordered = n > 1 and causal and mask is None
    if mask is not None and not causal and interceptor.ahead is not None:
        mask = mask[:, :, -1:]  # nothing but padding, the same for every query
    out = interceptor.attend(query, key, value, mask, dropout, ordered, scaling, bias=bias, sinks=s_aux)
    if out is not None and interceptor.heads is None:
        return out.transpose(1, 2).contiguous()
    more = {"position_bias": position_bias, "s_aux": s_aux}
    given = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, **kwargs}
    given |= {name: value for name, value in more.items() if value is not None}
    own = interceptor.host(lambda q: binding.original(module, q, key, value, attention_mask, **given)[0], query)
    return (
        own if out is None or interceptor.heads is None else own.index_copy(2, interceptor.heads, out.transpose(1, 2))
    )


def _check(interceptor: SiteInterceptor, kwargs: dict[str, Any]) -> None:
    if strange := [name for name in STRANGE if kwargs.get(name) is not None]:
        raise ValueError(
            f"{strange[0]}={kwargs[strange[0]]} at site '{interceptor.site.name}' changes attention in a way that is "
            "not followed here; leave the site out with where=at(...)"
        )
    if kwargs.get("output_attentions"):
        raise ValueError("output_attentions=True asks for weights that no kernel here keeps; leave it out, or detach")


def _read(mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """(boolean map, additive map) of a mask in either form; in eager mode a map that adds nothing is left out."""
    if mask is None or not mask.is_floating_point():
        return mask, None
    seen, soft = split_additive(mask)
    return seen, soft if torch.compiler.is_compiling() or soft.any() else None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
