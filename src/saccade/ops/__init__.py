"""Kernels and what they are chosen by: `attend(call)` runs a call, `choose` says by which kernel and why."""

from saccade.ops.dispatch import Choice, attend, choose, prepare

__all__ = ["Choice", "attend", "choose", "prepare"]
