"""How far the offline judges can be trusted: how often they are right, and what each score says of known failings.

    python recipes/quality.py --work FOLDER --out docs/results/quality.json
    python recipes/quality.py --work FOLDER --out docs/results/quality.json --only scenes

Hardware: one CPU core, about two minutes of it for each source. CIFAR-10 is read from SACCADE_DATA (parquet needs
pyarrow). FOLDER keeps the trained judges. `recipes/quality_page.py` writes docs/results/quality.md.
Expected: every kind of scene told, four in five CIFAR-10 pictures; noise, blur and mixtures far off in distance and
precision; missing kinds in recall and coverage; a missing background most of all in the layout.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.data.labelled import SceneSource, open_scenes
from saccade.data.scenes import Scene
from saccade.metrics import quality
from saccade.metrics.machine import device_name, versions
from saccade.models.classifier import Classifier
from saccade.train.classifier import ClassifierRecipe

JUDGED = 1000
POOL = 12 * JUDGED  # real pictures, from which subsets are taken that lack something
SOURCES = {"scenes": ClassifierRecipe(), "cifar10": ClassifierRecipe(source="cifar10")}
Damage = Callable[[Tensor], Tensor]

LACKING: dict[str, Callable[[Scene], bool]] = {
    "another draw of real ones": lambda scene: True,
    "only black backgrounds": lambda scene: scene.background == "black",
    "only large things": lambda scene: scene.things[0].size == "large",
    "only at the left": lambda scene: "left" in scene.things[0].place,
    "no cyan, no crosses": lambda scene: scene.things[0].colour != "cyan" and scene.things[0].shape != "cross",
}
DAMAGED: dict[str, Damage] = {
    "faint noise": lambda x: (x + 0.05 * torch.randn_like(x)).clamp(-1, 1),
    "noise": lambda x: (x + 0.2 * torch.randn_like(x)).clamp(-1, 1),
    "blur over 3 pixels": lambda x: F.avg_pool2d(F.pad(x, (1,) * 4, mode="replicate"), 3, 1),
    "three tenths of another picture": lambda x: 0.7 * x + 0.3 * x.roll(1, 0),
    "fifty pictures, repeated": lambda x: x[:50].repeat(len(x) // 50, 1, 1, 1),
}


def failings(judge: Classifier) -> list[dict[str, Any]]:
    """Every score of every failing, on as many pictures."""
    source = open_scenes(32, count=1, held=POOL, seed=1)
    x, labels = source.held_out(POOL)
    real, given = x[:JUDGED], labels[:JUDGED]
    torch.manual_seed(0)
    rows = []
    for name, rows_of in [(name, _chosen(source, keep)) for name, keep in LACKING.items()]:
        rows.append({"pictures": name, **asdict(quality(judge, real, given, x[rows_of], labels[rows_of]))})
    others = x[JUDGED : 2 * JUDGED]
    for name, damage in DAMAGED.items():
        fake = damage(others)
        wanted = labels[JUDGED : 2 * JUDGED] if "repeated" not in name else labels[JUDGED : JUDGED + 50].repeat(20)
        rows.append({"pictures": name, **asdict(quality(judge, real, given, fake, wanted))})
    return rows


def _chosen(source: SceneSource, keep: Callable[[Scene], bool]) -> Tensor:
    """Which pictures to take: the first ones behind the real ones that `keep` accepts."""
    kept = np.array([i >= JUDGED and keep(scene) for i, scene in enumerate(source.scenes(POOL))])
    return torch.from_numpy(np.flatnonzero(kept)[:JUDGED])


def measured(name: str, work: Path) -> dict[str, Any]:
    """A judge's accuracy, and for scenes the scores of failings."""
    cpu, recipe = time.process_time(), SOURCES[name]
    judge = recipe.judge(work / name)
    trained = time.process_time() - cpu
    found = json.loads((work / name / "model" / "measured.json").read_text())["measured"]
    settings = {"steps": recipe.train.fit.steps, "batch": recipe.train.batch, "train_cpu_s": round(trained, 1)}
    rows = {"failings": failings(judge), "judged": JUDGED} if name == "scenes" else {}
    return {**found, **settings, **rows, "machine": {"device": device_name("cpu"), **versions()}}


def main() -> None:
    """Run the chosen sources and merge their figures into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the trained judges; what is there is read")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; sources that are not run are kept")
    parser.add_argument("--only", default=",".join(SOURCES), help=f"some of {','.join(SOURCES)}")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    figures = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    for name in chosen.only.split(","):
        figures[name] = measured(name, chosen.work)
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
