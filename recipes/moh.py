"""Mixtures of heads on a small DiT: against all heads, fewer heads and random heads; conversion; the loss of balance.

    python recipes/moh.py --work runs/moh --out docs/results/moh.json

Hardware: one CPU core, about eight minutes. Labelled scenes of 16 x 16 pixels, label their colour; shakespeare-lm on
tiny Shakespeare, read from SACCADE_DATA, without it on captions. What is in the work folder is not run again.
`recipes/moh_page.py` puts the figures into docs/papers/moh.md.
Expected: four of six heads picked by token nearly as good as six, better than the same four for all, better than random
ones; a trained model loses by conversion and gets over 95 % of it back in a tenth of its steps; without the loss of
balance some heads take most tokens.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoTokenizer

from saccade.attach import attach
from saccade.data.labelled import Source, open_source
from saccade.data.text import Split, read_text
from saccade.metrics import masked_bound
from saccade.metrics.machine import device_name, versions
from saccade.models import path
from saccade.models.classifier import Classifier
from saccade.models.dit import DiT, DiTConfig
from saccade.nn.registry import mixer
from saccade.nn.routing import Router, Routing, choose, record_routing
from saccade.papers.moh import MoH
from saccade.papers.moh.mixture_of_heads import MixtureOfHeads
from saccade.papers.moh.model import upcycle
from saccade.systems.dense import Dense
from saccade.train.classifier import ClassifierRecipe, ClassifierStage
from saccade.train.denoising import ArchitectureLoss, ArchitectureStage, ArchitectureTask
from saccade.train.judging import eval_mode, evaluate
from saccade.train.loop import Fit, fit
from saccade.train.masked import MaskedStage, MaskedTask
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim

STEPS, TUNED, BATCH, SIDE = 240, 24, 16, 16
PICTURES, SAMPLES, DRAWN = 1024, 140, 12
LANGUAGE, TEXT, TEXTS = 40, 128, 24
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
FLOW = RectifiedFlow()
BASE = DiTConfig(depth=4, width=72, patch=2, side=SIDE, channels=3, learned_variance=False, time_scale=1000.0)
ARMS = {
    "six heads": "attention",
    "four heads": "attention(heads=4, head_dim=12)",
    "two shared, two routed": "moh(shared=2, routed=2, balance=0.0025)",
    "two shared, two random": "random_heads(shared=2, routed=2, balance=0.0)",
    "two shared, two routed, no balance": "moh(shared=2, routed=2, balance=0.0)",
}
CONVERSIONS = {"five of six": (3, 2), "four of six": (2, 2)}  # shared, routed by norm


class RandomRouter(Router):
    """Picks `k` of the candidates by lot."""

    def __init__(self, candidates: int, k: int) -> None:
        super().__init__()
        self.candidates, self.k = candidates, k

    def forward(self, x: Float[Tensor, "b n d"]) -> Routing:
        picked = choose(torch.rand(*x.shape[:2], self.candidates), self.k)
        return picked._replace(weight=torch.ones_like(picked.weight))


@mixer("random_heads")
class RandomHeads(MixtureOfHeads):
    """A mixture whose routed heads are drawn by lot, token by token."""

    def __init__(self, width: int, heads: int, **options: Any) -> None:
        super().__init__(width, heads, **options)
        self.gates.router = RandomRouter(self.counts.candidates, self.counts.routed)


class Task(ArchitectureTask):
    """Draws no sheet."""

    def sheet(self) -> None:
        return None


class Bench:
    """Pictures, their judge, and a folder of what was trained."""

    def __init__(self, work: Path, seeds: Sequence[int]) -> None:
        self.work, self.seeds, self.source = work, seeds, open_source("scenes", SIDE, label="colour")
        folder, judge = work / "judge", replace(ClassifierStage().fit, minutes=None, steps=250, precision="no")
        if not (folder / "model").exists():
            ClassifierRecipe(side=SIDE, label="colour", train=ClassifierStage(fit=judge, shift=1)).run(folder)
        self.judge = Classifier.from_pretrained(folder / "model").eval()

    def arm(self, name: str, text: str, seed: int) -> DiT:
        """A model trained from a random start."""
        torch.manual_seed(seed)
        return self.taught(DiT(BASE, mixer=text, classes=self.source.classes), name, seed, STEPS)

    def taught(self, model: DiT, name: str, seed: int, steps: int, lr: float = 2e-3) -> DiT:
        """`model` after some steps, or what the folder holds of it."""
        folder = self.work / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
        stage = ArchitectureStage(batch=BATCH, fit=_fit(steps, seed, lr))
        if (folder / "average.safetensors").exists():
            ArchitectureLoss(model, FLOW).load_state_dict(load_file(folder / "average.safetensors"))
        else:
            fit(Task(model, FLOW, self.source, stage), stage.fit, folder)
        return model

    def eval_mode(self, model: DiT) -> dict[str, float]:
        """Loss on held-out pictures, and the share of samples whose colour is the one asked for."""
        torch.manual_seed(0)
        loss = evaluate(model, FLOW, self.source, pictures=PICTURES)["mse"]
        wanted = torch.arange(SAMPLES) % self.source.classes
        noise = torch.Generator().manual_seed(0)
        with eval_mode(model), torch.no_grad():
            none = torch.full_like(wanted, self.source.classes)
            drawn = FLOW.sample(model, wanted, none, (SAMPLES, 3, SIDE, SIDE), steps=DRAWN, generator=noise)
            told = self.judge(drawn.clamp(-1, 1)).argmax(1)
        return {"loss": loss, "accuracy": (told == wanted).float().mean().item()}


def arms(bench: Bench) -> list[dict[str, Any]]:
    """Every arm with every seed."""
    rows = []
    for seed in bench.seeds:
        for name, text in ARMS.items():
            model = bench.arm(name, text, seed)
            size = sum(p.numel() for p in model.parameters())
            used = usage(model, bench.source) if "routed" in name else {}
            rows.append({"arm": name, "seed": seed, "parameters": size, **bench.eval_mode(model), **used})
    return rows


def conversion(bench: Bench) -> list[dict[str, Any]]:
    """Six heads; converted; tuned on for a tenth of the steps, as is the model of six heads."""
    rows = []
    for seed in bench.seeds:
        dense = bench.arm("six heads", ARMS["six heads"], seed)
        rows.append({"what": "six heads", "stage": "before", "seed": seed, **bench.judged(dense)})
        for what, (shared, routed) in CONVERSIONS.items():
            made = upcycle(dense, shared=shared, routed=routed, routing="norm", balance=0.0)
            rows.append({"what": what, "stage": "converted", "seed": seed, **bench.judged(made)})
            tuned = bench.taught(made, f"tuned {what}", seed, TUNED, lr=5e-4)
            rows.append({"what": what, "stage": "tuned", "seed": seed, **bench.judged(tuned)})
        tuned = bench.taught(dense, "tuned six heads", seed, TUNED, lr=5e-4)
        rows.append({"what": "six heads", "stage": "tuned", "seed": seed, **bench.judged(tuned)})
    return rows


def language(bench: Bench) -> list[dict[str, Any]]:
    """The model in the box, a trained one of eight heads: bounds of held-out texts, in nats a character."""
    rows = []
    for what, system in {"eight heads": Dense(), "six of eight": MoH()}.items():
        model = AutoModelForMaskedLM.from_pretrained(path("shakespeare-lm")).eval()
        with attach(model, system):
            rows.append({"what": what, "stage": "converted", "bounds": _bounds(model)})
            _tuned(model, bench.work / f"language-{what.replace(' ', '-')}")
            rows.append({"what": what, "stage": "tuned", "bounds": _bounds(model)})
    return rows


def _tuned(model: Any, folder: Path) -> None:
    optim = Optim(lr=2e-4, muon_lr=5e-4, cooldown=0.5)
    config = Fit(steps=LANGUAGE, precision="no", decay=0.9, save_every=10**6, sheet_every=10**6, optim=optim)
    stage = MaskedStage(fit=config, lengths=(TEXT,), tokens=16 * TEXT, compile=False)
    ids, mask_id = _ids("train")
    task = MaskedTask(model, ids, mask_id, stage)
    if (folder / "average.safetensors").exists():
        task.module.load_state_dict(load_file(folder / "average.safetensors"))
    else:
        fit(task, config, folder)


def _bounds(model: Any) -> list[float]:
    ids, mask_id = _ids("held-out")
    starts = torch.linspace(0, len(ids) - TEXT, TEXTS).long()
    texts, noise = ids[starts[:, None] + torch.arange(TEXT)], torch.Generator().manual_seed(0)
    return masked_bound(model, texts, mask_id=mask_id, draws=16, generator=noise).tolist()


def _ids(split: Split) -> tuple[Tensor, int]:
    tokenizer = AutoTokenizer.from_pretrained(path("shakespeare-lm"))
    text = read_text("shakespeare" if os.environ.get("SACCADE_DATA") else "captions", split)
    return torch.tensor(tokenizer(text, verbose=False).input_ids), tokenizer.mask_token_id


def usage(model: DiT, source: Source) -> dict[str, Any]:
    """Shares of picks by layer (l e): the largest, their entropies, and how far they differ by time and by colour."""
    x, labels = source.held_out(PICTURES // 4)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    picks = torch.stack([_picks(model, (1 - t) * x + t * noise, t, labels) for t in TIMES])  # (t b l e)
    over_classes = torch.stack([_shares(picks[:, labels == c]) for c in labels.unique()])
    over_times = torch.stack([_shares(picks[i : i + 1]) for i in range(len(TIMES))])
    at_random = torch.stack([_shares(each) for each in picks.chunk(len(over_classes), dim=1)])
    return {
        "largest_share": _shares(picks).max().item(),
        "entropy": _entropy(_shares(picks)),
        "entropy_by_time": [_entropy(each) for each in over_times],
        "entropy_by_colour": [_entropy(each) for each in over_classes],
        "apart_by_time": _apart(over_times),
        "apart_by_colour": _apart(over_classes),
        "apart_by_chance": _apart(at_random),
    }


@torch.no_grad()
def _picks(model: DiT, z: Tensor, t: float, labels: Tensor) -> Float[Tensor, "b l e"]:
    """How many of a picture's tokens picked each candidate, by layer."""
    with eval_mode(model), record_routing(model) as found:
        model(z, torch.full((len(z),), t), labels)
    layers = [torch.nn.functional.one_hot(r.index, r.probs.shape[-1]).sum((1, 2)) for (r,) in found.values()]
    return torch.stack(layers, dim=1).float()


def _shares(picks: Float[Tensor, "t b l e"]) -> Float[Tensor, "l e"]:
    total = picks.sum((0, 1))
    return total / total.sum(-1, keepdim=True)


def _entropy(shares: Float[Tensor, "l e"]) -> float:
    """1 for even use, 0 for one head alone; mean over layers."""
    return (-torch.special.xlogy(shares, shares).sum(-1) / log(shares.shape[-1])).mean().item()


def _apart(groups: Float[Tensor, "g l e"]) -> float:
    """Total variation between two groups, mean over pairs and layers."""
    first, second = torch.combinations(torch.arange(len(groups))).unbind(1)
    return (groups[first] - groups[second]).abs().sum(-1).div(2).mean().item()


def _fit(steps: int, seed: int, lr: float) -> Fit:
    optim = Optim(lr=lr, muon_lr=1.5 * lr, cooldown=0.3)
    never = 10**6
    return Fit(steps=steps, seed=seed, precision="no", decay=0.99, save_every=never, sheet_every=never, optim=optim)


PARTS: dict[str, Callable[[Bench], list[dict[str, Any]]]] = {
    "arms": arms,
    "conversion": conversion,
    "language": language,
}


def main(words: Iterable[str] | None = None) -> None:
    """Run the chosen parts and merge their figures into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of trained models")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; parts that are not run are kept")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--seeds", default="0,1,2", help="some, to share the work out; all of them at last")
    chosen = parser.parse_args(None if words is None else list(words))
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    figures = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    bench = Bench(chosen.work, seeds)
    figures["setting"] = {
        "steps": STEPS, "tuned": TUNED, "batch": BATCH, "side": SIDE, "seeds": len(seeds), "pictures": PICTURES,
        "samples": SAMPLES, "times": TIMES, "depth": BASE.depth, "width": BASE.width, "heads": BASE.heads,
        "language_steps": LANGUAGE, "text": TEXT, "texts": TEXTS,
        "source": "shakespeare" if os.environ.get("SACCADE_DATA") else "captions",
        "device": device_name("cpu"), **versions(),
    }  # fmt: skip
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    for name in chosen.only.split(","):
        start = time.process_time()
        figures[name] = {"rows": PARTS[name](bench), "cpu_s": round(time.process_time() - start, 1)}
        chosen.out.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
