"""A stack of systems at one site: planned between steps, run inside the call.

Order is the stack's: every mechanism's `operands`, then `keys`, then fixed masks and biases, then `pairs`, one attend,
`blend` on the attention, `blend` on the output, `observe`. Two systems that change one operand, or append a segment of
one name, are a conflict.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.core.biases import Bias, BiasRule
from saccade.core.call import AttentionCall
from saccade.core.errors import ConflictError
from saccade.core.groups import KeyGroups
from saccade.core.layout import Layout
from saccade.core.mask_rows import of_rows
from saccade.core.masks import Lowered, Mask, forbid, lower
from saccade.core.mechanism import Appended, KernelChoice, Mechanism, PlanItem, blind_to, uses
from saccade.core.partial import Parts
from saccade.core.projections import Adapter
from saccade.core.site import Site
from saccade.core.state import Memory

Act = tuple[str, Mechanism]
Attend = Callable[[AttentionCall, bool, str | None], Parts]  # (call, want_lse, kernel)
OPERANDS = ("q", "k", "v", "scale")


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """What a stack does at one site in one phase, with everything that can be prepared prepared."""

    site: Site
    layout_q: Layout
    layout_k: Layout  # appended segments included
    systems: tuple[str, ...] = ()
    mask: Lowered | None = None
    bias: Bias | None = None
    appended: tuple[Appended, ...] = ()
    operands: tuple[Act, ...] = ()
    keys: tuple[Act, ...] = ()
    pairs: tuple[Act, ...] = ()
    attention: tuple[Act, ...] = ()
    output: tuple[Act, ...] = ()
    observe: tuple[Act, ...] = ()
    want_lse: bool = False
    kernel: str | None = None  # None: dispatch chooses
    adapters: tuple[Adapter, ...] = ()  # what the projections before and after the call add

    @property
    def empty(self) -> bool:
        """Whether nothing happens here."""
        return not self.systems


def make_plan(
    items: Mapping[str, Iterable[PlanItem]],
    site: Site,
    layout_q: Layout,
    layout_k: Layout,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    rows: Int[Tensor, " b"] | None = None,
) -> Plan:
    """Prepare what the systems planned: `items` maps a system's name to its plan. Not for use inside a graph.

    rows  the batch row of each attention row, where the host makes several of one
    """
    named = [(name, item) for name, chosen in items.items() for item in chosen]
    acts = [(name, item) for name, item in named if isinstance(item, Mechanism)]
    for _, mechanism in acts:
        mechanism.check(layout_q, layout_k)
    appended = _appended(acts, layout_k)
    full_k = Layout((*layout_k.segments, *(a.segment for a in appended)))
    mask = _conjunction([i for _, i in named if isinstance(i, Mask)] + _veils(appended, layout_q))
    biases = [i.bind(layout_q, layout_k, site.heads, device, dtype) for _, i in named if isinstance(i, BiasRule)]
    bias = sum(biases[1:], start=biases[0]) if biases else None
    if rows is not None:
        mask, bias = None if mask is None else of_rows(mask, rows), None if bias is None else bias.of_rows(rows)
    blends = [a for a in acts if uses(a[1], "blend")]
    return Plan(
        site=site,
        layout_q=layout_q,
        layout_k=full_k,
        systems=tuple(dict.fromkeys(name for name, _ in named)),
        mask=lower(mask, layout_q, full_k, device),
        bias=bias,
        appended=appended,
        operands=tuple(sorted((a for a in acts if uses(a[1], "operands")), key=lambda act: not act[1].reads_first)),
        keys=tuple(a for a in acts if uses(a[1], "keys")),
        pairs=tuple(a for a in acts if uses(a[1], "pairs")),
        attention=tuple(a for a in blends if a[1].acts_on == "attention"),
        output=tuple(a for a in blends if a[1].acts_on == "output"),
        observe=tuple(a for a in acts if uses(a[1], "observe")),
        want_lse=any("lse" in mechanism.needs for _, mechanism in acts),
        kernel=_kernel(named, site),
        adapters=tuple(item for _, item in named if isinstance(item, Adapter)),
    )


def run_plan(plan: Plan, call: AttentionCall, memories: Mapping[str, Memory], attend: Attend) -> Parts:
    """The staged verbs; `attend(call, want_lse)` is the kernel side. The call's own mask, a host's padding, stays."""
    call = _operands(plan, call, memories)
    call = _keys(plan, call, memories)
    call = call.replace(mask=_all(call.mask, plan.mask), bias=_plus(call.bias, plan.bias))
    for name, mechanism in plan.pairs:
        chosen = mechanism.pairs(call, memories[name])
        groups = _single(call.groups, chosen.groups, name)
        call = call.replace(mask=_all(call.mask, chosen.mask), bias=_plus(call.bias, chosen.bias), groups=groups)
    parts = attend(call, plan.want_lse, plan.kernel)
    for name, mechanism in (*plan.attention, *plan.output):
        parts = mechanism.blend(call, parts, memories[name])
    for name, mechanism in plan.observe:
        mechanism.observe(call, parts, memories[name])
    return parts


def _operands(plan: Plan, call: AttentionCall, memories: Mapping[str, Memory]) -> AttentionCall:
    changed_by: dict[str, str] = {}
    for name, mechanism in plan.operands:
        before, call = call, mechanism.operands(call, memories[name])
        for field in OPERANDS:
            if getattr(call, field) is not getattr(before, field):
                _claim(changed_by, field, name, plan.site)
        moved = call.mask is not before.mask and not mechanism.takes_rows
        if call.layout_k is not before.layout_k or moved:
            raise ConflictError(
                f"'{name}' changed layout or mask in `operands` at '{plan.site.name}'; use `keys` or `pairs` for that"
            )
    return call


def _keys(plan: Plan, call: AttentionCall, memories: Mapping[str, Memory]) -> AttentionCall:
    for name, mechanism in plan.keys:
        before, call = call, mechanism.keys(call, memories[name])
        if call.q is not before.q or call.scale is not before.scale:
            raise ConflictError(f"'{name}' changed q or scale in `keys` at '{plan.site.name}'; use `operands` for that")
    if call.k.shape[2] != plan.layout_k.n:
        raise ValueError(
            f"keys at '{plan.site.name}' hold {call.k.shape[2]} tokens, the plan says {plan.layout_k.n}; "
            "`appends` must tell what `keys` appends"
        )
    return call


def _claim(changed_by: dict[str, str], field: str, name: str, site: Site) -> None:
    if field in changed_by and changed_by[field] != name:
        raise ConflictError(
            f"'{changed_by[field]}' and '{name}' both change {field} at site '{site.name}'; "
            "give them different sites or drop one"
        )
    changed_by[field] = name


def _kernel(named: list[tuple[str, PlanItem]], site: Site) -> str | None:
    chosen = {item.kernel: name for name, item in named if isinstance(item, KernelChoice)}
    if len(chosen) > 1:
        (a, first), (b, second), *_ = chosen.items()
        raise ConflictError(
            f"'{first}' wants kernel '{a}' and '{second}' kernel '{b}' at site '{site.name}'; drop one of them"
        )
    return next(iter(chosen), None)


def _appended(acts: list[Act], layout: Layout) -> tuple[Appended, ...]:
    owners: dict[str, str] = {}
    found: list[Appended] = []
    for name, mechanism in acts:
        for appended in mechanism.appends(layout):
            segment = appended.segment.name
            if segment in owners or any(segment == s.name for s in layout.segments):
                other = owners.get(segment, "the host")
                raise ConflictError(f"'{other}' and '{name}' both bring a segment '{segment}'; rename one of them")
            owners[segment] = name
            found.append(appended)
    return tuple(found)


def _veils(appended: tuple[Appended, ...], layout_q: Layout) -> list[Mask]:
    return [forbid(name, a.segment.name) for a in appended for name in blind_to(layout_q, a.seen_by)]


def _conjunction(masks: list[Mask]) -> Mask | None:
    whole = None
    for mask in masks:
        whole = _all(whole, mask)
    return whole


def _all(a: Mask | None, b: Mask | None) -> Mask | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _plus(a: Bias | None, b: Bias | None) -> Bias | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _single(old: KeyGroups | None, new: KeyGroups | None, name: str) -> KeyGroups | None:
    if old is not None and new is not None:
        raise ConflictError(
            f"'{name}' sets key groups another system has set already; only one system may group keys at a site"
        )
    return old if new is None else new
