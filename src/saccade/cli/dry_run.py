"""What a stack would do on a pipeline, without running its model: the first forward is stopped on entry."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from saccade.core.call import AttentionCall
from saccade.core.mechanism import System
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.core.stack import Plan
from saccade.ops.dispatch import Choice, choose
from saccade.run.attached_model import MODELS, family_of, sites_of
from saccade.run.counts import density
from saccade.run.planner import Planner, named
from saccade.run.site_plan import SitePlan, site_plans
from saccade.seam.family import Inputs, Layouts
from saccade.seam.kernel_choice import head_width


class _Enough(Exception):
    """Stops a pipeline once the arguments of its model are known."""


def dry_run(
    pipe: Any, stack: tuple[System, ...], draw: Callable[[], object], num_steps: int, where: Where = EVERYWHERE
) -> list[SitePlan]:
    """One entry per site and phase of the stack; `draw` calls the pipeline, of which only the text encoders run."""
    model: nn.Module = next(m for name in MODELS if isinstance(m := getattr(pipe, name, None), nn.Module))
    inner: nn.Module = getattr(model, "_orig_mod", model)
    inputs = first_inputs(model, inner, draw)
    family, planner = family_of(inner), Planner(named(stack), where)
    complete: list[SitePlan] = []
    for site, module in sites_of(inner, family):
        layouts = family.layout(inner, inputs, site)
        batch, fold = len(inputs[family.main_input]), family.fold(inner, inputs, site)
        example = _example(module, site, inputs[family.main_input], batch * fold)
        for found, items in site_plans(planner, site, num_steps):
            plan = planner.plan(site, items, *layouts, example.device, example.dtype, batch, fold)
            complete.append(_complete(found, site, layouts, plan, example))
    return complete


def first_inputs(model: nn.Module, inner: nn.Module, draw: Callable[[], object]) -> Inputs:
    """The arguments, by name, with which `draw` first calls the model; the model does not run."""
    caught: list[tuple[Any, Any]] = []

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught.append((args, kwargs))
        raise _Enough

    handle = model.register_forward_pre_hook(stop, with_kwargs=True, prepend=True)
    try:
        with suppress(_Enough):
            draw()
    finally:
        handle.remove()
    if not caught:
        raise ValueError(f"the pipeline never called its {type(inner).__name__}; there is nothing to explain")
    args, kwargs = caught[0]
    return inspect.signature(inner.forward).bind(*args, **kwargs).arguments


def _complete(found: SitePlan, site: Site, layouts: Layouts, plan: Plan | None, example: Tensor) -> SitePlan:
    """With the tokens, the density and the kernel of the prepared plan."""
    if plan is None:
        return replace(found, tokens=layouts[1].describe())
    choice = _choice(site, plan, example)
    return replace(
        found,
        tokens=plan.layout_k.describe(),
        density=None if plan.pairs else density(plan),
        kernel=choice.kernel,
        reasons=tuple(f"{kernel}: {'; '.join(why)}" for kernel, why in choice.reasons.items()),
    )


def _choice(site: Site, plan: Plan, example: Tensor) -> Choice:
    q, k = (example.expand(-1, -1, n, -1) for n in (plan.layout_q.n, plan.layout_k.n))
    call = AttentionCall(
        q=q, k=k, v=k, scale=1.0, layout_q=plan.layout_q, layout_k=plan.layout_k, site=site, mask=plan.mask,
        bias=plan.bias,
    )  # fmt: skip
    return choose(call, plan.kernel, plan.want_lse)


def _example(module: Any, site: Site, sample: Tensor, rows: int) -> Tensor:
    """One token of q, (b h 1 d), without content."""
    return sample.new_empty(1).expand(rows, site.heads, 1, head_width(module, site.heads))
