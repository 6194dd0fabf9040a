"""Whole runs as flat functions: sampling, inversion and blending of a flow, text out of masks, a search for heads."""

from saccade.runs.denoising import Predict as Predict
from saccade.runs.denoising import ddpm as ddpm
from saccade.runs.denoising import guided as guided
from saccade.runs.denoising import rectified_flow as rectified_flow
from saccade.runs.gaussian import Chain as Chain
from saccade.runs.head_search import HeadSearch as HeadSearch
from saccade.runs.head_search import hunt_heads as hunt_heads
from saccade.runs.inversion import Velocity as Velocity
from saccade.runs.inversion import invert_euler as invert_euler
from saccade.runs.inversion import invert_uni as invert_uni
from saccade.runs.inversion import inverted_path as inverted_path
from saccade.runs.inversion import sample_euler as sample_euler
from saccade.runs.latent_blending import blended as blended
from saccade.runs.latent_blending import noised as noised
from saccade.runs.masked_diffusion import generate as generate
from saccade.runs.masked_diffusion import reveal_counts as reveal_counts

__all__ = [
    "Chain",
    "HeadSearch",
    "Predict",
    "Velocity",
    "blended",
    "ddpm",
    "generate",
    "guided",
    "hunt_heads",
    "invert_euler",
    "invert_uni",
    "inverted_path",
    "noised",
    "rectified_flow",
    "reveal_counts",
    "sample_euler",
]
