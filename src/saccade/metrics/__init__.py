"""Scores and how far to trust them: fidelity of pictures, paired intervals, time and memory."""

from saccade.metrics.fidelity import Fidelity as Fidelity
from saccade.metrics.fidelity import Picture as Picture
from saccade.metrics.fidelity import fidelity as fidelity
from saccade.metrics.fidelity import psnr as psnr
from saccade.metrics.fidelity import ssim as ssim
from saccade.metrics.intervals import Interval as Interval
from saccade.metrics.intervals import bootstrap as bootstrap
from saccade.metrics.intervals import paired_difference as paired_difference
from saccade.metrics.intervals import paired_ratio as paired_ratio
from saccade.metrics.intervals import share as share
from saccade.metrics.intervals import t_interval as t_interval
from saccade.metrics.perceptual import Perceptual as Perceptual
from saccade.metrics.perceptual import perceptual as perceptual
from saccade.metrics.stopwatch import Measured as Measured
from saccade.metrics.stopwatch import measure as measure

__all__ = [
    "Fidelity",
    "Interval",
    "Measured",
    "Perceptual",
    "Picture",
    "bootstrap",
    "fidelity",
    "measure",
    "paired_difference",
    "paired_ratio",
    "perceptual",
    "psnr",
    "share",
    "ssim",
    "t_interval",
]
