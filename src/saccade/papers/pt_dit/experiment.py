"""What proxies and shifted windows bring at equal steps, and whether neighbours attend alike in the first place.

Scenes of 32 x 32 pixels labelled by kind, 16 x 16 tokens, windows of 2 x 2; full attention is the same model with one
window. Expected: PT-DiT within a few per cent of full attention's loss at a third of its mixing; without proxies
pictures whose parts do not fit each other; without shifted windows a grid of their borders; rows of attention in a
window far more alike than rows of different windows, the more the further the keys.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.data.labelled import Source, open_source
from saccade.data.scenes import parse
from saccade.experiments import Bench, Experiment, Row, Verdicts, fitted
from saccade.models.labelled import LabelWords
from saccade.models.macs import macs
from saccade.models.sizing import parameters
from saccade.nn.eval_mode import eval_mode
from saccade.papers.pt_dit.attention_likeness import attention_maps, pair_likeness, ring_likeness
from saccade.papers.pt_dit.config import PTDiTConfig
from saccade.papers.pt_dit.model import PTDiT
from saccade.papers.pt_dit.proxies import mixing_macs
from saccade.papers.pt_dit.report import (
    ALONE,
    ARM_TABLE,
    CLAIMS,
    FULL,
    LIKENESS_CLAIMS,
    OURS,
    RIGID,
    cost_table,
    likeness_table,
    setting,
    sign_rule,
)
from saccade.train.denoising import ArchitectureStage
from saccade.train.judging import evaluate
from saccade.train.loop import Fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim
from saccade.train.pictures import to_bytes

TOKENS, WORDS = 4, 64  # learned words for each label, and their width
FLOW = RectifiedFlow()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of all arms alike.

    held      held-out pictures whose loss is measured
    samples   pictures that are sampled, in `sampling` steps
    rings     distances of keys from the middle of a window, in tokens
    scenes    that are rendered to train on
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 250
    batch: int = 8
    side: int = 32
    window: tuple[int, int] = (2, 2)
    width: int = 64
    depth: int = 2
    held: int = 512
    samples: int = 48
    sampling: int = 12
    rings: tuple[int, ...] = (0, 2, 4, 8, 16)
    scenes: int = 16384

    @property
    def base(self) -> PTDiTConfig:
        """The whole PT-DiT."""
        return PTDiTConfig(
            depth=self.depth, width=self.width, heads=4, side=self.side, channels=3, words_width=WORDS,
            learned_variance=False, window=(1, *self.window),
        )  # fmt: skip

    @property
    def arms(self) -> dict[str, PTDiTConfig]:
        """By name."""
        return {
            FULL: replace(self.base, window=self.base.grid, steps=("near",)),
            OURS: self.base,
            ALONE: replace(self.base, steps=("near", "far")),
            RIGID: replace(self.base, steps=("proxies", "near")),
        }


EXPERIMENT = Experiment(
    name="pt_dit",
    settings=Settings(),
    quick=Settings(seeds=(0,), steps=2, batch=2, width=32, depth=1, held=8, samples=2, sampling=2, scenes=64),
    hours=0.1,
    sections={
        "arms": (ARM_TABLE, Verdicts(CLAIMS), setting),
        "cost": (cost_table,),
        "likeness": (likeness_table, Verdicts(LIKENESS_CLAIMS), sign_rule),
    },
    claims=(*CLAIMS, *LIKENESS_CLAIMS),
)


@EXPERIMENT.part(per_seed=True, tables=True)
def training(bench: Bench[Settings]) -> Iterable[Row]:
    """Every arm by this seed, and how alike tokens attend in the one with full attention."""
    settings = bench.settings
    source = opened(settings)
    for number, (arm, config) in enumerate(settings.arms.items()):
        bench.progress(number, len(settings.arms), arm)
        torch.manual_seed(bench.seed)
        model = LabelWords(PTDiT(config), source.classes, tokens=TOKENS, width=WORDS)
        fitted(model, source, stage(settings, bench.seed), bench.work / f"{arm}-{bench.seed}")
        yield {"table": "runs", "arm": arm, **measured(model, source, settings)}
        if arm == FULL:
            yield from ({"table": "likeness", **row} for row in likeness(model, source, settings))


@EXPERIMENT.part()
def real(bench: Bench[Settings]) -> Iterable[Row]:
    """The same measure of held-out pictures."""
    pictures, _ = opened(bench.settings).held_out(bench.settings.held)
    yield {"blockiness": blockiness(pictures, bench.settings.base)}


def opened(settings: Settings) -> Source:
    """The scenes."""
    return open_source("scenes", settings.side, count=settings.scenes, held=settings.scenes // 4)


def stage(settings: Settings, seed: int) -> ArchitectureStage:
    """The training of every arm."""
    fit = Fit(steps=settings.steps, seed=seed, precision="no", decay=0.98, optim=Optim(cooldown=0.4))
    return ArchitectureStage(fit=fit, batch=settings.batch)


def measured(model: LabelWords, source: Source, settings: Settings) -> dict[str, Any]:
    """Loss on held-out pictures, what a forward costs, and what samples look like."""
    config: PTDiTConfig = model.config
    parts = {"proxies": int("proxies" in config.steps), "windows": len({"near", "far"} & {*config.steps})}
    inputs = torch.zeros(1, 3, config.side, config.side), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    pictures = sampled(model, source, settings)
    seen = [len(parse(each).things) for each in to_bytes(pictures).repeat(2, axis=1).repeat(2, axis=2)]
    return {
        "loss": evaluate(model, FLOW, source, pictures=settings.held)["mse"],
        "blockiness": blockiness(pictures, settings.base),
        "one_object": sum(count == 1 for count in seen) / len(seen),
        "mixing_macs": mixing_macs(config.grid, config.window, config.width, **parts) * config.depth,
        "macs": macs(model, *inputs),
        "parameters": parameters(model),
    }


def sampled(model: LabelWords, source: Source, settings: Settings) -> Float[Tensor, "n 3 s s"]:
    """Samples of labels spread over all, from the same noise for every arm."""
    labels, noise = torch.arange(settings.samples) % source.classes, torch.Generator().manual_seed(0)
    none, shape = torch.full_like(labels, source.classes), (settings.samples, 3, settings.side, settings.side)
    with eval_mode(model), torch.no_grad():
        return FLOW.sample(model, labels, none, shape, steps=settings.sampling, generator=noise).clamp(-1, 1)


def blockiness(pictures: Float[Tensor, "n c h w"], config: PTDiTConfig) -> float:
    """Mean squared jump across borders of windows, less that across the first border of patches inside them."""
    patch, window = config.patch, config.patch * config.window[1]
    jumps = [(pictures.diff(dim=axis).square().mean((0, 1, 5 - axis)), pictures.shape[axis]) for axis in (2, 3)]
    borders, inside = (
        torch.cat([jump[torch.arange(start, size, window) - 1] for jump, size in jumps]).mean().item()
        for start in (window, patch)
    )
    return borders - inside


def likeness(model: LabelWords, source: Source, settings: Settings, pictures: int = 8) -> Iterable[Row]:
    """Cosines of tokens' rows of attention by layer: means over heads and over half-noised held-out pictures."""
    x, labels = source.held_out(pictures)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    layers: list[Any] = [block.near.attention for block in model.model.blocks]  # type: ignore[union-attr]
    maps = attention_maps(layers, model, 0.5 * x + 0.5 * noise, torch.full((pictures,), 0.5), labels)
    grid, window = settings.base.grid, settings.base.window
    for layer, rows in enumerate(maps):
        rings = ring_likeness(rows, grid, window, settings.rings)
        yield {"layer": layer, **pair_likeness(rows, grid, window), "by_distance": rings}
