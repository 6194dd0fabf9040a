"""What MMFace-DiT is taught in the paper: a flow of uniform times, or the noise of Stable Diffusion's chain.

lambda -> snr_limit. The released configurations leave the weights out: `replace(DDPM, snr_limit=None)`.
"""

from saccade.train.objectives import Ddpm, RectifiedFlow

FLOW = RectifiedFlow(times="uniform")
DDPM = Ddpm(schedule="scaled_linear", low=8.5e-4, high=1.2e-2, snr_limit=5.0)
