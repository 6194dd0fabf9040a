"""Masks of rendered pictures against the true ones, and customisations of the bundled model, judged by a parser."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from saccade.attach import attach
from saccade.data import scenes
from saccade.experiments import Row
from saccade.mechanisms.attention_maps import RecordedMaps, recorded
from saccade.papers.attencraft.concepts import Concept, Prompts
from saccade.papers.attencraft.customiser import Customisation, customise
from saccade.papers.attencraft.fresh_terms import fresh_terms
from saccade.papers.attencraft.hosts import Host, open_host
from saccade.papers.attencraft.maps import extract_maps
from saccade.papers.attencraft.masks import is_permutation, make_masks, scores
from saccade.papers.attencraft.prior import PriorPictures
from saccade.papers.attencraft.scene import JOINT, PRIOR, SIDE, TEMPLATE, TEXT, Shown
from saccade.papers.attencraft.subsets import Scheme
from saccade.papers.attencraft.system import ALL_SITES, Learner
from saccade.papers.attencraft.training import Weights
from saccade.pipelines.loading import load_pipeline
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim

EARLY = 0.3
RAW, SQUARED, SPREAD, BOTH = "c", "c²", "A⁴ c", "A⁴ c²"
MAPS: dict[str, dict[str, Any]] = {
    RAW: {"power": 0, "square": False},
    SQUARED: {"power": 0},
    SPREAD: {"square": False},
    BOTH: {},
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to customise."""

    scheme: Scheme
    attention: float


@cache
def opened() -> Any:
    """The bundled model as it is."""
    pipe = load_pipeline("scenes-flux")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def two_things(number: int) -> scenes.Scene:
    """A scene of two things that differ in colour and in shape."""
    rng = np.random.default_rng([7, number])
    while True:
        scene = scenes.sample(rng, count=2)
        one, other = scene.things
        if one.colour != other.colour and one.shape != other.shape:
            return scene


def captioned(scene: scenes.Scene) -> Prompts:
    """A true caption, whose phrases of colour and shape are the classes."""
    one, other = scene.things
    names = tuple(Concept(token=t.colour, word=t.colour, phrase=f"{t.colour} {t.shape}") for t in scene.things)
    template = f"a {one.size} {{}} on a {scene.background} background"
    return Prompts(pipe=opened(), concepts=names, template=template, joint=f" and a {other.size} ", length=TEXT)


@torch.no_grad()
def looked(scene: scenes.Scene, side: int, seed: int) -> RecordedMaps:
    """Maps of one forward, at a time in [0, 0.3), of the unchanged model."""
    host, prompts, rng = _host(side), captioned(scene), torch.Generator().manual_seed(seed)
    latents = host.latents(scenes.render(scene, side).astype(np.float32)[None] / 255)
    learner = Learner(terms=fresh_terms(host, 1))
    found = [*prompts.bare((0, 1)), *prompts.described((0, 1))]
    recorder = learner.record([token for tokens in found for token in tokens], 1, image=True)
    with attach(host.model, learner, where=ALL_SITES) as run:
        noise, t = torch.randn(latents.shape, generator=rng), EARLY * torch.rand(1, generator=rng)
        host.predict(latents, noise, t, host.encode([prompts.text((0, 1))]))
        return recorded(run.state.forward[learner.name], recorder)


def extraction_rows(number: int, side: int) -> Iterator[Row]:
    """For each kind of map, the IoU of both things' masks with the true ones, and whether words were assigned."""
    scene = two_things(number)
    maps, classes = looked(scene, side, number), captioned(scene).described((0, 1))
    for name, options in MAPS.items():
        spread = extract_maps(maps, classes, **options)[0]
        masks = make_masks(spread)
        truth = true_masks(scene, side, masks.shape[-1])
        assigned = is_permutation(scores(spread, masks).argmax(1).tolist())
        both = [iou(mask, true) for mask, true in zip(masks[:2], truth, strict=True)]
        yield {"arm": name, "scene": number, "iou": sum(both) / 2, "assigned": float(assigned)}


def true_masks(scene: scenes.Scene, side: int, tokens: int) -> Bool[Tensor, "k y x"]:
    """Tokens of which a thing covers more than a half."""
    exact = torch.from_numpy(scenes.masks(scene, side)).float()
    return F.avg_pool2d(exact, side // tokens) > 0.5


def iou(a: Bool[Tensor, "h w"], b: Bool[Tensor, "h w"]) -> float:
    """Intersection over union."""
    return float((a & b).sum() / (a | b).sum().clamp(1))


def customised(arm: Arm, number: int, folder: Path, *, steps: int, pictures: int, sampling: int) -> Iterator[Row]:
    """A row for each picture of a prompt that names one concept: is it there, with its colour, and is the other one?"""
    shown, pipe = Shown(number=number), deepcopy(opened())
    concepts, options = shown.concepts, _options(arm, number, steps, sampling)
    system = customise(pipe, shown.picture(), concepts, folder=folder, template=TEMPLATE, joint=JOINT, options=options)
    for i, own in enumerate(concepts):
        with attach(pipe, system):
            drawn = pipe(
                [TEMPLATE.format(own.text)] * pictures, height=SIDE, width=SIDE, num_inference_steps=sampling,
                max_sequence_length=TEXT, output_type="np",
                generator=[torch.Generator().manual_seed(seed) for seed in range(pictures)],
            ).images  # fmt: skip
        wanted, other = shown.scene.things[i], shown.scene.things[1 - i]
        yield from (judged(picture, wanted, other) for picture in drawn)


def judged(picture: Float[np.ndarray, "h w 3"], wanted: scenes.Thing, other: scenes.Thing) -> Row:
    """What a picture of one concept shows.

    colour  whether a thing of its shape has its colour
    shape   whether a thing of its shape is there
    leaked  whether a thing of the other concept's colour, or of its shape, is there too
    """
    things = scenes.parse(picture).things
    shaped = [thing for thing in things if thing.shape == wanted.shape]
    leaked = any(thing.colour == other.colour or thing.shape == other.shape for thing in things)
    return {
        "shape": float(bool(shaped)), "colour": float(any(thing.colour == wanted.colour for thing in shaped)),
        "leaked": float(leaked), "things": len(things),
    }  # fmt: skip


def _options(arm: Arm, seed: int, steps: int, sampling: int) -> Customisation:
    rate = Optim(kind="adamw", lr=1e-3, betas=(0.9, 0.999), weight_decay=0, warmup=0, cooldown=0)
    length = Fit(steps=steps, seed=seed, precision="no", decay=0, save_every=steps, log_every=steps, optim=rate)
    return Customisation(
        fit=length, scheme=arm.scheme, weights=Weights(attention=arm.attention), text_tokens=TEXT,
        prior=PriorPictures(pictures=4, prompt=PRIOR, steps=sampling),
    )  # fmt: skip


def _host(side: int) -> Host:
    return open_host(opened(), side, side, TEXT)
