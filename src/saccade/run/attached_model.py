"""One model with interceptors at its attention sites: found, bound, and put back."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import accumulate, takewhile
from typing import Any

from torch import Tensor, nn

from saccade.core.errors import SaccadeError, SelectorError, SilentSiteError
from saccade.core.layout import Layout
from saccade.core.mechanism import Surrounding
from saccade.core.site import Site, SiteKind, Where
from saccade.families.by_blocks import by_blocks
from saccade.families.host_classes import known_family
from saccade.families.library import FAMILIES
from saccade.families.plain import by_hand, heads_of, plain
from saccade.families.plain import by_processor as processed
from saccade.families.refused import REFUSED
from saccade.seam.family import Family, Inputs, batch_of
from saccade.seam.interceptor import SiteInterceptor
from saccade.seam.shadow import Undo, calls, carry, interceptor_of, rebind_methods, rebind_processor, shadow_of
from saccade.seam.view import HostView

MODELS = ("transformer", "transformer_2", "unconditional_transformer", "unet")  # a pipeline's components that denoise
ALONE = ("transformer", "unet")  # of which a pipeline has one: its sites are named as in the model


@dataclass(eq=False)
class AttachedModel:
    """A model with interceptors.

    outer  what is called, compiled or not
    model  the module inside
    alone  attention left alone, and why
    surroundings  what systems have put around its blocks
    bound  by site, a check that returns what somebody put in our place
    """

    outer: nn.Module
    model: nn.Module
    family: Family
    interceptors: list[SiteInterceptor] = field(default_factory=list)
    alone: dict[str, str] = field(default_factory=dict)
    undos: list[Undo] = field(default_factory=list)
    surroundings: list[Surrounding] = field(default_factory=list)
    bound: dict[str, Callable[[], str | None]] = field(default_factory=dict)

    def inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs:
        """The arguments of this forward by name."""
        return self.signature.bind(*args, **kwargs).arguments

    @cached_property
    def signature(self) -> inspect.Signature:
        """The model's own, through whatever wraps its forward."""
        return inspect.signature(self.model.forward)

    def sample(self, inputs: Inputs) -> Tensor:
        """The tensor whose batch size and device count: the family's main input, or the first tensor given."""
        given = inputs.get(self.family.main_input)
        given = given[0][None] if self.family.one_sample and given is not None else batch_of(given)
        return given if isinstance(given, Tensor) else next(v for v in inputs.values() if isinstance(v, Tensor))

    def undo(self) -> None:
        """Put every object back, last bound first."""
        while self.undos:
            self.undos.pop()()

    def replaced(self, interceptor: SiteInterceptor) -> str | None:
        """What somebody put in the place of ours, None while ours is there."""
        return None if interceptor.site.name not in self.bound else self.bound[interceptor.site.name]()


def models_of(target: Any) -> list[tuple[nn.Module, str]]:
    """The models of a pipeline that denoise, each with the prefix of its sites, or a module by itself.

    Raises TypeError for what is neither.
    """
    if isinstance(target, nn.Module):
        return [(target, "")]
    found = [(name, getattr(target, name, None)) for name in MODELS]
    models = [(m, "" if name in ALONE else f"{name}.") for name, m in found if isinstance(m, nn.Module)]
    if not models:
        raise TypeError(
            f"target={type(target).__name__} is neither a module nor a pipeline with a {' or '.join(MODELS)}"
        )
    return models


def inside(outer: nn.Module) -> nn.Module:
    """The module a compiled one wraps, or the module itself."""
    return getattr(outer, "_orig_mod", outer)


@dataclass(frozen=True, kw_only=True)
class LayoutOverride:
    """What was said by hand about how to read a model: a family, or the layout (and heads) of a plain module.

    Raises ValueError for options out of range.
    """

    layout: Layout | None = None
    heads: int | None = None
    family: Family | None = None

    def __post_init__(self) -> None:
        if self.layout is not None and self.family is not None:
            raise ValueError("layout= and family= both say what the tokens are; give one of them")


def family_of(model: nn.Module, reading: LayoutOverride | None = None) -> Family:
    """The family of a model: as given, by hand where a layout is given, by class name, or by its blocks.

    Raises ValueError for a model that no family knows.
    """
    if reading is not None and reading.family is not None:
        return reading.family
    known = known_family(type(model))
    if reading is not None and reading.layout is not None:
        return plain(model, reading.layout) if known is None else by_hand(known, reading.layout)
    name = type(model).__name__
    if known is None and name in REFUSED:
        raise ValueError(f"{name} is no host: {REFUSED[name]}")
    if known is not None or (known := by_blocks(model)) is not None:
        return known
    if inner := next((path for path, module in model.named_modules() if path and known_family(type(module))), None):
        found = type(model.get_submodule(inner)).__name__
        raise ValueError(f"{name} is a wrapper around a {found}, which is '{inner}' in it; attach that")
    raise ValueError(
        f"no host family knows {name}; `saccade hosts` lists those that are known{_alike(name)}. Say what its tokens "
        "are: layout=Layout(...) where all its attention sees the same ones; family=FLUX (of saccade.families.flux) "
        f"for a model of FLUX's make, replace(FLUX, classes=('{name}',), ...) where a little differs; else a Family "
        "of your own: saccade.families.probe(model, inputs) writes one, docs/hosts.md"
    )


def _alike(name: str) -> str:
    """The known classes of names like this one."""
    found = get_close_matches(name, [c for family in FAMILIES for c in family.classes], cutoff=0.7)
    return f", {', '.join(found)} among them" if found else ""


def sites_of(
    model: nn.Module, family: Family, heads: int | None = None, prefix: str = ""
) -> list[tuple[Site, nn.Module]]:
    """Every attention site of a model in order of execution."""
    found: list[tuple[str, nn.Module, SiteKind]] = [
        (name, module, kind) for name, module in model.named_modules() if (kind := family.kind_in(model, name))
    ]
    found.sort(key=lambda site: _rank(site[0], family.stacks))
    stages = list(dict.fromkeys(_stack(name) for name, _, _ in found))
    layers = list(accumulate((kind != "cross" for _, _, kind in found), initial=0))
    sites = [
        Site(
            name=prefix + (name or "self"), index=i, count=len(found), layer=layers[i], layers=layers[-1],
            stage=stages.index(_stack(name)), stages=len(stages), kind=kind,
            heads=_heads(name, heads, module, _parent(model, module)),
        )
        for i, (name, module, kind) in enumerate(found)
    ]  # fmt: skip
    return [(site, module) for site, (_, module, _) in zip(sites, found, strict=True)]


def attach_to(outer: nn.Module, reading: LayoutOverride, owner: str, where: Where, prefix: str = "") -> AttachedModel:
    """Bind a interceptor at every site `where` covers; on any error everything is put back before it is raised."""
    model = inside(outer)
    attached = AttachedModel(outer, model, family := family_of(model, reading))
    try:
        attached.undos.append(shadow_of(family.routes()).hold())
        for site, module in sites_of(model, family, reading.heads, prefix):
            refuse_if_attached(site, module, owner)
            if where.covers(site):
                attached.interceptors.append(_bind(attached, site, module, owner, where.heads))
            else:
                attached.alone[site.name] = "not chosen by `where`"
    except BaseException:
        attached.undo()
        raise
    attached.alone.update({prefix + name: why for name, why in _bypassed(model, family)})
    return attached


def refuse_if_attached(site: Site, module: nn.Module, owner: str) -> None:
    """Two runs at one site would hide one another; SaccadeError naming the first."""
    if (other := interceptor_of(module)) is not None:
        raise SaccadeError(
            f"site '{site.name}' is attached already by {other.owner}; detach that run first, "
            "or pass both systems to one attach"
        )


def _bind(
    attached: AttachedModel, site: Site, module: nn.Module, owner: str, heads: tuple[int, ...] | None
) -> SiteInterceptor:
    if bad := [h for h in heads or () if not 0 <= h < site.heads]:
        raise SelectorError(f"heads={bad} do not exist at site '{site.name}', which has {site.heads}")
    family = attached.family
    if why := family.unseen(module):
        raise SilentSiteError(f"site '{site.name}' cannot be reached: {why}")
    view = HostView(family, site, module, _parent(attached.model, module))
    interceptor = SiteInterceptor(
        site=site if heads is None else replace(site, heads=len(heads)), view=view, owner=owner
    )
    attached.undos.append(carry(module, interceptor))
    try:
        (_bind_interface if family.bind == "interface" else _shadow)(attached, module, interceptor)
    except ValueError as error:
        raise SilentSiteError(
            f"site '{site.name}' cannot be reached: {error}; put the host's default processor back "
            "(set_attn_processor) and attach again"
        ) from None
    return interceptor


def _shadow(attached: AttachedModel, module: Any, interceptor: SiteInterceptor) -> None:
    shadow = shadow_of(attached.family.routes())
    bind = attached.family.bind
    by_processor = bind == "processor" or (bind == "either" and processed(module))
    interceptor.other_calls = calls(type(module.processor) if by_processor else type(module), shadow.routes) > 1
    attached.undos.append((rebind_processor if by_processor else rebind_methods)(module, shadow))
    if by_processor:
        ours = module.processor
        attached.bound[interceptor.site.name] = lambda: (
            None if module.processor is ours else f"another processor ({type(module.processor).__name__})"
        )


def _bind_interface(attached: AttachedModel, module: nn.Module, interceptor: SiteInterceptor) -> None:
    from saccade.seam.interface import take

    undo, attached.bound[interceptor.site.name] = take(module, interceptor)
    attached.undos.append(undo)


def _stack(name: str) -> str:
    """The list of blocks a module lies in: `single_transformer_blocks` for `single_transformer_blocks.3.attn`."""
    return ".".join(takewhile(lambda part: not part.isdigit(), name.split(".")))


def _rank(name: str, stacks: tuple[str, ...]) -> int:
    """When the stack of blocks that a module lies in runs; those that are not named last."""
    stack = name.partition(".")[0]
    return stacks.index(stack) if stack in stacks else len(stacks)


def _heads(name: str, given: int | None, module: nn.Module, parent: nn.Module) -> int:
    """As given, or the module's own, or that of the module around it, which may hold all its parameters."""
    heads = given or heads_of(module) or heads_of(parent)
    if heads is None:
        raise ValueError(
            f"the number of heads of '{name or type(module).__name__}' is not among its attributes; give heads="
        )
    return heads


def _parent(model: nn.Module, module: nn.Module) -> nn.Module:
    return next((p for p in model.modules() if any(child is module for child in p.children())), model)


def _bypassed(model: nn.Module, family: Family) -> Iterator[tuple[str, str]]:
    for name in (name for name, _ in model.named_modules() if not family.kind_in(model, name)):
        yield from ((name, why) for pattern, why in family.left_alone.items() if fnmatchcase(name, pattern))
