"""What a stack would do on a pipeline, told without running its model: the first forward is stopped at the door."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from saccade.core.call import AttentionCall
from saccade.core.mechanism import PlanItem, System
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.core.stack import Plan
from saccade.ops.dispatch import Choice, choose
from saccade.run.attached_model import family_of, sites_of
from saccade.run.counts import density
from saccade.run.explain import clocks
from saccade.run.planner import Items, Planner, named
from saccade.run.run import MODELS
from saccade.seam.family import Inputs, Layouts
from saccade.seam.kernel_choice import head_width


class _Enough(Exception):
    """Stops a pipeline once the arguments of its model are known."""


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """What holds at one site over steps `first` to `last`; density None where it is decided inside the call."""

    site: str
    kind: str
    first: int
    last: int
    tokens: str
    does: tuple[str, ...] = ()
    density: float | None = 1.0
    kernel: str = "host"
    reasons: tuple[str, ...] = ()


def dry_run(
    pipe: Any, stack: tuple[System, ...], draw: Callable[[], object], num_steps: int, where: Where = EVERYWHERE
) -> list[Foreseen]:
    """One entry per site and phase of the stack; `draw` calls the pipeline, of which only the text encoders run."""
    model: nn.Module = next(m for name in MODELS if isinstance(m := getattr(pipe, name, None), nn.Module))
    inner: nn.Module = getattr(model, "_orig_mod", model)
    inputs = first_inputs(model, inner, draw)
    family, planner = family_of(inner), Planner(named(stack), where)
    found: list[Foreseen] = []
    for site, module in sites_of(inner, family):
        layouts = family.layout(inner, inputs, site.kind)
        example = _example(module, site, inputs[family.main_input])
        found += _phases(planner, site, layouts, example, num_steps)
    return found


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


def _phases(planner: Planner, site: Site, layouts: Layouts, example: Tensor, num_steps: int) -> Iterator[Foreseen]:
    """Runs of steps that share a plan."""
    start: int = 0
    asked = [planner.items(site, clock) for clock in clocks(num_steps)]
    plans = [planner.plan(site, items, *layouts, example.device) for items in asked]
    for step in range(1, num_steps + 1):
        if step == num_steps or plans[step] is not plans[start]:
            yield _told(site, layouts, plans[start], asked[start], example, (start, step - 1))
            start = step


def _told(
    site: Site, layouts: Layouts, plan: Plan | None, items: Items, example: Tensor, steps: tuple[int, int]
) -> Foreseen:
    span = {"site": site.name, "kind": site.kind, "first": steps[0], "last": steps[1]}
    does = tuple(f"{name}: {', '.join(map(word, chosen))}" for name, chosen in items.items())
    if plan is None:
        return Foreseen(**span, tokens=layouts[1].describe(), does=does)
    choice = _choice(site, plan, example)
    return Foreseen(
        **span,
        tokens=plan.layout_k.describe(),
        does=does,
        density=None if plan.pairs else density(plan),
        kernel=choice.kernel,
        reasons=tuple(f"{kernel}: {'; '.join(why)}" for kernel, why in choice.reasons.items()),
    )


def word(item: PlanItem) -> str:
    """An item of a plan in a few words."""
    text = repr(item)
    return text if len(text) <= 100 and "tensor(" not in text else type(item).__name__


def _choice(site: Site, plan: Plan, example: Tensor) -> Choice:
    q, k = (example.expand(-1, -1, n, -1) for n in (plan.layout_q.n, plan.layout_k.n))
    call = AttentionCall(
        q=q, k=k, v=k, scale=1.0, layout_q=plan.layout_q, layout_k=plan.layout_k, site=site, mask=plan.mask,
        bias=plan.bias,
    )  # fmt: skip
    return choose(call, plan.kernel, plan.want_lse)


def _example(module: Any, site: Site, sample: Tensor) -> Tensor:
    """One token of q, (b h 1 d), without content."""
    return sample.new_empty(1).expand(sample.shape[0], site.heads, 1, head_width(module, site.heads))
