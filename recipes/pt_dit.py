"""What proxies and shifted windows bring at equal steps, and whether neighbours attend alike in the first place.

    python recipes/pt_dit.py --out docs/results/pt-dit.json --work runs/pt-dit

Hardware: one CPU core, about six minutes. Scenes of 32 x 32 pixels told their kind, 16 x 16 tokens, windows of 2 x 2;
full attention is the same model with one window. A run that is trained or measured is not repeated.
`recipes/pt_dit_page.py` puts the figures into docs/papers/pt_dit.md.
Expected: PT-DiT within a few per cent of full attention's loss at a third of its mixing; without proxies pictures whose
parts do not fit each other; without shifted windows a grid of their borders; rows of attention in a window far more
alike than rows of different windows, the more the further the keys.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from saccade.data.labelled import Source, open_source
from saccade.data.scenes import parse
from saccade.metrics.machine import device_name, versions
from saccade.models.labelled import LabelWords
from saccade.models.macs import macs
from saccade.papers import PTDiT
from saccade.papers.pt_dit.config import PTDiTConfig
from saccade.papers.pt_dit.proxies import mixing_macs
from saccade.papers.pt_dit.windows import partition
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import eval_mode, evaluate
from saccade.train.loop import Fit, fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim
from saccade.train.pictures import to_bytes

SIDE, GRID, WINDOW, TOKENS, WORDS = 32, (1, 16, 16), (1, 2, 2), 4, 64
STEPS, BATCH, SEEDS = 250, 8, (0, 1, 2)
HELD, DRAWN, SAMPLING = 512, 48, 12
RINGS = (0, 2, 4, 8, 16)  # distances of keys from the middle of a window, in tokens
BASE = PTDiTConfig(
    depth=2, width=64, heads=4, side=SIDE, channels=3, words_width=WORDS, learned_variance=False, window=WINDOW
)  # fmt: skip
ARMS: dict[str, dict[str, Any]] = {
    "full attention": {"window": GRID, "steps": ("near",)},
    "PT-DiT": {},
    "without proxies": {"steps": ("near", "far")},
    "without shifted windows": {"steps": ("proxies", "near")},
}
FLOW = RectifiedFlow()


class Task(ArchitectureTask):
    """Training without sheets; samples are judged afterwards."""

    def sheet(self) -> None:  # type: ignore[override]
        """None."""


def trained(arm: str, seed: int, source: Source, work: Path) -> LabelWords:
    """An arm after its training, from `work` if it is there."""
    torch.manual_seed(seed)
    model = LabelWords(PTDiT(BASE, **ARMS[arm]), source.classes, tokens=TOKENS, width=WORDS)
    folder = work / f"{arm.replace(' ', '-')}-{seed}"
    config = Fit(
        steps=STEPS, seed=seed, precision="no", decay=0.98, save_every=STEPS, sheet_every=STEPS,
        optim=Optim(cooldown=0.4),
    )  # fmt: skip
    task = Task(model, FLOW, source, ArchitectureStage(fit=config, batch=BATCH))
    if (folder / "average.safetensors").exists():
        task.module.load_state_dict(load_file(folder / "average.safetensors"))
    else:
        fit(task, config, folder, cpu=True)
    return model.eval()


def measured(model: LabelWords, arm: str, source: Source) -> dict[str, Any]:
    """Loss on held-out pictures, what a forward costs, and what samples look like."""
    config: PTDiTConfig = model.config
    parts = {"proxies": int("proxies" in config.steps), "windows": len({"near", "far"} & {*config.steps})}
    mixing = mixing_macs(GRID, config.window, config.width, **parts) * config.depth
    inputs = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    pictures = drawn(model, source)
    things = [len(parse(each).things) for each in to_bytes(pictures).repeat(2, axis=1).repeat(2, axis=2)]
    return {
        "loss": evaluate(model, FLOW, source, pictures=HELD)["mse"],
        "blockiness": blockiness(pictures),
        "one_thing": sum(count == 1 for count in things) / len(things),
        "mixing_macs": mixing,
        "macs": macs(model, *inputs),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def drawn(model: LabelWords, source: Source) -> Float[Tensor, "n 3 s s"]:
    """Samples of classes spread over all, from the same noise for every arm."""
    labels, noise = torch.arange(DRAWN) % source.classes, torch.Generator().manual_seed(0)
    with eval_mode(model), torch.no_grad():
        none = torch.full_like(labels, source.classes)
        found = FLOW.sample(model, labels, none, (DRAWN, 3, SIDE, SIDE), steps=SAMPLING, generator=noise)
    return found.clamp(-1, 1)


def blockiness(pictures: Float[Tensor, "n c h w"]) -> float:
    """Mean squared jump across borders of windows, less that across borders of patches inside windows."""
    patch, window = BASE.patch, BASE.patch * WINDOW[1]
    jumps = [(pictures.diff(dim=axis).square().mean((0, 1, 5 - axis)), pictures.shape[axis]) for axis in (2, 3)]
    at = [
        torch.cat([jump[torch.arange(start, size, window) - 1] for jump, size in jumps]).mean().item()
        for start in (window, patch)
    ]
    return at[0] - at[1]


@torch.no_grad()
def likeness(model: LabelWords, source: Source, rows: int = 8) -> list[dict[str, Any]]:
    """Cosine of two tokens' rows of attention, by layer: mean over heads and over half-noised held-out pictures."""
    x, labels = source.held_out(rows)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    inputs: list[Tensor] = []
    layers: Any = [block.near.attention for block in model.model.blocks]  # type: ignore[union-attr]
    hooks = [layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for layer in layers]
    model(0.5 * x + 0.5 * noise, torch.full((rows,), 0.5), labels)
    for hook in hooks:
        hook.remove()
    maps = [_map(layer, given) for layer, given in zip(layers, inputs, strict=True)]
    return [{"layer": i, **_pairs(each), "by_distance": _rings(each)} for i, each in enumerate(maps)]


def _map(layer: Any, x: Float[Tensor, "b n d"]) -> Float[Tensor, "bh n n"]:
    q, k = (part(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2) for part in (layer.q, layer.k))
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).flatten(0, 1)


def _pairs(rows: Float[Tensor, "bh n n"]) -> dict[str, float]:
    """All pairs by whether they share a window; neighbours along a row of tokens apart, since these are near anyway."""
    unit = torch.nn.functional.normalize(rows, dim=-1)
    cosine = (unit @ unit.mT).mean(0)
    place = torch.cartesian_prod(*(torch.arange(size) for size in GRID[1:]))
    home = place // torch.tensor(WINDOW[1:])
    same, away = (home[:, None] == home).all(-1), (place[:, None] - place).abs()
    next_to, other = (away.sum(-1) == 1), away.sum(-1) > 0
    return {
        "within": cosine[same & other].mean().item(), "across": cosine[~same].mean().item(),
        "neighbours_within": cosine[same & next_to].mean().item(),
        "neighbours_across": cosine[~same & next_to].mean().item(),
    }  # fmt: skip


def _rings(rows: Float[Tensor, "bh n n"]) -> list[float]:
    """Pairs of one window, by how far the keys are that they look at."""
    place = torch.cartesian_prod(*(torch.arange(size) for size in GRID[1:])).float()
    middle = partition(place[None], GRID, WINDOW)[0].mean(1)
    far = (middle[:, None] - place).abs().amax(-1)  # (windows n)
    parts = partition(rows, GRID, WINDOW)  # (bh windows p n)
    found = []
    for low, high in zip(RINGS, RINGS[1:], strict=False):
        seen = parts * ((far >= low) & (far < high))[None, :, None]
        unit = torch.nn.functional.normalize(seen, dim=-1)
        cosine = unit @ unit.mT
        found.append(cosine[..., ~torch.eye(cosine.shape[-1], dtype=torch.bool)].mean().item())
    return found


def main() -> None:
    """All arms by one seed, then by the next; the file is written after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file; runs that it holds are kept")
    parser.add_argument("--work", type=Path, required=True, help="folder of trained models")
    given = parser.parse_args()
    found: dict[str, Any] = {"runs": [], "likeness": []}
    if given.out.exists():
        found = json.loads(given.out.read_text())
    source = open_source("scenes", SIDE)
    found["real"] = {"blockiness": blockiness(source.held_out(HELD)[0])}
    found["setting"] = {
        "side": SIDE, "grid": GRID[1:], "window": WINDOW[1:], "width": BASE.width, "depth": BASE.depth,
        "steps": STEPS, "batch": BATCH, "held_out": HELD, "samples": DRAWN, "rings": RINGS,
        "device": device_name("cpu"), **versions(),
    }  # fmt: skip
    done = {(run["arm"], run["seed"]) for run in found["runs"]}
    for arm, seed in ((arm, seed) for seed in SEEDS for arm in ARMS):
        if (arm, seed) in done:
            continue
        start = time.process_time()
        model = trained(arm, seed, source, given.work)
        found["runs"].append({"arm": arm, "seed": seed, **measured(model, arm, source)})
        found["runs"][-1]["cpu_s"] = round(time.process_time() - start, 1)
        if arm == "full attention":
            found["likeness"].append({"seed": seed, "layers": likeness(model, source)})
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
