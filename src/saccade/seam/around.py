"""Let a function answer in the place of one module's forward: of that very module, until it is undone."""

from collections.abc import Callable
from typing import Any, Self

from torch import nn

Forward = Callable[..., Any]


def around(module: nn.Module, act: Callable[..., Any]) -> Callable[[], None]:
    """Let act(forward, ...) answer for module(...); what undoes it is returned.

    Several stand around one another, and are undone in the order opposite to that in which they came.
    """
    own: Any = module
    before, forward = vars(module).get("forward"), module.forward
    own.forward = lambda *args, **kwargs: act(forward, *args, **kwargs)

    def undo() -> None:
        if before is None:
            del own.forward
        else:
            own.forward = before

    return undo


class Altered:
    """A module whose parts answer otherwise, until `undo` or the end of a `with`."""

    def __init__(self, module: nn.Module, mark: str) -> None:
        """`mark`: the attribute that says a module is altered so."""
        setattr(module, mark, True)
        self._undos: list[Callable[[], object]] = [lambda: delattr(module, mark)]

    def undo(self) -> None:
        """Leave the module as it was."""
        while self._undos:
            self._undos.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def _around(self, module: nn.Module, act: Callable[..., Any]) -> None:
        """Let act(forward, ...) answer in the place of this very module's forward."""
        self._undos.append(around(module, act))

    def _before(self, module: nn.Module, check: Callable[..., None]) -> None:
        """Call check(module, args, kwargs) before each forward of a module."""
        self._undos.append(module.register_forward_pre_hook(check, with_kwargs=True).remove)
