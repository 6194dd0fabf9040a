"""DiCo at toy size: what its channel gate gives, against none and against attention; its speed against DiT's.

    python recipes/dico.py --out docs/results/dico.json
    python recipes/dico.py --out docs/results/dico.json --only speed

Hardware: one CPU core, about four minutes. A run is one arm with one seed; those that the file holds already are not
repeated. The arm without a gate has wider feed-forwards, so that it has as many parameters. Data: 16 x 16 scenes, told
their kind. `recipes/dico_page.py` puts the figures into docs/papers/dico.md.
Expected: the gate lowers the loss and the share of channels that hardly fire; DiCo gains on DiT as pictures grow.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saccade.data.labelled import open_source
from saccade.metrics.machine import device_name, versions
from saccade.models import DiT
from saccade.models.macs import macs
from saccade.models.sizing import Arm, sized
from saccade.papers import DiCo
from saccade.papers.dico.channels import channel_scores, redundancy
from saccade.papers.dico.model import DiCoConfig
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import evaluate
from saccade.train.loop import Fit, fit
from saccade.train.objectives import Ddpm
from saccade.train.optimisers import Optim

SIDE, BATCH, STEPS, RATE, PICTURES, SEEDS = 16, 16, 300, 2e-3, 1024, (0, 1, 2)
SMALL = {"width": 32, "depths": (1, 1, 2, 1, 1), "heads": 1, "channels": 3, "learned_variance": False}
ARMS: dict[str, dict[str, Any]] = {
    "gate": {},
    "no gate": {"mixer": "dico(gate='none')", "ratio": 2.5},
    "attention": {"mixer": "attention"},
}
SIDES, ROUNDS = (32, 64), 25
TIMED = {"width": 64, "depths": (1, 1, 2, 1, 1)}
AGAINST = "DiT(depth=6, heads=4)"


def main() -> None:
    """Parts in turn, the file written after each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("dico.json"))
    parser.add_argument("--only", choices=("arms", "speed"))
    given = parser.parse_args()
    torch.set_num_threads(1)  # CPU seconds are then those of one core
    found = json.loads(given.out.read_text()) if given.out.exists() else {"runs": []}
    found |= {"device": device_name("cpu"), "versions": versions()}

    def keep() -> None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")

    if given.only != "arms" and "speed" not in found:
        found["speed"] = speed()
        keep()
    if given.only != "speed":
        arms(found, keep)


def arms(found: dict[str, Any], keep: Callable[[], None]) -> None:
    """All arms by one seed, then by the next."""
    found["setting"] = {
        "source": "scenes", "side": SIDE, "batch": BATCH, "steps": STEPS, "rate": RATE, "pictures": PICTURES,
        "width": SMALL["width"], "depths": list(SMALL["depths"]),
    }  # fmt: skip
    done = {(run["arm"], run["seed"]) for run in found["runs"]}
    for seed in SEEDS:
        for arm in ARMS:
            if (arm, seed) not in done:
                found["runs"].append({"arm": arm, "seed": seed, **trained(arm, seed)})
                keep()


class Task(ArchitectureTask):
    """Without a picture at the end."""

    def sheet(self) -> None:  # type: ignore[override]
        return None


def trained(arm: str, seed: int) -> dict[str, float]:
    """Held-out loss of a short training, and how many channels of the last mixer hardly fire."""
    source, objective, start = open_source("scenes", SIDE), Ddpm(), time.process_time()
    torch.manual_seed(seed)
    model = DiCo(DiCoConfig(**SMALL, classes=source.classes, **ARMS[arm]))
    optim = Optim(lr=RATE, weight_decay=0.0)
    config = Fit(steps=STEPS, seed=seed, precision="no", decay=0.98, save_every=STEPS, optim=optim)
    with tempfile.TemporaryDirectory() as folder:
        fit(Task(model, objective, source, ArchitectureStage(fit=config, batch=BATCH)), config, Path(folder), cpu=True)
    losses: dict[str, float] = {}
    scores = channel_scores(
        model.decoder1[-1].mixer,  # type: ignore[index]
        lambda: losses.update(evaluate(model, objective, source, pictures=PICTURES)),
    )
    x, t, labels = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    return {
        "loss": losses["mse"],
        "redundancy": redundancy(scores),
        "median_score": float(scores.median() / scores.max()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": macs(model, x, t, labels),
        "cpu_s": time.process_time() - start,
    }


def speed() -> dict[str, Any]:
    """Forwards of DiCo and of a DiT of equal multiply-adds at the smallest side, in turn, by side."""
    target = _multiplied(lambda: DiCo(DiCoConfig(**TIMED)), SIDES[0])
    with torch.device("meta"):
        arm = Arm(name="DiT", model=AGAINST, scaled="width", step=4)
        width = sized(arm, {"side": SIDES[0]}, lambda model: _counted(model, SIDES[0]), target)
    rows = []
    for side in SIDES:
        models = {"dico": DiCo(DiCoConfig(**TIMED)), "dit": DiT(depth=6, heads=4, width=width, side=side)}
        seconds = _in_turn(models, side)
        ratios = [a / b for a, b in zip(seconds["dit"], seconds["dico"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows.append({
            "side": side, "faster": middle, "faster_low": low, "faster_high": high,
            **{f"{name}_ms": 1e3 * statistics.median(seconds[name]) for name in models},
            **{f"{name}_macs": _counted(model, side) for name, model in models.items()},
        })  # fmt: skip
    return {"dico": {**TIMED, "depths": list(TIMED["depths"])}, "dit": {"depth": 6, "heads": 4, "width": width},
            "rounds": ROUNDS, "rows": rows}  # fmt: skip


def _multiplied(make: Callable[[], nn.Module], side: int) -> int:
    with torch.device("meta"):
        return _counted(make(), side)


def _counted(model: nn.Module, side: int) -> int:
    where = next(model.parameters()).device
    with where:
        return macs(model, torch.zeros(1, 4, side, side), torch.zeros(1), torch.zeros(1, dtype=torch.long))


@torch.inference_mode()
def _in_turn(models: dict[str, nn.Module], side: int) -> dict[str, list[float]]:
    """CPU seconds of each round's forward of each model; a first round does not count."""
    x, t, labels = torch.randn(1, 4, side, side), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    found: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS + 1):
        for name, model in models.items():
            start = time.process_time()
            model(x, t, labels)
            found[name].append(time.process_time() - start)
    return {name: seconds[1:] for name, seconds in found.items()}


if __name__ == "__main__":
    main()
