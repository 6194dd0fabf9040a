"""What E-MMDiT's parts cost and bring on captioned scenes of 32 x 32 pixels: compression, subregions, positions, adaLN.

Expected: compression makes a step more than 1.5 times as fast for a little loss; subregions save about half of the
pairs at nearly equal loss; adding the positions again recovers accuracy of place that compression cost; the three
modulations differ little.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.experiments import Bench, Experiment, Row, Verdicts, fitted
from saccade.metrics.intervals import Interval, paired_difference, t_interval
from saccade.metrics.stopwatch import in_turn
from saccade.models.labelled import TokenWords
from saccade.models.sizing import parameters
from saccade.nn.eval_mode import eval_mode
from saccade.papers.e_mmdit.captioned_scenes import (
    PADDING,
    WORDS,
    CaptionedScenes,
    held_out_prompts,
    held_out_scenes,
    keeps_place,
    overlap,
    word_numbers,
)
from saccade.papers.e_mmdit.config import EMMDiTConfig
from saccade.papers.e_mmdit.model import EMMDiT
from saccade.papers.e_mmdit.report import CLAIMS, little, modulation_table, parts_table
from saccade.papers.e_mmdit.subregions import ALTERNATING, FULL
from saccade.train.denoising import ArchitectureStage
from saccade.train.loop import Fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim
from saccade.train.pictures import to_bytes

PLAIN: dict[str, Any] = {"patterns": FULL, "compress": False, "reinforce": False}
WHOLE: dict[str, Any] = {"patterns": ALTERNATING, "compress": True, "reinforce": True}
ARMS: dict[str, dict[str, Any]] = {
    "full": PLAIN,
    "+ compression": PLAIN | {"compress": True},
    "+ subregions": WHOLE | {"reinforce": False},
    "+ positions": WHOLE,
    "the same, adaLN-single": WHOLE | {"modulation": "single"},
    "the same, a linear layer per block": WHOLE | {"modulation": "zero"},
}
SEED = 0  # of weights, training and noise
FLOW = RectifiedFlow()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of all arms alike.

    pictures   held-out ones that are scored
    noise      time at which outlines are compared
    samples    pictures that are sampled, in `sampling` steps
    rounds     of steps that are timed
    """

    steps: int = 400
    batch: int = 16
    width: int = 64
    groups: tuple[int, int, int] = (1, 4, 1)
    pictures: int = 512
    noise: float = 0.7
    samples: int = 64
    sampling: int = 20
    rounds: int = 7


EXPERIMENT = Experiment(
    name="e_mmdit",
    settings=Settings(),
    quick=Settings(steps=2, batch=2, width=32, groups=(1, 1, 1), pictures=8, samples=2, sampling=2, rounds=2),
    hours=0.2,
    sections={"parts": (parts_table,), "modulation": (modulation_table,), "verdicts": (Verdicts(CLAIMS), little)},
    claims=CLAIMS,
)


@EXPERIMENT.part(tables=True)
def training(bench: Bench[Settings]) -> Iterable[Row]:
    """What each arm costs, and how well it does; its scores are compared with those of the arms before it."""
    settings, scores = bench.settings, dict[str, dict[str, list[float]]]()
    for number, arm in enumerate(ARMS):
        bench.progress(number, len(ARMS), arm)
        model = made(arm, settings)
        fitted(model, CaptionedScenes(), stage(settings), bench.work / arm)
        modulation = model.get_submodule("model.blocks.0.0.image.modulation")
        yield {
            "table": "runs", "arm": arm, "parameters": parameters(model), "modulation": parameters(modulation),
            "pairs": config(arm, settings).pairs(WORDS), "place_kept": sum(places_kept(model, settings)),
        }  # fmt: skip
        scores[arm] = {"loss": losses(model, settings), "overlap": overlaps(model, settings)}
        yield from compared(scores)


@EXPERIMENT.part()
def steps(bench: Bench[Settings]) -> Iterable[Row]:
    """Seconds of a forward and a backward of each arm, in rounds that take the arms in turn."""
    x, ids = CaptionedScenes().batch(np.random.default_rng(SEED), bench.settings.batch)
    arms = {arm: partial(backward, made(arm, bench.settings), x, ids) for arm in ARMS}
    for arm, seconds in in_turn(arms, bench.settings.rounds).items():
        yield from ({"arm": arm, "round": number, "seconds": each} for number, each in enumerate(seconds))


def config(arm: str, settings: Settings) -> EMMDiTConfig:
    """Of an arm."""
    return EMMDiTConfig(
        groups=settings.groups, width=settings.width, heads=settings.width // 32, patch=2, side=CaptionedScenes().side,
        channels=3, words_width=settings.width, **ARMS[arm],
    )  # fmt: skip


def made(arm: str, settings: Settings) -> TokenWords:
    """An untrained arm."""
    torch.manual_seed(SEED)
    return TokenWords(EMMDiT(config(arm, settings)), PADDING, tokens=WORDS, width=settings.width)


def stage(settings: Settings) -> ArchitectureStage:
    """The training of every arm."""
    fit = Fit(steps=settings.steps, seed=SEED, precision="no", decay=0.99, optim=Optim(cooldown=0.4))
    return ArchitectureStage(fit=fit, batch=settings.batch)


def backward(model: TokenWords, x: Tensor, ids: Tensor) -> None:
    """A training step without its optimiser."""
    FLOW.loss(model, x, ids, torch.full((len(x),), 0.5), torch.randn_like(x))["loss"].backward()


def compared(scores: Mapping[str, Mapping[str, list[float]]]) -> Iterable[Row]:
    """Means of the newest arm's scores, and picture by picture how much they lie above every earlier arm's."""
    *earlier, arm = scores
    for name, values in scores[arm].items():
        yield _found(arm, name, "", t_interval(values))
        yield from (_found(arm, name, other, paired_difference(values, scores[other][name])) for other in earlier)


def _found(arm: str, score: str, against: str, interval: Interval) -> Row:
    return {"table": "held_out", "arm": arm, "score": score, "against": against, **asdict(interval)}


@torch.no_grad()
def velocities(model: TokenWords, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Clean held-out pictures, velocities towards always the same noise, and the model's, at times `t`."""
    x, ids = CaptionedScenes().held_out(len(t))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(SEED))
    share = t.view(-1, 1, 1, 1)
    rows = zip(*(each.split(64) for each in ((1 - share) * x + share * noise, t, ids)), strict=True)
    return x, noise - x, torch.cat([model(*row).out for row in rows])


def losses(model: TokenWords, settings: Settings) -> list[float]:
    """Of each held-out picture, at even quantiles of the times."""
    _, wanted, found = velocities(model, FLOW.spread(settings.pictures))
    return (found - wanted).square().mean((1, 2, 3)).tolist()


def overlaps(model: TokenWords, settings: Settings) -> list[float]:
    """Of each held-out picture's object with its outline in the clean picture predicted from `noise`."""
    x, wanted, found = velocities(model, torch.full((settings.pictures,), settings.noise))
    predicted = (x + settings.noise * (wanted - found)).permute(0, 2, 3, 1).numpy() * 127.5 + 127.5
    scenes = held_out_scenes(settings.pictures)
    return [overlap(picture, scene) for picture, scene in zip(predicted, scenes, strict=True)]


def places_kept(model: TokenWords, settings: Settings) -> list[bool]:
    """Of each sampled picture, whether its object stands where the caption says."""
    prompts, side = held_out_prompts(settings.samples), CaptionedScenes().side
    ids = word_numbers(prompts)
    with eval_mode(model):
        found = FLOW.sample(
            model, ids, torch.full_like(ids, PADDING), (len(ids), 3, side, side),
            steps=settings.sampling, generator=torch.Generator().manual_seed(SEED),
        )  # fmt: skip
    pictures = to_bytes(found.clamp(-1, 1))
    return [keeps_place(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]
