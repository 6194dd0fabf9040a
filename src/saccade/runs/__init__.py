"""Whole runs as flat functions: sampling along a flow, and back."""

from saccade.runs.inversion import Velocity as Velocity
from saccade.runs.inversion import invert_euler as invert_euler
from saccade.runs.inversion import invert_uni as invert_uni
from saccade.runs.inversion import sample_euler as sample_euler

__all__ = ["Velocity", "invert_euler", "invert_uni", "sample_euler"]
