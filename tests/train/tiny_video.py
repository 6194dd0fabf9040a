"""A video recipe small enough for tests."""

from saccade.models.scenes_wan import ScenesWan
from saccade.train.loop import Fit
from saccade.train.scenes_wan import ScenesWanRecipe, VideoEvaluation
from saccade.train.text import TextStage
from saccade.train.video_autoencoder import VideoAutoencoderStage
from saccade.train.video_flow import VideoFlowStage

MODEL = ScenesWan(
    hidden=32,
    head_dim=16,
    feed_forward=32,
    blocks=1,
    time_channels=16,
    text_dim=32,
    text_heads=2,
    text_layers=2,
    latent_channels=4,
    autoencoder_width=4,
    autoencoder_widths=(1, 1),
)
FIT = Fit(steps=2, precision="no", log_every=1, save_every=1)
FLOW = VideoFlowStage(fit=FIT, batches=(3, 2), pools=(4, 2), still_batch=5)
RECIPE = ScenesWanRecipe(
    words="",
    model=MODEL,
    autoencoder=VideoAutoencoderStage(fit=FIT, batch=1, still_batch=2, pool=2),
    text=TextStage(fit=FIT, batch=4),
    flow=FLOW,
    decoder=VideoAutoencoderStage(fit=FIT, batch=1, still_batch=2, pool=2, decoder_only=True),
    evaluation=VideoEvaluation(frames=(9,), captions=(1,), guidance=(1.0, 2.0), steps=1),
)
