"""What E-MMDiT's parts cost and bring on captioned scenes of 32 x 32 pixels: compression, subregions, positions, adaLN.

    python recipes/e_mmdit.py --out docs/results/e-mmdit.json --work runs/e-mmdit

Hardware: one CPU core, about ten minutes. An arm that is trained or measured is not run again.
`recipes/e_mmdit_page.py` puts the figures into docs/papers/e_mmdit.md.
Expected: compression makes a step more than 1.5 times as fast for a little loss; subregions save about half of the
pairs at nearly equal loss; adding the positions again recovers accuracy of place that compression cost; the three
modulations differ little.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from saccade.data.labelled.source import as_pictures
from saccade.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    Prompt,
    Scene,
    Split,
    describe,
    judge,
    masks,
    render,
    sample,
    vocabulary,
)
from saccade.metrics.machine import device_name, versions
from saccade.models.labelled import TokenWords
from saccade.papers import EMMDiT
from saccade.papers.e_mmdit.config import EMMDiTConfig
from saccade.papers.e_mmdit.subregions import ALTERNATING, FULL
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import eval_mode
from saccade.train.loop import Fit, fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim
from saccade.train.pictures import to_bytes

SIDE, WORDS, WIDTH = 32, 16, 64
HELD, DRAWN, SAMPLING, SEED = 512, 64, 20, 0
STEPS, BATCH, ROUNDS = 400, 16, 7
NOISE = 0.7  # time at which outlines are compared
IDS = {word: i for i, word in enumerate(vocabulary())}
PADDING = len(IDS)
BASE = EMMDiTConfig(
    groups=(1, 4, 1), width=WIDTH, heads=WIDTH // 32, patch=2, side=SIDE, channels=3, words_width=WIDTH,
    patterns=FULL, compress=False, reinforce=False,
)  # fmt: skip
WHOLE = replace(BASE, patterns=ALTERNATING, compress=True, reinforce=True)
ARMS = {
    "full": BASE,
    "+ compression": replace(BASE, compress=True),
    "+ subregions": replace(WHOLE, reinforce=False),
    "+ positions": WHOLE,
    "the same, adaLN-single": replace(WHOLE, modulation="single"),
    "the same, a linear layer per block": replace(WHOLE, modulation="zero"),
}


class Captions:
    """A `Source` of scenes of one thing with their captions, as numbers of words."""

    classes, side, channels = PADDING, SIDE, 3  # a condition of `classes` says nothing
    names = (*IDS, "nothing")

    def batch(self, rng: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
        """`n` new pictures."""
        return told(drawn(rng, n, "train"), rng)

    def held_out(self, n: int) -> tuple[Tensor, Tensor]:
        """`n` pictures of things that training never showed at that place in that size and colour."""
        return told(scenes(n), np.random.default_rng(SEED))


class CaptionTask(ArchitectureTask):
    """Training without sheets: samples are judged afterwards."""

    def sheet(self) -> None:  # type: ignore[override]
        """None."""


def drawn(rng: np.random.Generator, n: int, split: Split) -> list[Scene]:
    """Scenes of one thing."""
    return [sample(rng, count=1, split=split) for _ in range(n)]


def scenes(n: int) -> list[Scene]:
    """Held-out ones, always the same."""
    return drawn(np.random.default_rng(SEED), n, "held-out")


def told(shown: list[Scene], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pictures and captions."""
    pictures = as_pictures(np.stack([render(scene, SIDE) for scene in shown]))
    return pictures, to_spec([describe(scene, rng) for scene in shown])


def to_spec(prompts: list[Prompt]) -> Tensor:
    """Captions as numbers, padded."""
    ids: list[list[int]] = [[IDS[word] for word in prompt.text.split()] for prompt in prompts]
    return torch.tensor([row + [PADDING] * (WORDS - len(row)) for row in ids])


def made(arm: str, seed: int) -> TokenWords:
    """An untrained arm."""
    torch.manual_seed(seed)
    return TokenWords(EMMDiT(ARMS[arm]), PADDING, tokens=WORDS, width=WIDTH)


def trained(arm: str, seed: int, steps: int, work: Path) -> TokenWords:
    """An arm after its training, from `work` if it is there."""
    model, folder = made(arm, seed), work / f"{list(ARMS).index(arm)}-{seed}-{steps}"
    optim = Optim(cooldown=0.4)
    stage = ArchitectureStage(
        fit=Fit(steps=steps, seed=seed, precision="no", decay=0.99, save_every=steps, sheet_every=steps, optim=optim),
        batch=BATCH,
    )
    task = CaptionTask(model, RectifiedFlow(), Captions(), stage)
    if (folder / "average.safetensors").exists():
        task.module.load_state_dict(load_file(folder / "average.safetensors"))
    else:
        fit(task, stage.fit, folder, cpu=True)
    return model.eval()


@torch.no_grad()
def velocities(model: TokenWords, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Clean held-out pictures, the velocities towards always the same noise, and the model's, at times `t`."""
    x, ids = Captions().held_out(HELD)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(SEED))
    share = t.view(-1, 1, 1, 1)
    rows = zip(*(each.split(64) for each in ((1 - share) * x + share * noise, t, ids)), strict=True)
    return x, noise - x, torch.cat([model(*row).out for row in rows])


def losses(model: TokenWords) -> list[float]:
    """Of each held-out picture, at even quantiles of the times."""
    _, wanted, found = velocities(model, RectifiedFlow().spread(HELD))
    return (found - wanted).square().mean((1, 2, 3)).tolist()


def outlines(model: TokenWords) -> list[float]:
    """Overlap of each thing's exact mask with where the clean picture, guessed at time `NOISE`, shows its colour."""
    x, wanted, found = velocities(model, torch.full((HELD,), NOISE))
    guess = (x + NOISE * (wanted - found)).permute(0, 2, 3, 1).numpy() * 127.5 + 127.5
    return [overlap(picture, scene) for picture, scene in zip(guess, scenes(HELD), strict=True)]


def overlap(picture: np.ndarray, scene: Scene) -> float:
    """Intersection over union; a pixel shows the thing if it is nearer to its colour than to the background's."""
    thing, ground = (np.array(c) for c in (COLOURS[scene.things[0].colour], BACKGROUNDS[scene.background]))
    seen = np.linalg.norm(picture - thing, axis=-1) < np.linalg.norm(picture - ground, axis=-1)
    true = masks(scene, SIDE)[0]
    return float((seen & true).sum() / (seen | true).sum())


def verdicts(model: TokenWords) -> dict[str, list[float]]:
    """Whether each drawn picture keeps its caption's colour, shape and place, read at twice the size."""
    rng = np.random.default_rng(SEED)
    prompts = [describe(scene, rng) for scene in scenes(DRAWN)]
    ids = to_spec(prompts)
    with eval_mode(model):
        made = RectifiedFlow().sample(
            model, ids, torch.full_like(ids, PADDING), (DRAWN, 3, SIDE, SIDE),
            steps=SAMPLING, generator=torch.Generator().manual_seed(SEED),
        )  # fmt: skip
    pictures = to_bytes(made.clamp(-1, 1)).repeat(2, axis=1).repeat(2, axis=2)
    found = [judge(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]
    return {name: [float(getattr(each, name)) for each in found] for name in ("colour", "shape", "place")}


def measured(arm: str, seed: int, steps: int, work: Path) -> dict[str, Any]:
    """One arm's row: what it costs, and how well it draws."""
    start = time.process_time()
    model = trained(arm, seed, steps, work)
    modulation: Any = model.get_submodule("model.blocks.0.0.image.modulation")
    return {
        "arm": arm,
        "seed": seed,
        "steps": steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "modulation": sum(p.numel() for p in modulation.parameters()),
        "pairs": ARMS[arm].pairs(WORDS),
        "losses": losses(model),
        "outlines": outlines(model),
        "verdicts": verdicts(model),
        "cpu_s": round(time.process_time() - start, 1),
    }


def times() -> dict[str, list[float]]:
    """CPU seconds of a training step of each arm, in rounds that take the arms in turn."""
    models = {arm: made(arm, SEED) for arm in ARMS}
    x, ids = Captions().batch(np.random.default_rng(SEED), BATCH)
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for _ in range(ROUNDS + 1):
        for arm, model in models.items():
            start = time.process_time()
            RectifiedFlow().loss(model, x, ids, torch.full((BATCH,), 0.5), torch.randn_like(x))["loss"].backward()
            found[arm].append(time.process_time() - start)
    return {arm: seconds[1:] for arm, seconds in found.items()}  # the first of each warms up


def main() -> None:
    """Measure what is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file; arms that are in it are kept")
    parser.add_argument("--work", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = json.loads(chosen.out.read_text()) if chosen.out.exists() else {"rows": []}
    done = {(row["arm"], row["seed"], row["steps"]) for row in figures["rows"]}
    for seed in range(chosen.seeds):
        for arm in ARMS:
            if (arm, seed, chosen.steps) not in done:
                figures["rows"].append(measured(arm, seed, chosen.steps, chosen.work))
                written(chosen.out, figures)
    if "times" not in figures:
        figures["times"] = times()
    figures["setting"] = {
        "width": WIDTH, "blocks": sum(BASE.groups), "batch": BATCH, "held_out": HELD, "drawn": DRAWN,
        "sampling": SAMPLING, "noise": NOISE, "device": device_name("cpu"), **versions(),
    }  # fmt: skip
    written(chosen.out, figures)


def written(out: Path, figures: dict[str, Any]) -> None:
    """Store what there is."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
