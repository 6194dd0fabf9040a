"""Decide before a forward which kernel each site takes, on a call of the same shape without contents."""

from typing import Any

import torch
from torch import Tensor, nn

from saccade.core.call import AttentionCall
from saccade.core.errors import RefusedError
from saccade.core.stack import Plan
from saccade.ops import Choice, prepare
from saccade.seam.interceptor import SiteInterceptor

WIDTHS = (
    "qk_head_dim",
    "head_dim",
    "dim_head",
    "d_head",
    "attention_head_dim",
    "attention_head_size",
    "head_size",
)  # of one head
TOTALS = ("inner_dim", "embed_dim", "hidden_size", "d_model", "dim")  # of all heads
KEY_HEADS = ("num_key_value_heads",)


def choose_kernel(interceptor: SiteInterceptor, plan: Plan, sample: Tensor, device: torch.device) -> Choice:
    """Prepare masks, blocks and kernel of a plan for a batch like `sample`; Refused, with reasons, if none takes it.

    What a mechanism adds inside the call (selected masks, widened operands) is not known here: inside a graph such
    calls take the kernel prepared for the rest, dense where none was; outside one, a kernel that was named is asked
    again with what was added.
    """
    try:
        return prepare(blank(interceptor, plan, sample, device), kernel=plan.kernel, want_lse=plan.want_lse)
    except RefusedError:
        if plan.kernel is None or not plan.pairs:
            raise
        return Choice(plan.kernel, {}, 1.0)


def site_device(module: nn.Module, sample: Tensor) -> torch.device:
    """Where a site computes: at its parameters, or, where these wait elsewhere for their forward, where they will be.

    Weights on the CPU or without storage under a batch on another device are offloaded: then the hook that brings them
    says where to, else they follow the batch.
    """
    own = next((p.device for p in module.parameters()), sample.device)
    if own.type not in ("cpu", "meta"):
        return own
    hooks = (getattr(part, "_hf_hook", None) for part in module.modules() if own.type == "meta")
    targets = (getattr(hook, "execution_device", None) for hook in hooks)
    return next((torch.device(device) for device in targets if device is not None), sample.device)


def blank(interceptor: SiteInterceptor, plan: Plan, sample: Tensor, device: torch.device) -> AttentionCall:
    """The call this site will make, as views of one number: shapes, type, device, mask and bias are right."""
    site, module = interceptor.site, interceptor.view.module
    one = torch.empty((), dtype=operand_dtype(sample, module), device=device)
    added = (t for terms in interceptor.added.values() for term in terms for t in term)
    trained = any(p.requires_grad for p in (*module.parameters(), *added))
    one.requires_grad_(torch.is_grad_enabled() and trained)
    width = head_width(module, interceptor.all_heads)
    q = one.expand(sample.shape[0], site.heads, plan.layout_q.n, width)
    k = one.expand(sample.shape[0], key_heads(module, site.heads), plan.layout_k.n, width)
    return AttentionCall(
        q=q, k=k, v=k, scale=width**-0.5, layout_q=plan.layout_q, layout_k=plan.layout_k, site=site, mask=plan.mask,
        bias=plan.bias,
    )  # fmt: skip


def head_width(module: Any, heads: int) -> int:
    """Channels of one head, by the usual attribute names or the width of the module's last projection."""
    if (width := _first(module, WIDTHS)) is not None:
        return width
    total = _first(module, TOTALS)
    if total is None:
        linears = [m for m in module.modules() if isinstance(m, nn.Linear)]
        total = linears[-1].in_features if linears else heads
    return max(total // heads, 1)


def key_heads(module: Any, heads: int) -> int:
    """Heads of k and v: as many as of q, unless the module or its config says that they are shared."""
    shared = _first(module, KEY_HEADS) or _first(getattr(module, "config", None), KEY_HEADS)
    return shared if shared is not None and heads % shared == 0 else heads


def _first(module: Any, names: tuple[str, ...]) -> int | None:
    return next((v for n in names if isinstance(v := getattr(module, n, None), int)), None)


def operand_dtype(sample: Tensor, module: nn.Module) -> torch.dtype:
    """What q, k and v of a module will be of, for a batch like `sample`."""
    device = sample.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    if sample.is_floating_point():
        return sample.dtype
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.get_default_dtype())
