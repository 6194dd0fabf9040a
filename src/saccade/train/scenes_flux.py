"""The recipe of the shipped `scenes-flux`: autoencoder, text, flow, decoder, export, evaluation.

The last training stage polishes the decoder alone, which the flow never sees. Each stage has its own folder.

A stage that has its result is not run again, a killed one goes on: repeat the command to resume.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from torch import nn

from saccade.models.scenes_flux import ScenesFlux, pin_pads_
from saccade.train.autoencoder import AutoencoderLoss, AutoencoderStage, AutoencoderTask, standardise_
from saccade.train.checkpoint import CHECKPOINT, RESULT, trained, write_atomically
from saccade.train.evaluation import evaluate, sample_sheet
from saccade.train.flow import FlowLoss, FlowStage, FlowTask
from saccade.train.loop import Fit, Task, finished, fit
from saccade.train.optimisers import Optim
from saccade.train.pictures import pictures, scenes
from saccade.train.plots import save_picture
from saccade.train.settings import check_run, flat
from saccade.train.text import TextLoss, TextStage, TextTask

log = logging.getLogger(__name__)

Stage = Literal["autoencoder", "text", "flow", "decoder", "export", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)
NEEDS: dict[Stage, tuple[Stage, ...]] = {  # the stages that are trained, and whose results they train on
    "autoencoder": (),
    "text": (),
    "flow": ("autoencoder", "text"),
    "decoder": ("autoencoder",),
}
_PARTS = ("vae", "transformer", "text_encoder", "text_encoder_2")
_TEXT_PARTS = _PARTS[2:]


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
        for name, part in self._parts(pipe, folder).items():
            log.info("stage %s", name)
            if part.complete(folder / name, self.settings(name), train=name in stages):
                part.finish()
        if "export" in stages:
            export(pipe, folder / "pipeline")
        if "evaluate" in stages:
            self._evaluate(folder / "pipeline")
        return folder / "pipeline"

    def settings(self, stage: Stage) -> dict[str, Any]:
        """What decides the result of a stage: its own options, and those it sets out from with their lengths."""
        found = flat({name: getattr(self, name) for name in ("seed", "start", "model", stage, *NEEDS[stage])})
        for name in NEEDS[stage]:
            length: Fit = getattr(self, name).fit
            found |= {f"{name}.fit.steps": length.steps, f"{name}.fit.minutes": length.minutes}
        return found

    def _parts(self, pipe: FluxPipeline, folder: Path) -> dict[Stage, "_Part"]:
        vae, t5, clip = pipe.vae, pipe.text_encoder_2, pipe.text_encoder

        def standardise() -> None:
            standardise_(vae, pictures(scenes(512, seed=self.seed + 1), self.autoencoder.size))

        return {
            "autoencoder": _Part(
                module=AutoencoderLoss(vae, self.autoencoder.kl_weight),
                task=lambda: AutoencoderTask(vae, self.autoencoder),
                fit=self.autoencoder.fit,
                finish=standardise,
            ),
            "text": _Part(
                module=TextLoss(t5, clip),
                task=lambda: TextTask(t5, clip, self.text),
                fit=self.text.fit,
                finish=lambda: pin_pads_(t5),
            ),
            "flow": _Part(
                module=FlowLoss(pipe.transformer, compiled=False),
                task=lambda: FlowTask(pipe, self.flow, folder / "flow"),
                fit=self.flow.fit,
            ),
            "decoder": _Part(
                module=AutoencoderLoss(vae, self.decoder.kl_weight),
                task=lambda: AutoencoderTask(vae, self.decoder),
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


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One trained stage: where its weights go, what trains them, and what is to be done with them afterwards."""

    module: nn.Module
    task: Callable[[], Task]
    fit: Fit
    finish: Callable[[], None] = lambda: None

    def complete(self, folder: Path, settings: dict[str, Any], *, train: bool) -> bool:
        """Train, or take what `folder` has: the result, else the averages of the newest checkpoint, else nothing."""
        if train and not finished(self.fit, folder):
            fit(self.task(), self.fit, folder, settings=settings)
            return True
        if not (folder / RESULT).exists() and not (folder / CHECKPOINT).exists():
            return False
        self.module.load_state_dict(trained(folder))
        return True


def stochastic(pipe: FluxPipeline, shift: float = 2.0) -> FluxPipeline:
    """The same parts under a scheduler that draws fresh noise after every step."""
    config = {**pipe.scheduler.config, "shift": shift, "stochastic_sampling": True}
    return FluxPipeline(**{**pipe.components, "scheduler": type(pipe.scheduler).from_config(config)})


def export(pipe: FluxPipeline, folder: Path) -> None:
    """Store the pipeline in half precision, in such a way that plain `from_pretrained` loads it in single."""
    parts: list[nn.Module] = [getattr(pipe, name) for name in _PARTS]
    for part in parts:
        part.requires_grad_(False).half()
    pipe.save_pretrained(folder)
    for name in ("model_index.json", *(f"{part}/config.json" for part in _PARTS[:2])):  # which tell where `start` lay
        _edit_json(folder / name, lambda config: {k: v for k, v in config.items() if k != "_name_or_path"})
    for name in _TEXT_PARTS:  # transformers loads in the precision that is written here
        _edit_json(folder / name / "config.json", lambda config: config | {"dtype": "float32"})
    for part in parts:
        part.float()


def _edit_json(path: Path, edit: Callable[[dict[str, object]], dict[str, object]]) -> None:
    text = json.dumps(edit(json.loads(path.read_text())), indent=2) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text))
