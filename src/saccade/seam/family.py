"""A host family as data: where its attention is, what its tokens are, what it offers. A new one is a few lines."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn

from saccade.core.layout import Grid, Layout, Segment
from saccade.core.rows import Role, Rows
from saccade.core.site import Site, SiteKind
from saccade.seam.cache_span import CacheSpan
from saccade.seam.rotary import Rotary
from saccade.seam.shadow import Route
from saccade.seam.token_order import TokenOrder

Inputs = Mapping[str, Any]  # the arguments of the model's forward, by name
Layouts = tuple[Layout, Layout]  # of queries and keys
ITEMS = ("hidden", "stream", "enter", "project", "rotary", "raw")


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How a pipeline runs its branches: stacked in one batch, in this order, or one forward after the other.

    now  whether a pipeline runs them in a forward of these arguments, None if it does not say
    """

    roles: tuple[Role, ...]
    stacked: bool
    now: Callable[[Any, Inputs], bool | None] = lambda pipe, inputs: runs_guidance(pipe)


@dataclass(frozen=True, kw_only=True)
class Family:
    """One model family.

    library      that the model comes from
    classes      class names of the model, newest first; `library.Class` where the bare name is common
    sites        glob of an attention module's name -> kind, as `transformer_blocks.*.attn`
    kind_of      the kind of one such module where its name alone does not tell; None where it is none
    layout       the tokens of a site, from the forward's arguments; asked for one site of each kind and cache span
    order        where its tokens stand in another order than the layout's, as in tiles; None where they do not
    fold         attention rows the host makes of each batch row at a site, one after the other: its frames, its places
    folded       arguments that come so folded, a row for each frame of each batch row
    by_site      sites of one kind differ in their tokens, as in a U-Net: `layout` is asked for every one
    one_sample   a forward takes one sample without a batch axis, of which the main input lists the parts
    alone        why no rows can be added beside those of the batch, and what to do; empty where they can
    one_by_one   attention is called for one batch row after the other, each with its real tokens alone, text last
    stacks       the model's stacks of blocks in order of execution, where it lists them in another
    routes       the functions its attention code calls
    text         where text tokens stand: before the image, after it, apart in a sequence of its own, among pictures
    grid         what the tokens with places are
    shared       arguments all batch rows have in common, such as places of tokens
    batch_axis   arguments whose rows lie on another axis than the first -> that axis
    backend      the back end of diffusers that its code asks for by itself; saccade's kernels run in its place
    padding      the argument that masks padded tokens or counts real ones, None where the host takes none
    left_alone   glob -> why those attention modules are left alone
    unsupported  item of ITEMS -> what to do instead; everything else is offered at joint and self sites
    time_scale   the schedule's timestep is `time_scale` times what the model receives,
    time_offset  and this much more; `time_scale` is None where no rule holds
    check        raises ValueError for arguments the host would silently ignore
    skipped      whether the arguments, or a switch in the model, tell the host not to run this site
    weak         whether this forward is a weakened branch of its own (skipped layers)
    aside        whether this forward is no step of a generation and left to the host, as one that fills a cache
    whole        whether the model itself compiles in one graph
    unseen       why the call of this attention module would not be seen, with the mend; None if it would
    bypasses     methods by which people pass by the model's forward -> what to do instead
    bind         how a site is reached: its processor, its own methods, either, or an attention it asks for by name
    cache_span   queries and cached keys of a site in a forward, None where no cache holds any
    ordered      whether the map the host makes at a module is causal order and padding, and no more
    image_asks   at joint sites queries are image tokens alone, and text gives keys
    """

    name: str
    classes: tuple[str, ...]
    sites: Mapping[str, SiteKind]
    layout: Callable[[nn.Module, Inputs, Site], Layouts]
    kind_of: Callable[[nn.Module, str, SiteKind], SiteKind | None] = lambda model, name, kind: kind
    library: Literal["diffusers", "timm", "transformers", "torch"] = "diffusers"
    routes: Callable[[], tuple[Route, ...]] = lambda: ()
    text: Literal["first", "last", "apart", "among", "only", "none", "given"] = "first"
    grid: Literal["image", "video", "none", "given"] = "image"
    shared: tuple[str, ...] = ()
    batch_axis: Mapping[str, int] = field(default_factory=dict)
    backend: str = "native"
    padding: str | None = None
    left_alone: Mapping[str, str] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    rotary: Callable[[nn.Module, Inputs, Layout], Rotary] | None = None
    project: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]] | None = None
    enter: Callable[[nn.Module, Site, Tensor, Tensor], Tensor] | None = None
    guidance: Guidance | None = None
    time_scale: float | None = 1.0
    time_offset: float = 0.0
    time_name: str = "timestep"
    main_input: str = "hidden_states"
    bind: Literal["processor", "methods", "either", "interface"] = "processor"
    check: Callable[[Inputs], None] = lambda inputs: None
    skipped: Callable[[nn.Module, Inputs, Site], bool] = lambda model, inputs, site: False
    weak: Callable[[Inputs], bool] = lambda inputs: False
    aside: Callable[[Inputs], bool] = lambda inputs: False
    whole: bool = True
    unseen: Callable[[nn.Module], str | None] = lambda module: None
    bypasses: Mapping[str, str] = field(default_factory=dict)
    by_site: bool = False
    one_sample: bool = False
    alone: str = ""
    one_by_one: bool = False
    stacks: tuple[str, ...] = ()
    order: Callable[[nn.Module, Inputs, torch.device], TokenOrder | None] = lambda model, inputs, device: None
    fold: Callable[[nn.Module, Inputs, Site], int] = lambda model, inputs, site: 1
    folded: tuple[str, ...] = ()
    cache_span: Callable[[Inputs, Site], CacheSpan | None] = lambda inputs, site: None
    ordered: Callable[[nn.Module, Inputs], bool] = lambda module, inputs: False
    image_asks: bool = False

    @property
    def text_first(self) -> bool:
        """Whether text comes before the image where both are in one sequence."""
        return self.text != "last"

    def missing(self, item: str, kind: SiteKind) -> str | None:
        """Why `item` is not to be had at sites of this kind and what to do instead; None if it is offered."""
        if item in self.unsupported:
            return self.unsupported[item]
        if kind == "cross" and item not in ("hidden",):
            return "cross-attention sites offer hidden only; choose joint or self sites"
        return None

    def kind(self, name: str) -> SiteKind | None:
        """The kind of attention modules of this name, None if they are no sites."""
        return next((kind for pattern, kind in self.sites.items() if fnmatchcase(name, pattern)), None)

    def kind_in(self, model: nn.Module, name: str) -> SiteKind | None:
        """The kind of a model's module, None if it is no site."""
        kind = self.kind(name)
        return None if kind is None else self.kind_of(model, name, kind)


def project_heads(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """k and v by `to_k`, `norm_k` if there is one, `to_v`, the norm acting on each head: (b p c) -> (b h p d)."""
    k, v = (linear(x).unflatten(-1, (module.heads, -1)).transpose(1, 2) for linear in (module.to_k, module.to_v))
    norm = getattr(module, "norm_k", None)
    return k if norm is None else norm(k), v


def project_flat(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The same where the norm acts across heads."""
    k, v = module.norm_k(module.to_k(x)), module.to_v(x)
    return tuple(t.unflatten(-1, (module.heads, -1)).transpose(1, 2) for t in (k, v))  # type: ignore[return-value]


def project_grouped(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """As `project_heads` where several heads share a key, which the host repeats for each of them."""
    k, v = spread_heads(module, module.to_k(x)), spread_heads(module, module.to_v(x))
    norm = getattr(module, "norm_k", None)
    return k if norm is None else norm(k), v


def spread_heads(module: Any, x: Tensor) -> Tensor:
    """Keys or values (b p c) of shared heads as (b h p d), each as often as there are heads that read it."""
    heads = module.heads if hasattr(module, "heads") else module.num_heads
    shared = x.unflatten(-1, (-1, module.to_q.out_features // heads)).transpose(1, 2)
    return shared.repeat_interleave(heads // shared.shape[1], dim=1)


def batch_of(given: Any) -> Any:
    """Rows given as a list, each a tensor or a list of pictures of which the last is denoised, as one tensor.

    All else as it is. Raises ValueError for rows of different sizes.
    """
    if not isinstance(given, list):
        return given
    rows = [row[-1] if isinstance(row, list) else row for row in given]
    if len(sizes := {tuple(row.shape) for row in rows}) > 1:
        raise ValueError(f"the rows of this batch have different sizes {sorted(sizes)}; run each size in its own batch")
    return torch.stack(rows)


def image_grid(model: Any, inputs: Inputs) -> Grid:
    """(1 h w) of latents (b c h w) that are parted into square patches."""
    height, width = (side // model.config.patch_size for side in inputs["hidden_states"].shape[-2:])
    return 1, height, width


def named_pictures(parts: Iterable[tuple[int, Grid | None]]) -> tuple[Segment, ...]:
    """The image, then reference pictures, by the number of their tokens and their grids."""
    return tuple(
        Segment(f"reference{i}" if i else "image", "extra" if i else "image", *part) for i, part in enumerate(parts)
    )


def joint_layouts(layout: Layout) -> Layouts:
    """Queries and keys are the same tokens."""
    return layout, layout


def latent_grid(config: Any, sides: Iterable[int]) -> Grid:
    """Latents of these sides (t, h, w) in patches: a config's `patch_size` is one number, or one for each side."""
    patch = config.patch_size
    sizes = (config.get("patch_size_t") or 1, patch, patch) if isinstance(patch, int) else patch
    t, h, w = (side // size for side, size in zip(sides, sizes, strict=True))
    return t, h, w


def apart_layouts(image: Layout, text: int, site: Site) -> Layouts:
    """The image reads itself at self sites and `text` words at cross sites."""
    return (image, Layout.plain(text)) if site.kind == "cross" else joint_layouts(image)


def grid_ids(layout: Layout, device: torch.device) -> Tensor:
    """(n 3) float places (t, y, x) of image tokens, 0 0 0 for all others, which rotary then leaves unturned."""
    return layout.coords(device).clamp(min=0).float()


def rows_given(given: Rows, guidance: Guidance | None, batch: int) -> Rows:
    """Rows as said by hand: those of the whole batch, or of each branch where a pipeline stacks its branches.

    Raises ValueError where neither fits the batch.
    """
    if given.n == batch:
        return given
    if guidance is not None and guidance.stacked and given.n * len(guidance.roles) == batch:
        return given.under(*guidance.roles)
    raise ValueError(f"rows of {given.n} were given to attach, this forward has {batch} batch rows")


def rows_of(
    guidance: Guidance | None, batch: int, guided: bool | None, nth: int, weak: bool
) -> tuple[str, Rows | None]:
    """(branch, rows) of the nth forward of a step; rows are None where nobody can tell.

    guided  whether the pipeline stacks its branches now, None if it does not say
    weak    a forward of the weak branch alone
    """
    if weak:
        return "weak", Rows.of("weak", samples=batch)
    if guidance is None or (guidance.stacked and guided is None):
        return "main", None
    if not guidance.stacked:
        role = guidance.roles[nth % len(guidance.roles)]
        return role, Rows.of(role, samples=batch)
    roles: tuple[Role, ...] = guidance.roles if guided else ("cond",)
    if batch % len(roles):  # more branches than the family knows of, as in editing by instruction
        return "main", None
    return "main", Rows.of(*roles, samples=batch // len(roles))


def runs_guidance(target: Any) -> bool | None:
    """Whether a pipeline runs guidance now, None if it does not say."""
    said, scale = (getattr(target, name, None) for name in ("do_classifier_free_guidance", "guidance_scale"))
    return scale > 1 if said is None and isinstance(scale, int | float) else said
