"""Whole paths over a picture compared, and turned into fixations; what their saccades and speeds are like."""

from saccade.metrics.trajectories.alignment import align_all as align_all
from saccade.metrics.trajectories.alignment import discrete_frechet as discrete_frechet
from saccade.metrics.trajectories.alignment import distances as distances
from saccade.metrics.trajectories.alignment import dtw as dtw
from saccade.metrics.trajectories.distributions import Divergences as Divergences
from saccade.metrics.trajectories.distributions import divergences as divergences
from saccade.metrics.trajectories.distributions import jensen_shannon as jensen_shannon
from saccade.metrics.trajectories.distributions import saccades as saccades
from saccade.metrics.trajectories.distributions import speeds as speeds
from saccade.metrics.trajectories.embedding import stde as stde
from saccade.metrics.trajectories.embedding import tde as tde
from saccade.metrics.trajectories.fixations import Detected as Detected
from saccade.metrics.trajectories.fixations import DispersionThreshold as DispersionThreshold
from saccade.metrics.trajectories.fixations import NoFixationError as NoFixationError
from saccade.metrics.trajectories.fixations import VelocityThreshold as VelocityThreshold
from saccade.metrics.trajectories.recurrence import Recurrence as Recurrence
from saccade.metrics.trajectories.recurrence import recurrence as recurrence
from saccade.metrics.trajectories.reporting import MeanBest as MeanBest
from saccade.metrics.trajectories.reporting import consistency as consistency
from saccade.metrics.trajectories.reporting import matrix as matrix
from saccade.metrics.trajectories.reporting import mean_best as mean_best
from saccade.metrics.trajectories.resampling import resampled as resampled

__all__ = [
    "Detected",
    "DispersionThreshold",
    "Divergences",
    "MeanBest",
    "NoFixationError",
    "Recurrence",
    "VelocityThreshold",
    "align_all",
    "consistency",
    "discrete_frechet",
    "distances",
    "divergences",
    "dtw",
    "jensen_shannon",
    "matrix",
    "mean_best",
    "recurrence",
    "resampled",
    "saccades",
    "speeds",
    "stde",
    "tde",
]
