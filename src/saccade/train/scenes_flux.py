"""The recipe of the shipped `scenes-flux`: autoencoder, text, flow, decoder, export, evaluation.

The last training stage polishes the decoder alone, which the flow never sees. Each stage has its own folder.

A stage that has its result is not run again, a killed one goes on: repeat the command to resume.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from jaxtyping import UInt8

from saccade.models.scenes_flux import ScenesFlux, pin_pads_
from saccade.train.autoencoder import AutoencoderLoss, AutoencoderStage, AutoencoderTask, standardise_
from saccade.train.checkpoint import write_atomically
from saccade.train.evaluation import evaluate, sample_sheet
from saccade.train.flow import FlowLoss, FlowStage, FlowTask
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.pictures import pictures, scenes
from saccade.train.plots import save_picture
from saccade.train.settings import check_run
from saccade.train.stages import TrainedPart, export, stage_settings, train_parts
from saccade.train.text import TextLoss, TextStage, TextTask

Stage = Literal["autoencoder", "text", "flow", "decoder", "export", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)
NEEDS: dict[Stage, tuple[Stage, ...]] = {  # the stages that are trained, and whose results they train on
    "autoencoder": (),
    "text": (),
    "flow": ("autoencoder", "text"),
    "decoder": ("autoencoder",),
}

POLISH = AutoencoderStage(
    fit=Fit(minutes=4, optim=Optim(lr=1e-3, weight_decay=0, cooldown=0.7), decay=0.995), decoder_only=True
)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Held-out captions, shared out among one, two and three things: how many at each side, in pixels.

    Every side is measured without and with `guidance`. The first also with a third of the captions padded to the
    pipeline's own default of 512, and with the scheduler's stochastic sampling, which mends more of its own mistakes.
    """

    sides: tuple[int, ...] = (64, 128, 256)
    captions: tuple[int, ...] = (501, 90, 24)
    steps: int = 28
    text_tokens: int = 32
    guidance: float = 1.5


@dataclass(frozen=True, kw_only=True)
class ScenesFluxRecipe:
    """Everything that decides the result; `seed` also of the random start.

    `start`: folder of a pipeline from whose weights the stages set out instead; one not trained keeps them.
    """

    seed: int = 0
    start: str = ""
    model: ScenesFlux = field(default_factory=ScenesFlux)
    autoencoder: AutoencoderStage = field(default_factory=AutoencoderStage)
    text: TextStage = field(default_factory=TextStage)
    flow: FlowStage = field(default_factory=FlowStage)
    decoder: AutoencoderStage = field(default_factory=lambda: POLISH)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def run(self, folder: Path, stages: Sequence[Stage] = STAGES) -> Path:
        """Run `stages` in order, each taking over what earlier ones left in `folder`; returns the pipeline's folder."""
        for name in NEEDS:
            check_run(folder / name, self.settings(name))
        torch.manual_seed(self.seed)
        pipe = FluxPipeline.from_pretrained(self.start) if self.start else self.model.pipeline()
        train_parts(self._parts(pipe, folder), folder, self.settings, stages)
        if "export" in stages:
            export(pipe, folder / "pipeline")
        if "evaluate" in stages:
            self._evaluate(folder / "pipeline")
        return folder / "pipeline"

    def settings(self, stage: Stage) -> dict[str, Any]:
        """What decides the result of a stage: its own options, and those it sets out from with their lengths."""
        return stage_settings(self, stage, NEEDS[stage])

    def _parts(self, pipe: FluxPipeline, folder: Path) -> dict[Stage, TrainedPart]:
        vae, t5, clip = pipe.vae, pipe.text_encoder_2, pipe.text_encoder

        def standardise() -> None:
            standardise_(vae, pictures(scenes(512, seed=self.seed + 1), self.autoencoder.size))

        return {
            "autoencoder": TrainedPart(
                module=AutoencoderLoss(vae, self.autoencoder.kl_weight),
                task=lambda: AutoencoderTask(vae, self.autoencoder, pool(self.autoencoder)),
                fit=self.autoencoder.fit,
                finish=standardise,
            ),
            "text": TrainedPart(
                module=TextLoss(t5, clip),
                task=lambda: TextTask(t5, clip, self.text),
                fit=self.text.fit,
                finish=lambda: pin_pads_(t5),
            ),
            "flow": TrainedPart(
                module=FlowLoss(pipe.transformer, compiled=False),
                task=lambda: FlowTask(pipe, self.flow, folder / "flow"),
                fit=self.flow.fit,
            ),
            "decoder": TrainedPart(
                module=AutoencoderLoss(vae, self.decoder.kl_weight),
                task=lambda: AutoencoderTask(vae, self.decoder, pool(self.decoder)),
                fit=self.decoder.fit,
            ),
        }

    def _evaluate(self, folder: Path) -> None:
        pipe, wanted = FluxPipeline.from_pretrained(folder), self.evaluation
        plain = {"steps": wanted.steps, "text_tokens": wanted.text_tokens}
        guided = {**plain, "guidance": wanted.guidance}
        first, most = wanted.sides[0], wanted.captions[0]
        measured = [
            evaluate(pipe, n, side=side, **given)
            for side, n in zip(wanted.sides, wanted.captions, strict=True)
            for given in (plain, guided)
        ]
        measured.append(evaluate(pipe, -(-most // 3), side=first, **{**plain, "text_tokens": 512}))
        measured += [evaluate(stochastic(pipe), most, side=first, **given) for given in (plain, guided)]
        text = json.dumps({"measured": measured}, indent=1) + "\n"
        write_atomically(folder / "measured.json", lambda path: path.write_text(text))
        save_picture(folder / "samples.png", sample_sheet(pipe, steps=wanted.steps))


def pool(stage: AutoencoderStage) -> UInt8[np.ndarray, "b h w 3"]:
    """The pictures that an autoencoder is trained on."""
    return pictures(scenes(stage.pool, seed=stage.fit.seed, counts=(1, 2, 3)), stage.size)


def stochastic(pipe: FluxPipeline, shift: float = 2.0) -> FluxPipeline:
    """The same parts under a scheduler that draws fresh noise after every step."""
    config = {**pipe.scheduler.config, "shift": shift, "stochastic_sampling": True}
    return FluxPipeline(**{**pipe.components, "scheduler": type(pipe.scheduler).from_config(config)})
