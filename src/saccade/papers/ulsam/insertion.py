"""ULSAM in a model that there is: after layers, or instead of whole blocks; timm's CNNs and ViTs, or any maps.

>>> inserted = insert_ulsam(model, torch.zeros(1, 3, 224, 224), after=(17,), instead=(14,))
>>> optimiser = torch.optim.SGD(inserted.modules.parameters(), lr=0.01)
>>> inserted.undo()

Names of the model's own weights stay; an added module's stand below its layer, as `blocks.5.1.ulsam`. A transformer's
tokens are put on the grid of its patches; class and register tokens pass by.
"""

from collections.abc import Iterable
from typing import Any, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from saccade.papers.ulsam.layers import Shapes, resolved, shapes_of
from saccade.papers.ulsam.placing import PatchGrid, PlacedULSAM
from saccade.papers.ulsam.subspace_attention import ULSAM

CHILD = "ulsam"  # name below the layer that it follows


class InsertedULSAM:
    """What `insert_ulsam` did; also a context manager that undoes it. `modules`: the new ones, in the order asked."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.modules = model, nn.ModuleList()
        self._hooks: list[RemovableHandle] = []
        self._replaced: dict[str, nn.Module] = {}
        self._followed: list[nn.Module] = []

    def add(self, name: str, placed: PlacedULSAM) -> None:
        """After a layer, which keeps its name."""
        layer = self.model.get_submodule(name)
        layer.add_module(CHILD, placed)
        if type(layer).forward is not nn.Sequential.forward:  # which runs its children anyway
            self._hooks.append(layer.register_forward_hook(_followed_by_ulsam))
        self._followed.append(layer)
        self.modules.append(placed.layer)

    def substitute(self, name: str, placed: PlacedULSAM) -> None:
        """Instead of a layer."""
        self._replaced[name] = self.model.get_submodule(name)
        self.model.set_submodule(name, placed)
        self.modules.append(placed.layer)

    def watch(self, grid: PatchGrid | None) -> None:
        """Let the grid of tokens follow the pictures."""
        if grid is not None:
            self._hooks.append(grid.watch(self.model))

    def undo(self) -> None:
        """Put back what stood there; the model is as it was."""
        for hook in self._hooks:
            hook.remove()
        for layer in self._followed:
            delattr(layer, CHILD)
        for name, layer in self._replaced.items():
            self.model.set_submodule(name, layer)
        self._hooks, self._followed, self._replaced = [], [], {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def insert_ulsam(
    model: nn.Module,
    *inputs: Any,
    after: Iterable[int | str] = (),
    instead: Iterable[int | str] = (),
    groups: int = 4,
    norm_act: bool = True,
    momentum: float = 0.1,
) -> InsertedULSAM:
    """Fresh modules after some layers and instead of others, on this instance only; options as `ULSAM` has them.

    inputs   what the model takes, such as a picture: it is run once to see what its layers give
    after    layers that a module follows; instead: blocks that a module replaces, with their residuals
    Layers are numbers, the stem being 1, or names of modules.
    Raises ValueError for a layer that is not there or given twice, gives no maps or tokens, or, instead, changes shape.
    """
    follow, replace = resolved(model, after), resolved(model, instead)
    if not (names := [*replace, *follow]):
        raise ValueError("after=() and instead=() leave nothing to insert; name a layer, such as after=(17,)")
    _check(model, follow, names)
    shapes = shapes_of(model, names, inputs)
    for name in replace:
        _check_shape(name, shapes[name])
    made = _Maker(model, inputs, {"groups": groups, "norm_act": norm_act, "momentum": momentum})
    placed = {name: made(name, shapes[name].given) for name in names}
    inserted = InsertedULSAM(model)
    for name in names:
        (inserted.substitute if name in replace else inserted.add)(name, placed[name])
    inserted.watch(made.grid)
    return inserted


class _Maker:
    """Makes modules for what layers give; those on tokens share one grid."""

    def __init__(self, model: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.model, self.inputs, self.options = model, inputs, options
        self.grid: PatchGrid | None = None

    def __call__(self, name: str, shape: tuple[int, ...]) -> PlacedULSAM:
        if len(shape) not in (3, 4):
            raise ValueError(f"layer '{name}' gives {shape}, neither maps (b, c, h, w) nor tokens (b, n, c)")
        tokens, last = len(shape) == 3, getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        if tokens:
            self.grid = self.grid or PatchGrid(self.model, name, shape[1], self.inputs[0])
        layer = ULSAM(shape[-1] if tokens or last else shape[1], **self.options)
        layer.to(self._weight(name)).train(self.model.training)
        return PlacedULSAM(layer, last=last, grid=self.grid if tokens else None)

    def _weight(self, name: str) -> Tensor:
        """One of the layer's, or of the model's where it has none: a module goes where that is."""
        return next(self.model.get_submodule(name).parameters(), next(self.model.parameters()))


def _check(model: nn.Module, follow: list[str], names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"layer '{name}' is given twice; a layer is followed or replaced once")
        inside = [other for other in names if other.startswith(f"{name}.")]
        if inside:
            raise ValueError(f"layer '{inside[0]}' lies inside '{name}'; leave one of them out")
        if name in follow and hasattr(model.get_submodule(name), CHILD):
            raise ValueError(f"layer '{name}' is followed by a ULSAM already; undo that first")


def _check_shape(name: str, shapes: Shapes) -> None:
    if shapes.taken != shapes.given:
        raise ValueError(
            f"layer '{name}' turns {shapes.taken[1:]} into {shapes.given[1:]}; only a block that keeps channels and "
            "sides can be substituted, choose another or insert after it"
        )


def _followed_by_ulsam(layer: nn.Module, _: Any, out: Any) -> Any:
    return layer.get_submodule(CHILD)(out)
