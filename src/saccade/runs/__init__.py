"""Whole runs as flat functions: sampling, long videos by windows, inversion, text of language models, head search."""

from saccade.runs.decoding import decode as decode
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
from saccade.runs.known_latents import noised as noised
from saccade.runs.known_latents import with_known as with_known
from saccade.runs.latent_blending import blended as blended
from saccade.runs.latent_blending import from_clean as from_clean
from saccade.runs.latent_blending import rising_guidance as rising_guidance
from saccade.runs.latent_blending import sample_windows as sample_windows
from saccade.runs.latent_blending import to_clean as to_clean
from saccade.runs.masked_diffusion import generate as generate
from saccade.runs.masked_diffusion import reveal_counts as reveal_counts
from saccade.runs.sde_solver import sde_dpmpp_2m as sde_dpmpp_2m
from saccade.runs.windows import Windows as Windows
from saccade.runs.windows import triangle as triangle

__all__ = [
    "Chain",
    "HeadSearch",
    "Predict",
    "Velocity",
    "Windows",
    "blended",
    "ddpm",
    "decode",
    "from_clean",
    "generate",
    "guided",
    "hunt_heads",
    "invert_euler",
    "invert_uni",
    "inverted_path",
    "noised",
    "rectified_flow",
    "reveal_counts",
    "rising_guidance",
    "sample_euler",
    "sample_windows",
    "sde_dpmpp_2m",
    "to_clean",
    "triangle",
    "with_known",
]
