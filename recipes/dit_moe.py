"""What a small DiT-MoE shows of the paper's claims: balance, what experts depend on, shared experts, placement.

    python recipes/dit_moe.py --out docs/results/dit-moe.json

Trains 18 models of 64 channels and 4 blocks on scenes of 16 pixels, 64 tokens, by rectified flow: about nine
minutes of one CPU core. Each arm is stored as it ends, so a second run goes on where the first stopped.
`recipes/dit_moe_page.py` puts the figures into docs/papers/dit_moe.md.
Expected: load evens out as the balance grows, and the small balance has the best loss; place and step tell more of the
expert than the class does, place less in the last layer than in the first; a shared expert, and experts in the deep
half, lower the loss.
"""

import argparse
import json
import os
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import median, quantiles
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from saccade.analysis.routing import Usage, count_usage, information, load_variation
from saccade.data.labelled import Source, open_source
from saccade.metrics.machine import device_name, versions
from saccade.models import DiT
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_feedforward
from saccade.nn.routing import Routing, record_routing
from saccade.train.checkpoint import write_atomically
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import Evaluation, evaluate, null_condition
from saccade.train.loop import Fit, fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim

WIDTH, DEPTH, HEADS, SIDE, EXPERTS, STEPS, BATCH, SEEDS = 64, 4, 4, 16, 4, 200, 24, (0, 1, 2)
HELD, DRAWN, SAMPLING, SHUFFLES = 448, 10, 10, 20  # DRAWN: samples of each class
DENSE = f"swiglu(hidden={10 * WIDTH})"  # as many multiply-adds as two experts and the shared one


def moe(**options: Any) -> str:
    """A feed-forward of experts as text."""
    told = {"experts": EXPERTS, "balance": 0.005} | options
    return f"moe({', '.join(f'{name}={value}' for name, value in told.items())})"


ARMS: dict[str, str | tuple[str, ...]] = {
    "balance 0.005": moe(),
    "balance 0": moe(balance=0.0),
    "balance 0.5": moe(balance=0.5),
    "no shared expert": moe(shared=0, hidden=5 * WIDTH),
    "deep half": (DENSE,) * 2 + (moe(),) * 2,
    "shallow half": (moe(),) * 2 + (DENSE,) * 2,
}


def main() -> None:
    """Run what is not stored yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    source = open_source("scenes", SIDE)
    stored = json.loads(given.out.read_text()) if given.out.exists() else {"arms": {}}
    stored["setting"] = setting(given.steps)
    for seed, (arm, ffn) in product(SEEDS, ARMS.items()):
        if f"{arm}, {seed}" not in stored["arms"]:
            found = stored["arms"][f"{arm}, {seed}"] = run(ffn, seed, given.steps, source)
            stored.setdefault("counts", found.pop("counts"))  # of one model, to be looked at
            store(stored, given.out)
    if "speed" not in stored:
        stored["speed"] = [speed(width) for width in (64, 256)]
        store(stored, given.out)


def store(figures: dict[str, Any], file: Path) -> None:
    """Write what is known so far."""
    write_atomically(file, lambda path: path.write_text(json.dumps(figures, indent=1) + "\n"))


def speed(width: int, rounds: int = 15) -> dict[str, Any]:
    """Processor time of forward and backward through 8 experts, 2 at work and one shared, over that of a dense layer.

    In turn, for 32 pictures of 64 tokens and as many multiply-adds; the median of the ratios and their quartiles.
    """
    x = torch.randn(32, 64, width)
    parts = [make_feedforward(text, width) for text in ("moe(experts=8)", f"swiglu(hidden={10 * width})")]

    def spent(part: nn.Module) -> float:
        started = time.process_time()
        out, losses, _ = part(x, TokenPositions())
        (out.square().mean() + sum(losses.values())).backward()
        return time.process_time() - started

    pairs = [[spent(part) for part in parts] for _ in range(rounds + 2)][2:]
    low, mid, high = quantiles([moe / dense for moe, dense in pairs], n=4)
    of_dense = 1000 * median(dense for _, dense in pairs)
    return {"width": width, "dense_ms": of_dense, "ratio": mid, "low": low, "high": high, "rounds": rounds}


def run(ffn: str | tuple[str, ...], seed: int, steps: int, source: Source) -> dict[str, Any]:
    """Train one arm and judge its average; all arms of a seed see the same pictures, times and noise."""
    torch.manual_seed(seed)
    model = DiT(
        width=WIDTH, depth=DEPTH, heads=HEADS, side=SIDE, channels=3, classes=source.classes, ffn=ffn,
        learned_variance=False, time_scale=1000.0,
    )  # fmt: skip
    optim = Optim(kind="adamw", lr=2e-3, cooldown=0.4)
    stage = ArchitectureStage(batch=BATCH, fit=Fit(steps=steps, seed=seed, precision="no", decay=0.98, optim=optim))
    objective, started = RectifiedFlow(), time.perf_counter()
    task = ArchitectureTask(model, objective, source, stage, Evaluation(samples=1, steps=1))
    with tempfile.TemporaryDirectory() as folder:
        fit(task, stage.fit, Path(folder), cpu=True)
    seconds, losses = time.perf_counter() - started, evaluate(model, objective, source, pictures=HELD)
    return {"seconds": seconds, "loss": losses["mse"], **routing(model, objective, source)}


@torch.no_grad()
def routing(model: DiT, objective: RectifiedFlow, source: Source) -> dict[str, Any]:
    """Whom the routers choose along sampling, and what settles it, layer by layer."""
    labels = torch.arange(source.classes).repeat(DRAWN)
    shape = (len(labels), source.channels, source.side, source.side)
    noise = torch.Generator().manual_seed(0)
    with record_routing(model.eval()) as heard:
        objective.sample(model, labels, null_condition(source, labels), shape, steps=SAMPLING, generator=noise)
    usage = count_usage(heard, labels, classes=source.classes)
    return {
        "load_variation": load_variation(usage.steps).tolist(),
        "information": {name: information(table).tolist() for name, table in tables(usage).items()},
        "shuffled": shuffled(heard, labels),
        "counts": {name: table.tolist() for name, table in tables(usage).items()},
    }


def shuffled(heard: dict[str, list[Routing]], labels: Tensor) -> list[float]:
    """The same of classes dealt out at random: what chance alone tells, its mean over deals."""
    rng, alone = torch.Generator().manual_seed(0), torch.arange(len(labels))
    images = count_usage(heard, alone, classes=len(labels)).classes
    deals = [labels[torch.randperm(len(labels), generator=rng)] for _ in range(SHUFFLES)]
    empty = torch.zeros_like(images[:, : int(labels.max()) + 1])
    return torch.stack([information(empty.index_add(1, deal, images)) for deal in deals]).mean(0).tolist()


def tables(usage: Usage) -> dict[str, Tensor]:
    """What the expert may depend on."""
    return {"place": usage.places, "step": usage.steps, "class": usage.classes}


def setting(steps: int) -> dict[str, Any]:
    """All that decides the figures."""
    sizes = {"width": WIDTH, "depth": DEPTH, "side": SIDE, "experts": EXPERTS, "top": 2, "steps": steps, "batch": BATCH}
    machine = {"device": device_name("cpu"), "versions": versions()}
    return sizes | {"seeds": list(SEEDS), "held": HELD, "drawn": DRAWN, "sampling": SAMPLING, "arms": ARMS} | machine


if __name__ == "__main__":
    main()
