"""Points looked up where the model itself thinks the trajectory goes, not where the noise has put it.

At late steps noisy coordinates lie at the border, where positions say little. The clean trajectory must not be used, it
would be leaked; its estimate by a first pass may. An option of ours, at twice the cost.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.architecture import Prediction
from saccade.papers.diffeye.model import Condition, DiffEye
from saccade.runs.gaussian import Chain


class LooksAtEstimate(nn.Module):
    """A DiffEye called twice: the second pass looks positions up at the first one's estimate of R_0.

    chain   of the training, by whose steps the times count
    """

    def __init__(self, model: DiffEye, chain: Chain | None = None) -> None:
        super().__init__()
        self.model, self.chain = model, chain or Chain()
        self.config: Any = model.config

    def forward(self, x: Float[Tensor, "b l 2"], t: Float[Tensor, " b"], condition: Condition) -> Prediction:
        """The noise, as `DiffEye`; no gradient goes through the estimate."""
        with torch.no_grad():
            places = self.chain.clean(x, self.model(x, t, condition).out, t.long()).clamp(-1, 1)
        return self.model(x, t, {**condition, "places": places})
