"""Whole runs as flat functions: sampling along a flow, and back; text out of a mask predictor."""

from saccade.runs.inversion import Velocity as Velocity
from saccade.runs.inversion import invert_euler as invert_euler
from saccade.runs.inversion import invert_uni as invert_uni
from saccade.runs.inversion import sample_euler as sample_euler
from saccade.runs.masked_diffusion import generate as generate
from saccade.runs.masked_diffusion import reveal_counts as reveal_counts

__all__ = ["Velocity", "generate", "invert_euler", "invert_uni", "reveal_counts", "sample_euler"]
