"""Let a function answer in the place of one module's forward: of that very module, until it is undone."""

from collections.abc import Callable
from typing import Any

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
