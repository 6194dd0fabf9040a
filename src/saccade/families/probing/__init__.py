"""A family written by looking: one forward shows where attention is, a few more which tokens each argument reaches."""

from saccade.families.probing.proposal import Probe, probe

__all__ = ["Probe", "probe"]
