"""What is checked before a forward, outside any graph, so that nothing is lost without a word."""

import warnings
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from saccade.core.errors import MissingError, SaccadeError, SilentSiteError
from saccade.core.rows import Rows
from saccade.seam.family import Family
from saccade.seam.interceptor import SiteInterceptor
from saccade.seam.shadow import Undo, calls

IN_GRAPH = "saccade: the attached model was compiled afterwards; attach(torch.compile(model), ...) instead"


@torch.compiler.disable(reason=IN_GRAPH)
def refuse_in_graph() -> NoReturn:
    """Raised while a compiler traces the outer hook: rows and steps must be read outside the graph.

    Raises SaccadeError, always.
    """
    raise SaccadeError(IN_GRAPH)


def refuse_in_place(model: nn.Module) -> None:
    """`model.compile()` puts the whole call, hooks included, into one graph.

    Raises SaccadeError for a model compiled in place.
    """
    if getattr(model, "_compiled_call_impl", None) is not None:
        raise SaccadeError(
            f"{type(model).__name__}.compile() compiles in place, so its step cannot be read outside the graph; "
            "use attach(torch.compile(model), ...) instead"
        )


SKIPPING = ("faster_cache", "fbc_", "mag_cache", "pyramid_attention", "sea_cache", "taylorseer")  # hooks of diffusers


def cached(model: nn.Module) -> str | None:
    """The cache of diffusers that leaves out attention in some steps, and how to switch it off; None without one."""
    registries = (vars(module).get("_diffusers_hook") for module in model.modules())
    hooks = {name: hook for r in registries if r is not None for name, hook in r.hooks.items()}
    found = {name: type(hook).__name__ for name, hook in hooks.items() if name.startswith(SKIPPING)}
    if not found:
        return None
    config = getattr(model, "_cache_config", None)
    off = "disable_cache() on the model"
    if config is None:
        off = "HookRegistry.check_if_exists_or_initialize(model).remove_hook(name), name in " + ", ".join(
            map(repr, found)
        )
    names = ", ".join(dict.fromkeys(found.values())) if config is None else type(config).__name__.removesuffix("Config")
    return f"the cache {names} leaves attention out in some steps, where no system reaches it; call {off}"


def refuse_cache(model: nn.Module) -> None:
    """Raises SilentSiteError for a model under a cache of diffusers that skips blocks or attention."""
    if why := cached(model):
        raise SilentSiteError(f"{type(model).__name__} cannot be attached: {why}, then attach")


def close(model: nn.Module, name: str, mend: str, running: Callable[[], bool]) -> Undo:
    """Let a method that leads past the model's forward, where layout and step are read, be called only from inside."""
    own = getattr(model, name)

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling() and not running():
            raise SilentSiteError(
                f"{type(model).__name__}.{name}() passes by the forward, where tokens are read; {mend}"
            )
        return own(*args, **kwargs)

    object.__setattr__(model, name, guarded)
    return lambda: vars(model).pop(name, None)


def watch(pipe: Any, check: Callable[[], None]) -> Undo:
    """Let a pipeline check something whenever it begins to denoise, which is when it makes its progress bar."""
    own = getattr(pipe, "progress_bar", None)
    if own is None or "progress_bar" in vars(pipe):  # somebody else's is left alone
        return lambda: None

    def checked(*args: Any, **kwargs: Any) -> Any:
        check()
        return own(*args, **kwargs)

    object.__setattr__(pipe, "progress_bar", checked)
    return lambda: vars(pipe).pop("progress_bar", None)


def check_interceptor(interceptor: SiteInterceptor, replaced: str | None) -> None:
    """The site is still ours, and nothing else was chosen to compute its attention.

    Raises SilentSiteError where its calls are not seen, SaccadeError under context parallelism.
    """
    _check_torch()
    if replaced:
        raise SilentSiteError(
            f"site '{interceptor.site.name}' got {replaced} after attach, so its calls are not seen; "
            "choose the attention, choose or fuse processors first, then attach"
        )
    if why := interceptor.view.family.unseen(interceptor.view.module):
        raise SilentSiteError(f"calls of site '{interceptor.site.name}' are not seen: {why}")
    processor = getattr(interceptor.view.module, "processor", None)
    if processor is None:
        return
    if getattr(processor, "_parallel_config", None) is not None:
        raise SaccadeError(
            f"site '{interceptor.site.name}' runs context parallel, which saccade does not split; disable it"
        )
    chosen = getattr(processor, "_attention_backend", None) or _active()
    name = str(getattr(chosen, "value", chosen))
    if name not in ("native", interceptor.view.family.backend):
        _other_backend(interceptor, name, asked=_asks(processor))


def _check_torch() -> None:
    other = nn.functional.scaled_dot_product_attention
    if not isinstance(other, BuiltinFunctionType):  # torch's own is built in
        raise SaccadeError(
            f"F.scaled_dot_product_attention was replaced process-wide by {getattr(other, '__module__', '')}."
            f"{getattr(other, '__name__', other)}; put torch's own back, or detach"
        )


def _other_backend(interceptor: SiteInterceptor, name: str, asked: bool) -> None:
    if asked:
        raise SaccadeError(
            f"attention back end '{name}' is selected at site '{interceptor.site.name}', where saccade's kernels would "
            "run; select 'native' (reset_attention_backend does not undo the process-wide choice)"
        )
    warnings.warn(
        f"attention back end '{name}' is selected, but {interceptor.view.family.name} never asks for one: "
        "it changes nothing",
        UserWarning,
        stacklevel=2,
    )


APART = "each batch row is a call of its own, which sees no other; use a host that takes all rows in one call"


def check_need(interceptor: SiteInterceptor, need: str, rows: Rows | None) -> None:
    """A mechanism's need ("host.rotary", "rows.source") is there; `Missing` with the mend if not.

    Raises MissingError for what the host or the rows lack.
    """
    family, site = interceptor.view.family, interceptor.site
    source, _, item = need.partition(".")
    if source == "host" and (mend := family.missing(item, site.kind)):
        raise MissingError(host=family.name, site=site.name, item=item, mend=mend)
    if source == "rows" and family.one_by_one:
        raise MissingError(host=family.name, site=site.name, item=f"rows.{item}", mend=APART)
    if source == "rows" and (rows is None or item not in (*rows.roles, *rows.branches)):
        known = rows.roles if rows else "unknown"
        mend = f"the rows are {known}; pass rows=Rows.of(...) to attach, or let a verb draw them, such as edit"
        raise MissingError(host=family.name, site=site.name, item=f"rows.{item}", mend=mend)


def check_weak(family: Family, asked: tuple[str, float]) -> None:
    """Raises MissingError where a system wants weak rows of a host that takes none beside its own."""
    name, weight = asked
    if weight and family.alone:
        raise MissingError(host=family.name, site=f"batch of '{name}'", item="rows.weak", mend=family.alone)


def check_start(rows: Rows | None, sample: Tensor) -> None:
    """At the first step of a generation target rows hold the very noise of their source rows.

    Raises ValueError where they do not.
    """
    if rows is None or not (rows.where("source") and rows.where("target")):
        return
    targets, sources = (list(side) for side in zip(*rows.pairs(), strict=True))
    if not torch.equal(sample[targets], sample[sources]):
        raise ValueError(
            f"target rows {targets} start from other noise than their source rows {sources}; "
            "give both the same latents, or generators of one seed"
        )


def check_seen(interceptor: SiteInterceptor, model: nn.Module) -> None:
    """A planned site of `model` let its call pass through us.

    Raises SilentSiteError where it passed another way.
    """
    if interceptor.plan is None or interceptor.seen:
        return
    why = cached(model) or (
        "its block was skipped, or its code took another way to attention; run the default processor, "
        "or leave the site out with where=at(...)"
    )
    raise SilentSiteError(
        f"site '{interceptor.site.name}' had a plan ({', '.join(interceptor.plan.systems)}) and its call was not seen "
        f"in this forward: {why}"
    )


def _active() -> object:
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    return _AttentionBackendRegistry.get_active_backend()[0]


def _asks(processor: object) -> bool:
    from saccade.seam.routes import diffusers_routes

    return calls(type(processor), diffusers_routes()[1:]) > 0
