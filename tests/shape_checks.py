"""The run-time checker of the test suite: shapes and dtypes of every tensor argument and result, and nothing else.

Plain types are pyright's business, and constructors are left out so that tests of bad input see the errors a user sees.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype


def check(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Enforce the annotations of `fn` that name array shapes; used as jaxtyping's type checker."""
    if fn.__qualname__.endswith("__init__"):
        return fn
    fn.__annotations__ = {k: hint if "jaxtyping" in repr(hint) else Any for k, hint in fn.__annotations__.items()}
    return beartype(fn)
