"""Where and when a small DC-DiT keeps tokens, and what training for many budgets does: pictures of one coloured shape.

    python recipes/dc_dit.py --out docs/results/dc-dit.json --work runs/dc-dit

Hardware: one CPU core, about six minutes. A DC-DiT of 4 blocks learns 32 x 32 pixels, then two copies of it go on:
one as before, one that drops another share of its tokens at every step. What is there is not run again.
Expected: more tokens at edges than on the flat background, more where there is less noise, one in `RATIO` on average,
a lower loss than with as many tokens drawn at random, and a loss that rises less as tokens are dropped.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from saccade.data.labelled.scenes import SceneSource, open_scenes
from saccade.metrics.machine import device_name, versions
from saccade.nn.routing import Routing, record_routing
from saccade.papers.dc_dit import DCDiT, DCDiTConfig
from saccade.papers.dc_dit.multi_budget import BudgetTask, MultiBudget
from saccade.train.denoising import ArchitectureLoss, ArchitectureStage
from saccade.train.loop import Fit, fit
from saccade.train.objectives import Ddpm
from saccade.train.optimisers import Optim

RATIO, SIDE, SHARED, STEPS, BATCH, SEED = 4.0, 32, 450, 550, 8, 0
TIMES = tuple(range(50, 1000, 100))
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NEVER = 10**9  # steps of warm-up
ARMS = {"shared": (SHARED, NEVER), "plain": (STEPS, NEVER), "multi-budget": (STEPS, SHARED)}


def fresh(source: SceneSource) -> DCDiT:
    """The untrained model."""
    torch.manual_seed(SEED)
    return DCDiT(
        DCDiTConfig(
            layout=("c2", ("D4",), "c2"), width=96, heads=4, narrow=32, side=SIDE, channels=3, classes=source.classes,
            learned_variance=False, ratio=RATIO, ratio_group=None,
        )
    )  # fmt: skip


def train(source: SceneSource, work: Path, name: str) -> float:
    """One arm, from where the shared part or the last call ended; returns the seconds of this call on a core."""
    steps, warmup = ARMS[name]
    if name != "shared" and not (work / name).exists():
        shutil.copytree(work / "shared", work / name, ignore=shutil.ignore_patterns("average*", "*.png"))
    if (work / name / "average.safetensors").exists():
        return 0.0
    stage = ArchitectureStage(batch=BATCH)
    task = BudgetTask(fresh(source), Ddpm(), source, stage, budget=MultiBudget(warmup=warmup))
    task.sheet = lambda: None  # type: ignore[method-assign]
    start = time.process_time()
    optim = Optim(warmup=0.0, cooldown=0.0)  # one rate throughout, so that a copy goes on as the whole would have
    fit(
        task, Fit(steps=steps, precision="no", decay=0.95, seed=SEED, save_every=50, optim=optim), work / name, cpu=True
    )
    return time.process_time() - start


def trained(source: SceneSource, work: Path, name: str) -> DCDiT:
    """The averaged weights of an arm."""
    loss = ArchitectureLoss(fresh(source), Ddpm())
    loss.load_state_dict(load_file(work / name / "average.safetensors"))
    return loss.model.eval()  # type: ignore[return-value]


class Bench:
    """Held-out pictures, each at one of even quantiles of the times, and at all of `TIMES` for the router."""

    def __init__(self, source: SceneSource, pictures: int) -> None:
        self.source, self.objective = source, Ddpm()
        self.x, self.labels = source.held_out(pictures)
        self.t = self.objective.spread(pictures)
        self.noise = torch.randn(self.x.shape, generator=torch.Generator().manual_seed(SEED))

    @torch.no_grad()
    def losses(self, model: Any, **options: Any) -> Tensor:
        """Mean square error of the noise, picture by picture."""
        found = []
        for rows in torch.arange(len(self.x)).split(32):
            z = self.objective.chain.noised(self.x[rows], self.noise[rows], self.t[rows].long())
            out = model(z, self.t[rows], self.labels[rows], **options).out
            found.append((out - self.noise[rows]).square().flatten(1).mean(1))
        return torch.cat(found)

    @torch.no_grad()
    def kept(self, model: DCDiT, pictures: int) -> Tensor:
        """Kept cells (times, pictures, h, w)."""
        x, labels, noise = self.x[:pictures], self.labels[:pictures], self.noise[:pictures]
        found = []
        for time_ in TIMES:
            t = torch.full((pictures,), time_)
            with record_routing(model) as routings:
                model(self.objective.chain.noised(x, noise, t), t.float(), labels)
            (routing,) = routings["stage.router"]
            found.append(routing.index[..., 0].view(-1, SIDE, SIDE).bool())
        return torch.stack(found)


class Shuffled:
    """The model with as many tokens in every picture, drawn at random, ends excepted."""

    def __init__(self, model: DCDiT) -> None:
        self.model, self.draw = model, torch.Generator().manual_seed(SEED)

    def __call__(self, *given: Any) -> Any:
        handle = self.model.stage.router.register_forward_hook(self._shuffled)
        try:
            return self.model(*given)
        finally:
            handle.remove()

    def _shuffled(self, _: object, __: object, routing: Any) -> Routing:
        rows, n = routing.index.shape[:2]
        order = torch.stack([torch.randperm(n - 2, generator=self.draw) for _ in range(rows)]) + 1
        ends = torch.tensor([[0], [n - 1]]).expand(2, rows)
        order = torch.cat((ends[:1].mT, order, ends[1:].mT), dim=1)[..., None]
        probs = routing.probs.gather(1, order.expand(-1, -1, 2))
        return Routing(routing.index.gather(1, order), routing.weight.gather(1, order), probs)


def where(bench: Bench, kept: Tensor) -> dict[str, Any]:
    """Rates of keeping within a pixel of an edge and on the background, by time."""
    thing = torch.from_numpy(bench.source.masks(kept.shape[1])).float()[:, None]
    grown, shrunk = F.max_pool2d(thing, 3, 1, 1), -F.max_pool2d(-thing, 3, 1, 1)
    edge, flat = (grown - shrunk)[:, 0].bool(), ~grown[:, 0].bool()
    at_edge, at_flat = (((kept & mask).sum((-1, -2)) / mask.sum((-1, -2))) for mask in (edge, flat))
    rates = zip(TIMES, at_edge.mean(1).tolist(), at_flat.mean(1).tolist(), strict=True)
    ratios = at_edge.mean(0) / at_flat.mean(0).clamp(min=1 / SIDE**2)
    return {
        "rows": [{"time": t, "edge": edge_rate, "flat": flat_rate} for t, edge_rate, flat_rate in rates],
        **_spread("ratio", ratios),
    }


def when(kept: Tensor) -> dict[str, Any]:
    """Tokens by time, and by how many they rise from the noisiest to the cleanest."""
    counts = kept.float().sum((-1, -2))
    rows = [{"time": t, **_spread("kept", each)} for t, each in zip(TIMES, counts, strict=True)]
    return {"rows": rows, **_spread("rise", counts[0] - counts[-1]), **_spread("compression", SIDE**2 / counts.mean(0))}


def at_random(bench: Bench, model: DCDiT) -> dict[str, Any]:
    """Losses with the router's tokens and with random ones."""
    chosen, drawn = bench.losses(model), bench.losses(Shuffled(model))
    return _spread("chosen", chosen) | _spread("drawn", drawn) | _spread("worse", drawn - chosen)


def by_share(bench: Bench, plain: DCDiT, budget: DCDiT) -> dict[str, Any]:
    """Losses of both arms by the share that is dropped; how much less the second rises up to 0.6."""
    found = {
        name: [bench.losses(model, rho=rho) for rho in SHARES] for name, model in (("plain", plain), ("many", budget))
    }
    rows = [
        {"rho": rho, **_spread("plain", one), **_spread("many", many)}
        for rho, one, many in zip(SHARES, found["plain"], found["many"], strict=True)
    ]
    rises = [losses[SHARES.index(0.6)] - losses[0] for losses in found.values()]
    return {"rows": rows, **_spread("flatter", rises[0] - rises[1])}


def picture(bench: Bench, kept: Tensor, pictures: int = 4) -> dict[str, Any]:
    """What a plot of kept tokens needs: a few pictures and their kept cells, as text, by time."""
    shown = ((bench.x[:pictures] + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    bits = [["".join(map(str, each.int().flatten().tolist())) for each in time_[:pictures]] for time_ in kept]
    return {"times": TIMES, "pixels": [each.flatten().tolist() for each in shown], "kept": bits}


def _spread(name: str, values: Tensor) -> dict[str, float]:
    """Mean over pictures and its standard error."""
    return {name: values.mean().item(), f"{name}_error": (values.std() / len(values) ** 0.5).item()}


def main(words: Iterable[str] | None = None) -> None:
    """Train what is not trained, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--pictures", type=int, default=128, help="held-out ones")
    chosen = parser.parse_args(None if words is None else list(words))
    torch.set_num_threads(1)
    source = open_scenes(SIDE, count=4096, held=512)
    seconds = {name: train(source, chosen.work, name) for name in ARMS}
    start = time.process_time()
    bench, (plain, budget) = (
        Bench(source, chosen.pictures),
        (trained(source, chosen.work, n) for n in ("plain", "multi-budget")),
    )
    kept = bench.kept(plain, chosen.pictures // 4)
    figures = {
        "where": where(bench, kept),
        "when": when(kept),
        "at_random": at_random(bench, plain),
        "by_share": by_share(bench, plain, budget),
        "picture": picture(bench, kept),
        "setting": {
            "steps": STEPS, "shared": SHARED, "batch": BATCH, "ratio": RATIO, "pictures": chosen.pictures, "seed": SEED,
            "parameters": sum(p.numel() for p in plain.parameters()), "train_cpu_s": seconds,
            "measure_cpu_s": time.process_time() - start, "device": device_name("cpu"), **versions(),
        },
    }  # fmt: skip
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
