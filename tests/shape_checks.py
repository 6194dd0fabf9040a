"""The run-time checker of the test suite: shapes and dtypes of every tensor argument and result, and nothing else.

Plain types are pyright's business, and constructors are left out so that tests of bad input see the errors a user sees.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jaxtyping
from beartype import beartype

_CHECKS: dict[tuple[Any, ...], Callable[..., Any]] = {}


def check(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Enforce the annotations of `fn` that name array shapes; used as jaxtyping's type checker.

    It gets functions without a body, made from a signature, so those of one signature share their check: a function
    defined inside another is wrapped anew at each call of that, which takes milliseconds.
    """
    hints = {name: hint if _names_shapes(hint) else Any for name, hint in fn.__annotations__.items()}
    signature = (fn.__module__, fn.__qualname__, fn.__code__.co_varnames, repr(hints))
    if signature not in _CHECKS:
        fn.__annotations__ = hints
        _CHECKS[signature] = beartype(fn)
    return _CHECKS[signature]


def decorate(fn: Any = None, *, typechecker: Any, jaxtyped: Any = jaxtyping.jaxtyped) -> Any:
    """In the place of `jaxtyping.jaxtyped`, which the import hook writes above every class and every function: wraps
    those alone that name a shape.
    """
    if fn is None:
        return partial(decorate, typechecker=typechecker)
    is_constructor = isinstance(fn, type) or fn.__name__ == "__init__"
    checked = not is_constructor and any(map(_names_shapes, fn.__annotations__.values()))
    return jaxtyped(fn, typechecker=typechecker) if checked else fn


def _names_shapes(hint: Any) -> bool:
    return "jaxtyping" in repr(hint)
