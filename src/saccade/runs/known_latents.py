"""Keep part of a flow's latents what a known picture is at every level: blended diffusion for flow matching.

x_t = (1 - sigma) x_0 + sigma noise, so outside the free part latents follow the picture's own straight path.
"""

from jaxtyping import Float
from torch import Tensor


def noised(clean: Float[Tensor, "*s"], noise: Float[Tensor, "*s"], sigma: float) -> Float[Tensor, "*s"]:
    """A clean latent at a level: the noise at 1, itself to the bit at 0."""
    return (1 - sigma) * clean + sigma * noise


def with_known(
    x: Float[Tensor, "*s"],
    clean: Float[Tensor, "*s"],
    noise: Float[Tensor, "*s"],
    sigma: float,
    free: Float[Tensor, "*s"],
) -> Float[Tensor, "*s"]:
    """x where `free` is 1, the clean latent at x's level where it is 0, and in between in proportion.

    sigma  the level x has reached, in [0, 1]: after a step, the one it stepped to
    free   in [0, 1]; 1 leaves x, 0 the known latent, both to the bit
    """
    return free * x + (1 - free) * noised(clean, noise, sigma)
