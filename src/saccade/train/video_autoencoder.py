"""Stage one for videos: that of pictures on clips, in turn with single frames.

A still takes a fraction of a clip's time, shows another scene, and what is learnt of its shapes serves all frames.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from saccade.train.autoencoder import AutoencoderStage, AutoencoderTask
from saccade.train.checks import check_share
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.pictures import clips, to_tensor, videos


@dataclass(frozen=True, kw_only=True)
class VideoAutoencoderStage(AutoencoderStage):
    """Clips of `frames` frames, `batch` a step; a share `stills` of the steps takes `still_batch` single frames.

    Raises ValueError for options out of range.
    """

    fit: Fit = field(
        default_factory=lambda: Fit(
            steps=10000,
            precision="no",
            decay=0.995,
            save_every=50,
            sheet_every=1500,
            optim=Optim(lr=1e-3, muon_lr=3e-3, flatten=True, weight_decay=0),
        )
    )
    batch: int = 1
    stills: float = 0.4
    still_batch: int = 18
    pool: int = 2500
    size: int = 48
    frames: int = 9
    kl_weight: float = 5e-5

    def __post_init__(self) -> None:
        check_share(stills=self.stills)


class VideoAutoencoderTask(AutoencoderTask):
    """A `Task`: reconstruct clips of `pool`, and single frames of them."""

    stage: VideoAutoencoderStage

    def batch(self, rng: np.random.Generator) -> Float[Tensor, "b 3 t h w"]:
        if rng.random() >= self.stage.stills:
            return super().batch(rng)
        chosen, frame = (rng.integers(n, size=self.stage.still_batch) for n in self.pool.shape[:2])
        return to_tensor(np.roll(self.pool[chosen, frame, None], tuple(rng.integers(-3, 4, size=2)), axis=(-3, -2)))


def pool(stage: VideoAutoencoderStage) -> UInt8[np.ndarray, "b t h w 3"]:
    """The videos that an autoencoder is trained on."""
    return clips(videos(stage.pool, seed=stage.fit.seed, frames=stage.frames, counts=(1, 2, 3)), stage.size)
