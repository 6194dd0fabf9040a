"""Small models that answer questions about pictures: their sinks, what these are good for, and one made by hand.

sinks     of each layer: values in the loudest channel, and where the loudest patches lie
scatter   of each token of the first such layer: its value, and the weight it receives
knockout  answers without the loudest patches, and without as many others
planted   answers with a sink made by hand, and with its weight moved in chosen heads and in all
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.attach import attach
from saccade.experiments import Bench, Experiment, Row
from saccade.nn.eval_mode import eval_mode
from saccade.papers.visual_sink.asked import LAYOUT, PATCHES, Answering, AnsweringTask, Asked, asked, layer_inputs
from saccade.papers.visual_sink.dims import FIRST
from saccade.papers.visual_sink.knockout import Knockout
from saccade.papers.visual_sink.planted import Surplus, loud_tokens
from saccade.papers.visual_sink.sections import ALL, CHOSEN, CLAIMS, CLEAN, NOTHING, PLANTED, RANDOM, SECTIONS, SINKS
from saccade.papers.visual_sink.sinks import highest_share, sink_values
from saccade.papers.visual_sink.system import Heads, SinkRedistribution
from saccade.train.causal import CausalStage
from saccade.train.checkpoint import trained
from saccade.train.loop import Fit, finished, fit
from saccade.train.optimisers import Optim


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of all parts.

    seeds           of trainings and of what is asked
    width, depth    of the models; a sink value cannot exceed the root of the width
    steps, batch    of their training
    questions       asked of each
    share           of the patches that count as loudest
    tau, rho, take  of the redistribution
    score, times    of the sink made by hand: added to scores, and to its token, in root mean squares
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    width: int = 64
    depth: int = 5
    steps: int = 250
    batch: int = 32
    questions: int = 512
    share: float = 0.1
    tau: float = 6.0
    rho: float = 0.5
    take: float = 0.4
    score: float = 4.0
    times: float = 50.0


EXPERIMENT = Experiment(
    name="visual_sink",
    settings=Settings(),
    quick=Settings(seeds=(0, 1), depth=4, steps=2, batch=4, questions=6),
    hours=0.05,
    sections=SECTIONS,
    claims=CLAIMS,
)


@EXPERIMENT.part(per_seed=True, tables=True)
def answers(bench: Bench[Settings]) -> Iterable[Row]:
    """All tables, of one model."""
    host = learned(bench).host
    rng = np.random.default_rng(1000 + bench.seed)
    given = asked(rng, bench.settings.questions)
    with eval_mode(host):
        inputs = layer_inputs(host, given)
        channel = loudest(inputs)
        values = torch.stack([sink_values(x, (channel,)) for x in inputs])
        yield from sinks(values, given, bench.settings.share)
        yield from scatter(host, values[FIRST], given)
        yield from knockout(host, values[FIRST], given, bench.settings, rng)
        yield from planted(host, given, bench.settings, channel, rng)


def loudest(inputs: Tensor) -> int:
    """The channel that stands out most at the first token, from the first layer with sinks on."""
    first = inputs[FIRST:, :, 0]
    return int((first.abs() / first.square().mean(-1, keepdim=True).sqrt()).mean((0, 1)).argmax())


def sinks(values: Tensor, given: Asked, share: float) -> Iterator[Row]:
    """A row for each layer from the first with sinks on."""
    background = given.background
    for layer in range(FIRST, len(values)):
        patches = values[layer, :, 1 : 1 + PATCHES]
        top = highest_share(patches, share)
        yield {
            "table": "sinks", "arm": f"layer {layer}", "first": float(values[layer, :, 0].mean()),
            "loudest": float(patches.amax(1).mean()), "median": float(patches.median()),
            "above": int((patches > 20).sum()), "background": float((top & background).sum() / top.sum()),
            "everywhere": float(background.float().mean()),
        }  # fmt: skip


@torch.no_grad()
def scatter(host: Any, values: Tensor, given: Asked) -> Iterator[Row]:
    """A row for each token: means over pictures, of the weight over heads and the queries that see it."""
    name = host.config._attn_implementation
    host.set_attn_implementation("eager")
    maps = host(given.ids[:64], use_cache=False, output_attentions=True).attentions[FIRST]
    host.set_attn_implementation(name)
    n = maps.shape[-1]
    received = maps.mean((0, 1)).sum(0) / torch.arange(n, 0, -1)
    for place, (value, weight) in enumerate(zip(values[:64].mean(0).tolist(), received.tolist(), strict=True)):
        yield {"table": "scatter", "place": place, "value": value, "received": weight}


def knockout(host: Any, values: Tensor, given: Asked, said: Settings, rng: np.random.Generator) -> Iterator[Row]:
    """A row for each arm, patches chosen anew in every picture."""
    count = max(round(said.share * PATCHES), 1)
    order = values[:, 1 : 1 + PATCHES].argsort(dim=1, descending=True)
    drawn = torch.from_numpy(rng.random((len(order), PATCHES))).argsort(dim=1)
    yield {"table": "knockout", "arm": NOTHING, **scored(host, given)}
    for arm, patches in ((SINKS, order), (RANDOM, drawn)):
        tokens = tuple(map(tuple, (1 + patches[:, :count]).tolist()))
        with attach(host, Knockout(tokens=tokens), layout=LAYOUT):
            yield {"table": "knockout", "arm": arm, **scored(host, given)}


def planted(host: Any, given: Asked, said: Settings, channel: int, rng: np.random.Generator) -> Iterator[Row]:
    """A row for each arm, the sink on the background of every picture."""
    chances = torch.from_numpy(rng.random((len(given.ids), PATCHES)))
    places = 1 + chances.masked_fill(~given.background, -1).argmax(1)
    surplus = Surplus(places=tuple(places.tolist()), score=said.score)
    choices: dict[str, Heads] = {CHOSEN: "image_centric", ALL: "all"}
    moved = {
        arm: SinkRedistribution(dims=(channel,), tau=said.tau, rho=said.rho, take=said.take, heads=heads)
        for arm, heads in choices.items()
    }
    yield {"table": "planted", "arm": CLEAN, **scored(host, given)}
    for arm, more in ((PLANTED, ()), *((arm, (system,)) for arm, system in moved.items())):
        with (
            loud_tokens(host.model.layers[FIRST], places, channel, said.times),
            attach(host, surplus, *more, layout=LAYOUT),
        ):
            yield {"table": "planted", "arm": arm, **scored(host, given)}


@torch.no_grad()
def scored(host: Any, given: Asked) -> Row:
    """Share of right answers, and nats of the right one."""
    logits = host(given.ids, use_cache=False).logits[:, -1]
    right = (logits.argmax(-1) == given.answers).float().mean()
    return {"right": float(right), "nats": float(F.cross_entropy(logits, given.answers))}


def learned(bench: Bench[Settings]) -> Answering:
    """A model trained on pictures drawn for every step."""
    said = bench.settings
    torch.manual_seed(bench.seed)
    module = Answering(said.width, said.depth)
    optim = Optim(kind="adamw", lr=3e-3)
    options = Fit(steps=said.steps, seed=bench.seed, precision="no", decay=0.98, optim=optim, sheet_every=10**9)
    folder = bench.work / f"model-{bench.seed}"
    task = AnsweringTask(module, CausalStage(fit=options, length=PATCHES + 1, batch=said.batch))
    if not finished(options, folder):
        fit(task, options, folder)
    module.load_state_dict(trained(folder))
    return module
