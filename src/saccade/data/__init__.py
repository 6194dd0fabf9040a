"""Data sets. `scenes`: synthetic pictures and videos with full ground truth, made from a seed."""

from saccade.data import scenes as scenes

__all__ = ["scenes"]
