"""DyDiLA on a small DiT: its loss beside softmax and plainer linear attention, how far each smears, who chooses what.

    python recipes/dydila.py --work runs/dydila --out docs/results/dydila.json

Hardware: one CPU core, about six minutes a seed. Labelled scenes of 16 x 16 pixels; all arms have as many parameters as
the softmax one. What is in the work folder is not trained again. `recipes/dydila_page.py` puts the figures into
docs/papers/dydila.md.
Expected: loss of softmax <= DyDiLA < focused < ReLU, entropy of the maps in the reverse order; each part left out
costs; tokens of things and of the background choose differently, and so do different times.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data.labelled import SceneSource
from saccade.metrics.machine import device_name, versions
from saccade.models.dit import DiT
from saccade.models.sizing import Arm, build
from saccade.nn.attention import SelfAttention
from saccade.nn.linear_attention import LinearAttention, split_heads
from saccade.nn.part import TokenPositions
from saccade.nn.routing import Routing, record_routing
from saccade.ops.linear import TINY
from saccade.papers.dydila.differential_linear import DifferentialLinearAttention
from saccade.train.budget_comparison import BudgetComparison
from saccade.train.checkpoint import trained
from saccade.train.denoising import ArchitectureLoss
from saccade.train.objectives import RectifiedFlow

LOCAL = "local=3"
TEXTS = {
    "softmax": "attention",
    "ReLU": f"linear({LOCAL})",
    "focused": f"linear(features='focused', {LOCAL})",
    "DyDiLA": f"dydila({LOCAL})",
    "one projector": f"dydila({LOCAL}, projectors=1)",
    "one exponent": f"dydila({LOCAL}, exponents=1)",
    "no difference": f"dydila({LOCAL}, difference=False)",
}
COMPARISON = BudgetComparison(
    arms=tuple(Arm(name=name, model=f'DiT(mixer="{text}")') for name, text in TEXTS.items()),
    budget="parameters", depth=4, width=48, heads=2, label="colour", pictures=1000, samples=56, drawn=8,
    fit=replace(BudgetComparison().fit, steps=400),
)  # fmt: skip
TIMES = (0.1, 0.5, 0.9)
WATCHED = 64


def main(work: Path, seeds: tuple[int, ...]) -> dict[str, Any]:
    """`runs` of the comparison, `smearing` a row an arm, seed, layer and time, `choices` of DyDiLA's projectors."""
    comparison = replace(COMPARISON, seeds=seeds)
    source = comparison.open()
    base, smearing, chosen = comparison.base(source), [], []
    runs = comparison.run(work)
    for run in runs:
        model = restored(run, base, work / f"{run['arm']}-{run['seed']}")
        for t in TIMES:
            about = {"arm": run["arm"], "seed": run["seed"], "t": t}
            smearing += [about | row for row in smears(model, source, t)]
            if run["arm"] == "DyDiLA":
                chosen += [about | row for row in choices(model, source, t)]
    return {"runs": runs, "smearing": smearing, "choices": chosen}


def restored(run: dict[str, Any], base: dict[str, Any], folder: Path) -> DiT:
    """A run's model with its averaged weights."""
    model = build(run["model"], **base | {run["option"]: run["scaled"]})
    ArchitectureLoss(model, RectifiedFlow()).load_state_dict(trained(folder))
    return model.eval()  # type: ignore[return-value]


@torch.no_grad()
def smears(model: DiT, source: SceneSource, t: float) -> list[dict[str, float]]:
    """For each layer the entropy of the map's rows, 1 where all weigh alike, and how alike tokens' outputs are."""
    rows = []
    for layer, (mixer, x) in enumerate(heard(model, source, t)):
        weights = implied(mixer, x)
        share = weights.abs() / weights.abs().sum(-1, keepdim=True)
        entropy = torch.special.entr(share).sum(-1).mean() / torch.tensor(float(x.shape[1])).log()
        v = split_heads(mixer.qkv(x), mixer.heads)[2]
        out = F.normalize((weights @ v).transpose(1, 2).flatten(2), dim=-1)
        tokens = out.shape[1]
        alike = ((out @ out.mT).sum((1, 2)) - tokens) / (tokens * (tokens - 1))
        negative = (weights < 0).float().mean()
        rows.append(
            {"layer": layer, "entropy": float(entropy), "alike": float(alike.mean()), "negative": float(negative)}
        )
    return rows


def implied(mixer: Any, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n n"]:
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


def heard(model: DiT, source: SceneSource, t: float) -> list[tuple[nn.Module, Tensor]]:
    """Every layer's mixer, and what it was given of noised held-out scenes."""
    found: list[tuple[nn.Module, Tensor]] = []
    handles = [
        block.mixer.register_forward_pre_hook(lambda mixer, given: found.append((mixer, given[0])))  # type: ignore[union-attr]
        for block in model.blocks
    ]
    noised(model, source, t)
    for handle in handles:
        handle.remove()
    return found


def noised(model: DiT, source: SceneSource, t: float) -> None:
    """Run the model on held-out scenes at time t."""
    x, labels = source.held_out(WATCHED)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    model((1 - t) * x + t * noise, torch.full((len(x),), t), labels)


@torch.no_grad()
def choices(model: DiT, source: SceneSource, t: float) -> list[dict[str, Any]]:
    """For each layer and side, the share of tokens that pick each projector, in things and in the background."""
    with record_routing(model) as found:
        noised(model, source, t)
    masks = torch.from_numpy(source.masks(WATCHED)).float()
    things = F.avg_pool2d(masks[:, None], masks.shape[-1] // 8).flatten(1) > 0.25
    return [
        {"router": name, **{where: shares(calls[0], rows) for where, rows in (("things", things), ("rest", ~things))}}
        for name, calls in found.items()
        if "redundant" in name
    ]


def shares(routing: Routing, rows: Tensor) -> list[float]:
    """Of those tokens, the share that picks each."""
    picked = routing.index[..., 0][rows]
    return (picked.bincount(minlength=routing.probs.shape[-1]) / max(1, len(picked))).tolist()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/dydila"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/dydila.json"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures = main(given.work, tuple(given.seeds)) | {"device": device_name("cpu"), "versions": versions()}
    given.out.write_text(json.dumps(figures, indent=1) + "\n")
