"""DyDiLA on a small DiT: its loss beside softmax and plainer linear attention, how far each smears, who chooses what.

Labelled scenes of 16 x 16 pixels; all arms have as many parameters as the softmax one.
Expected: loss of softmax <= DyDiLA < focused < ReLU, entropy of the maps in the reverse order; each part left out
costs; tokens of objects and of the background choose differently, and so do different times.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data.labelled import SceneSource
from saccade.experiments import ArmTable, Column, Experiment, Figures, Lines, Results, Row, Training, Verdicts, higher
from saccade.experiments.training import Probed
from saccade.nn.attention import SelfAttention
from saccade.nn.linear_attention import LinearAttention, split_heads
from saccade.nn.part import TokenPositions
from saccade.nn.routing import Routing, record_routing
from saccade.ops.linear import TINY
from saccade.papers.dydila.differential_linear import DifferentialLinearAttention
from saccade.train.budget_comparison import BudgetComparison
from saccade.ui.markdown import markdown_table

LOCAL = "local=3"
ARMS = {
    "softmax": "attention",
    "ReLU": f"linear({LOCAL})",
    "focused": f"linear(features='focused', {LOCAL})",
    "DyDiLA": f"dydila({LOCAL})",
    "one projector": f"dydila({LOCAL}, projectors=1)",
    "one exponent": f"dydila({LOCAL}, exponents=1)",
    "no difference": f"dydila({LOCAL}, difference=False)",
}
TIMES = (0.1, 0.5, 0.9)
CLAIMS = (
    higher("softmax has at most its loss", "runs.loss", "DyDiLA", than="softmax"),
    higher("focused linear attention has a higher loss", "runs.loss", "focused", than="DyDiLA"),
    higher("ReLU linear attention has a higher loss than focused", "runs.loss", "ReLU", than="focused"),
    higher("one projector for all costs", "runs.loss", "one projector", than="DyDiLA"),
    higher("one exponent for all costs", "runs.loss", "one exponent", than="DyDiLA"),
    higher("no difference costs", "runs.loss", "no difference", than="DyDiLA"),
)
COLUMNS = (
    Column(source="runs.scaled", title="width", show="d", first=True),
    Column(source="runs.parameters", title="parameters", show=",d", first=True),
    Column(source="runs.loss", title="loss", show=".4f"),
    Column(source="runs.loss", title="above DyDiLA", show=".4f", against="DyDiLA"),
    Column(source="smearing.entropy", title="entropy", show=".3f"),
    Column(source="smearing.alike", title="outputs alike", show=".3f"),
    Column(source="smearing.negative", title="negative weights", show=".1%"),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the comparison: see `BudgetComparison`."""

    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 400
    depth: int = 4
    width: int = 48
    pictures: int = 1000
    samples: int = 56
    judge_steps: int = 400
    scenes: int = 16384


def comparison(settings: Settings) -> BudgetComparison:
    """What is equal for all arms."""
    usual = BudgetComparison()
    return replace(
        usual, budget="parameters", depth=settings.depth, width=settings.width, heads=2, label="colour",
        seeds=settings.seeds, pictures=settings.pictures, samples=settings.samples, drawn=8, count=settings.scenes,
        held=settings.scenes // 4,
        fit=replace(usual.fit, steps=settings.steps), judge=replace(usual.judge, steps=settings.judge_steps),
    )  # fmt: skip


TRAINING = Training(
    arms={name: f'DiT(mixer="{text}")' for name, text in ARMS.items()},
    comparison=comparison,
)


@TRAINING.probe(times=TIMES)
def smearing(seen: Probed) -> Iterable[Row]:
    """For each layer the entropy of the map's rows, 1 where all weigh alike, and how alike tokens' outputs are."""
    for layer, (mixer, x) in enumerate(mixer_inputs(seen)):
        weights = implied_map(mixer, x)
        share = weights.abs() / weights.abs().sum(-1, keepdim=True)
        entropy = torch.special.entr(share).sum(-1).mean() / torch.tensor(float(x.shape[1])).log()
        v = split_heads(mixer.qkv(x), mixer.heads)[2]
        out = F.normalize((weights @ v).transpose(1, 2).flatten(2), dim=-1)
        tokens = out.shape[1]
        alike = ((out @ out.mT).sum((1, 2)) - tokens) / (tokens * (tokens - 1))
        negative = (weights < 0).float().mean()
        yield {"layer": layer, "entropy": float(entropy), "alike": float(alike.mean()), "negative": float(negative)}


def mixer_inputs(seen: Probed) -> list[tuple[Any, Tensor]]:
    """Every layer's mixer, and its input."""
    found: list[tuple[nn.Module, Tensor]] = []
    handles = [
        block.mixer.register_forward_pre_hook(lambda mixer, given: found.append((mixer, given[0])))  # type: ignore[union-attr]
        for block in seen.model.blocks  # type: ignore[union-attr]
    ]
    seen.forward()
    for handle in handles:
        handle.remove()
    return found


def implied_map(mixer: Any, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n n"]:
    """The map of all pairs that a mixer would apply, its local term left out."""
    place = TokenPositions(grid=(8, 8))
    if isinstance(mixer, DifferentialLinearAttention):
        q, k, _ = mixer.operands(x, place)
        qd, kd = mixer.differenced(x, q, k, place)
        return qd @ kd.mT / ((q @ k.mT).sum(-1, keepdim=True) + TINY * x.shape[1])
    if isinstance(mixer, LinearAttention):
        q, k = (mixer.features(side) for side in split_heads(mixer.qkv(x), mixer.heads)[:2])
        return q @ k.mT / ((q @ k.mT).sum(-1, keepdim=True) + TINY * x.shape[1])
    assert isinstance(mixer, SelfAttention)
    q, k, _ = mixer.operands(x, place)
    return (q @ k.mT * mixer.head_dim**-0.5).softmax(-1)


@TRAINING.probe(times=TIMES)
def choices(seen: Probed) -> Iterable[Row]:
    """For each layer and side, the share of tokens that pick each projector, in objects and in the background."""
    if seen.arm != "DyDiLA":
        return
    with record_routing(seen.model) as found:
        seen.forward()
    assert isinstance(seen.source, SceneSource)
    masks = torch.from_numpy(seen.source.masks(len(seen.x))).float()
    objects = F.avg_pool2d(masks[:, None], masks.shape[-1] // 8).flatten(1) > 0.25
    for router, calls in found.items():
        if "redundant" in router:
            yield {"router": router, "objects": shares(calls[0], objects), "background": shares(calls[0], ~objects)}


def shares(routing: Routing, rows: Tensor) -> list[float]:
    """Of those tokens, the share that picks each."""
    picked = routing.index[..., 0][rows]
    return (picked.bincount(minlength=routing.probs.shape[-1]) / max(1, len(picked))).tolist()


def choice_table(results: Results, figures: Figures) -> str:
    """How far the projectors of objects lie from those of the background, and of early from late times."""
    times = results.distinct("choices.t")
    lines = []
    for t in times:
        here = results.rows("choices", t=t)
        apart = fmean(total_variation(row["objects"], row["background"]) for row in here)
        lines.append([t, f"{apart:.3f}", f"{fmean(max(row['background']) for row in here):.2f}"])
    early, late = (results.values("choices.background", t=t) for t in (times[0], times[-1]))
    moved = fmean(total_variation(a, b) for a, b in zip(early, late, strict=True))  # type: ignore[arg-type]
    return (
        f"{markdown_table(['time', 'apart by place', 'largest share'], lines)}\n\n"
        "Total variation between the shares of tokens that pick each projector, mean over layers, sides and seeds. "
        f"Between the first and the last of these times the background's shares lie {moved:.3f} apart."
    )


def total_variation(a: list[float], b: list[float]) -> float:
    """Half the sum of absolute differences."""
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 2


EXPERIMENT = Experiment(
    name="dydila",
    settings=Settings(),
    quick=Settings(seeds=(0,), steps=2, depth=1, width=16, pictures=64, samples=14, judge_steps=2, scenes=256),
    hours=0.3,
    device="best",
    sections={
        "arms": (
            Lines(
                source="smearing.entropy", x="layer", panels="t", name="entropy", label="entropy of rows, 1: all alike",
                about="Entropy of the maps' rows by layer, for every kind of attention",
            ),
            ArmTable(columns=COLUMNS, title="attention"),
            Verdicts(CLAIMS),
        ),
        "choices": (choice_table,),
    },
    claims=CLAIMS,
)  # fmt: skip
TRAINING.into(EXPERIMENT)
