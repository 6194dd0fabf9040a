"""Where a DC-DiT that was taught the velocity keeps its tokens: of the runs of the comparison of architectures.

    saccade bench architectures --out runs/scenes
    python recipes/dc_dit_flow.py --work runs/scenes --out docs/results/dc-dit-flow.json

Hardware: one CPU core, a few seconds. `recipes/dc_dit_page.py` puts the figures into docs/papers/dc_dit.md.
Expected: more tokens at edges than on the flat background, and more where there is less noise.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_dilation, binary_erosion
from torch import Tensor, nn

from saccade.data.labelled import SceneSource
from saccade.metrics.machine import device_name, versions
from saccade.models.sizing import build
from saccade.nn.routing import record_routing
from saccade.papers.dc_dit.chunking import kept
from saccade.train.budget_comparison import BudgetComparison
from saccade.train.checkpoint import trained
from saccade.train.denoising import ArchitectureLoss
from saccade.train.objectives import RectifiedFlow

TIMES = (0.05, 0.2, 0.5, 0.8, 0.95)
PICTURES = 256


@torch.no_grad()
def rows(model: nn.Module, source: SceneSource) -> list[dict[str, float]]:
    """For each time, tokens kept of a picture, and the shares kept at edges and on the background away from them."""
    x, labels = source.held_out(PICTURES)
    masks = source.masks(PICTURES)
    edge = torch.from_numpy(np.stack([binary_dilation(mask) & ~binary_erosion(mask) for mask in masks])).flatten(1)
    flat = torch.from_numpy(np.stack([~binary_dilation(mask, iterations=2) for mask in masks])).flatten(1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    found = []
    for t in TIMES:
        with record_routing(model) as heard:
            model((1 - t) * x + t * noise, torch.full((PICTURES,), t), labels)
        keep: Tensor = kept(next(iter(heard.values()))[0])
        shares = {name: float(keep[rows].float().mean()) for name, rows in (("edge", edge), ("flat", flat))}
        found.append({"t": t, "kept": float(keep.sum(1).float().mean()), **shares})
    return found


def main(work: Path) -> list[dict[str, Any]]:
    """A row a seed and time."""
    comparison = BudgetComparison()
    arm = next(arm for arm in comparison.arms if arm.name == "dc_dit")
    source, found = comparison.open(), []
    for path in sorted(work.glob(f"{arm.name}-*/result.json")):
        result = json.loads(path.read_text())
        model = build(result["model"], **comparison.base(source) | {result["option"]: result["scaled"]}).eval()
        ArchitectureLoss(model, RectifiedFlow()).load_state_dict(trained(path.parent))
        found += [{"seed": result["seed"], "tokens": source.side**2, **row} for row in rows(model, source)]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the comparison")
    parser.add_argument("--out", type=Path, default=Path("docs/results/dc-dit-flow.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures = {"rows": main(given.work), "device": device_name("cpu"), "versions": versions()}
    given.out.write_text(json.dumps(figures, indent=1) + "\n")
