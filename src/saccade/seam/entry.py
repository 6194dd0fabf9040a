"""How a rebuilt method and the functions it calls find their interceptor: the module carries it, the thread holds it.

Templates: a shadow gives each a code object of its own, and as defaults of keywords what it calls. So no decorator may
wrap one, run-time shape checks included.
"""

import threading
from typing import Any, no_type_check

INTERCEPTOR = "_saccade_interceptor"  # the attribute of an attached attention module


class Here(threading.local):
    """The site whose code is running in this thread, None outside."""

    interceptor: Any = None


HERE = Here()


@no_type_check
def enter_module(self, *args: Any, _saccade_own: Any = None, **kwargs: Any) -> Any:
    outside, interceptor = HERE.interceptor, self._saccade_interceptor
    if outside is None and not interceptor.active:
        return _saccade_own(self, *args, **kwargs)
    HERE.interceptor = interceptor
    try:
        return _saccade_own(self, *args, **kwargs)
    finally:
        HERE.interceptor = outside


@no_type_check
def enter_processor(self, attn: Any, *args: Any, _saccade_own: Any = None, **kwargs: Any) -> Any:
    outside, interceptor = HERE.interceptor, getattr(attn, INTERCEPTOR, None)
    if outside is None and (interceptor is None or not interceptor.active):
        return _saccade_own(self, attn, *args, **kwargs)
    HERE.interceptor = interceptor
    try:
        return _saccade_own(self, attn, *args, **kwargs)
    finally:
        HERE.interceptor = outside
