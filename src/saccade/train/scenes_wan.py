"""The recipe of `scenes-wan`: autoencoder, text, flow, decoder, export, evaluation; that of `scenes-flux` for videos.

The text encoder sets out from that of `scenes-flux`, which has read captions of pictures; the rest from random weights.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from transformers.models.t5.modeling_t5 import T5EncoderModel

from saccade.models import path
from saccade.models.scenes_wan import ScenesWan, standardise_, umt5_weights
from saccade.train.autoencoder import AutoencoderLoss
from saccade.train.checkpoint import write_atomically
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.pictures import clips, to_tensor, videos
from saccade.train.plots import save_picture
from saccade.train.scenes_flux import NEEDS, Stage
from saccade.train.scenes_flux import STAGES as STAGES
from saccade.train.settings import check_run
from saccade.train.stages import TrainedPart, export, stage_settings, train_parts
from saccade.train.text import TextStage, VideoTextLoss, VideoTextTask
from saccade.train.video_autoencoder import VideoAutoencoderStage, VideoAutoencoderTask, pool
from saccade.train.video_evaluation import evaluate_autoencoder, evaluate_videos, video_sheet
from saccade.train.video_flow import VideoFlowLoss, VideoFlowStage, VideoFlowTask

POLISH = VideoAutoencoderStage(
    fit=Fit(
        steps=3000,
        precision="no",
        decay=0.995,
        save_every=50,
        optim=Optim(lr=5e-4, muon_lr=1e-3, flatten=True, weight_decay=0, cooldown=0.7),
    ),
    stills=0.2,
    decoder_only=True,
)
TEXT = TextStage(
    fit=Fit(steps=800, precision="no", decay=0.99, save_every=50, log_every=25, optim=Optim(lr=1e-3)), batch=64
)


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VideoEvaluation:
    """Held-out captions of one and of two things, so many each, for each number of frames, at each guidance."""

    frames: tuple[int, ...] = (9, 17, 25)
    captions: tuple[int, ...] = (100, 40, 40)
    guidance: tuple[float, ...] = (1.0, 2.0)
    steps: int = 28


@dataclass(frozen=True, kw_only=True)
class ScenesWanRecipe:
    """Everything that decides the result; `seed` also of the random start.

    `start`: folder of a pipeline from whose weights the stages set out instead; one not trained keeps them.
    `words`: bundled pipeline whose T5 the text encoder sets out from; empty for random weights.
    """

    seed: int = 0
    start: str = ""
    words: str = "scenes-flux"
    model: ScenesWan = field(default_factory=ScenesWan)
    autoencoder: VideoAutoencoderStage = field(default_factory=VideoAutoencoderStage)
    text: TextStage = field(default_factory=lambda: TEXT)
    flow: VideoFlowStage = field(default_factory=VideoFlowStage)
    decoder: VideoAutoencoderStage = field(default_factory=lambda: POLISH)
    evaluation: VideoEvaluation = field(default_factory=VideoEvaluation)

    def run(self, folder: Path, stages: Sequence[Stage] = STAGES) -> Path:
        """Run `stages` in order, each taking over what earlier ones left in `folder`; returns the pipeline's folder."""
        for name in NEEDS:
            check_run(folder / name, self.settings(name))
        torch.manual_seed(self.seed)
        pipe = WanPipeline.from_pretrained(self.start) if self.start else self._fresh()
        train_parts(self._parts(pipe, folder), folder, self.settings, stages)
        if "export" in stages:
            export(pipe, folder / "pipeline")
        if "evaluate" in stages:
            self._evaluate(folder / "pipeline")
        return folder / "pipeline"

    def settings(self, stage: Stage) -> dict[str, Any]:
        """What decides the result of a stage: its own options, and those it sets out from with their lengths."""
        words = {} if stage in ("autoencoder", "decoder") else {"words": self.words}
        return stage_settings(self, stage, NEEDS[stage]) | words

    def _fresh(self) -> WanPipeline:
        pipe = self.model.pipeline()
        if self.words:
            t5 = T5EncoderModel.from_pretrained(path(self.words), subfolder="text_encoder_2")
            pipe.text_encoder.load_state_dict(umt5_weights(t5))
        return pipe

    def _parts(self, pipe: WanPipeline, folder: Path) -> dict[Stage, TrainedPart]:
        vae, encoder = pipe.vae, pipe.text_encoder

        @torch.no_grad()
        def standardise() -> None:
            drawn = videos(64, seed=self.seed + 1, frames=self.autoencoder.frames)
            images = to_tensor(clips(drawn, self.autoencoder.size)).to(vae.device)
            standardise_(vae, vae.encode(images).latent_dist.mean)  # type: ignore[union-attr]
            log.info("of videos through the autoencoder is kept: %s", self._ceiling(vae))

        return {
            "autoencoder": TrainedPart(
                module=AutoencoderLoss(vae, self.autoencoder.kl_weight),
                task=lambda: VideoAutoencoderTask(vae, self.autoencoder, pool(self.autoencoder)),
                fit=self.autoencoder.fit,
                finish=standardise,
            ),
            "text": TrainedPart(
                module=VideoTextLoss(encoder),
                task=lambda: VideoTextTask(encoder, self.text),
                fit=self.text.fit,
            ),
            "flow": TrainedPart(
                module=VideoFlowLoss(pipe.transformer),
                task=lambda: VideoFlowTask(pipe, self.flow, folder / "flow"),
                fit=self.flow.fit,
            ),
            "decoder": TrainedPart(
                module=AutoencoderLoss(vae, self.decoder.kl_weight),
                task=lambda: VideoAutoencoderTask(vae, self.decoder, pool(self.decoder)),
                fit=self.decoder.fit,
            ),
        }

    def _ceiling(self, vae: AutoencoderKLWan) -> dict[str, object]:
        stage = self.autoencoder
        return evaluate_autoencoder(vae, self.evaluation.captions[0], frames=stage.frames, side=stage.size)

    def _evaluate(self, folder: Path) -> None:
        pipe, wanted, side = WanPipeline.from_pretrained(folder), self.evaluation, self.flow.side
        given: dict[str, Any] = {"steps": wanted.steps, "side": side}
        measured = [
            evaluate_videos(pipe, n, frames=frames, guidance=guidance, **given)
            for frames, n in zip(wanted.frames, wanted.captions, strict=True)
            for guidance in wanted.guidance
        ]
        text = json.dumps({"measured": measured, "autoencoder": self._ceiling(pipe.vae)}, indent=1) + "\n"
        write_atomically(folder / "measured.json", lambda file: file.write_text(text))
        sheet = video_sheet(pipe, frames=wanted.frames[0], guidance=wanted.guidance[-1], **given)
        save_picture(folder / "samples.png", sheet)
