"""Kernels and what they are chosen by: `attend(call)` runs a call, `choose` says by which kernel and why.

`warm()` compiles what serves every call of a process; do it before anything is measured.
"""

from saccade.ops.dispatch import Choice, attend, choose, prepare, warm

__all__ = ["Choice", "attend", "choose", "prepare", "warm"]
