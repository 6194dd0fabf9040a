"""AdaSpa on a pipeline of the scenes: how long a mask stays good, and pictures beside those of dense attention."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saccade.attach import Run, attach
from saccade.core.layout import Layout
from saccade.core.mechanism import System
from saccade.data.scenes import Prompt, judge, prompts
from saccade.experiments import Row
from saccade.metrics import fidelity
from saccade.ops.block_scores import open_blocks
from saccade.papers.adaspa.ablations import FixedBlocks, FreshLse, KeepMass, WatchMass
from saccade.papers.adaspa.mass_mask import choose_blocks, recall
from saccade.papers.adaspa.system import AdaSpa

PIXELS = 8  # per image token, along a side
TEXT = 32  # tokens to which captions are padded
SEED = 11
ARMS = ("AdaSpa", "one sparsity", "band", "random")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What is drawn.

    grid        image tokens along a side; `block` tokens of a block
    captions    of held-out scenes of one object, the same noise for all arms
    sparsities  of the arms, the usual one among them
    """

    grid: int = 16
    block: int = 8
    captions: int = 12
    sparsities: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9)

    @property
    def layout(self) -> Layout:
        """Text, then the picture."""
        return Layout.joint(text=TEXT, grid=(1, self.grid, self.grid))

    @property
    def prompts(self) -> list[Prompt]:
        """The captions with what they promise."""
        return prompts(self.captions, seed=SEED, count=1, split="held-out")

    def system(self, arm: str, sparsity: float) -> System:
        """An arm's system; all keep equally many blocks of each row, AdaSpa on average over heads."""
        like = AdaSpa(sparsity=sparsity, block=self.block)
        match arm:
            case "AdaSpa":
                return like
            case "one sparsity":
                return AdaSpa(sparsity=sparsity, block=self.block, head_adaptive=False)
            case "band":
                return FixedBlocks(like=like, rule="band", layout=self.layout)
            case _:
                return FixedBlocks(like=like, rule="random", layout=self.layout)


def draw(pipe: Any, about: Drawn, steps: int, *systems: System) -> tuple[np.ndarray, Run]:
    """Pictures (b h w 3) in [0, 1], and the run that drew them."""
    from saccade.train.sampling import draw as drawn

    with attach(pipe, *systems) as run:
        made = drawn(
            pipe, [p.text for p in about.prompts], steps=steps, side=PIXELS * about.grid, seed=SEED, text_tokens=TEXT
        )
    return made / 255, run


def samples(pipe: Any, about: Drawn, steps: int, arms: Sequence[tuple[str, float]]) -> Iterator[Row]:
    """A row for each arm, sparsity and caption: fidelity to dense attention's picture, and what the caption keeps."""
    dense, _ = draw(pipe, about, steps)
    yield from _rows(about, "dense", 0.0, dense, dense, 1.0)
    for arm, sparsity in arms:
        made, run = draw(pipe, about, steps, about.system(arm, sparsity))
        yield from _rows(about, arm, sparsity, made, dense, run.report().density)


def _rows(about: Drawn, arm: str, sparsity: float, made: np.ndarray, dense: np.ndarray, pairs: float) -> Iterator[Row]:
    common = {"grid": about.grid, "block": about.block, "arm": arm, "sparsity": sparsity, "pairs": pairs}
    for caption, (picture, plain, wanted) in enumerate(zip(made, dense, about.prompts, strict=True)):
        scores, verdict = fidelity(picture[None], plain[None]), judge((picture * 255).astype(np.uint8), wanted)
        psnr = scores.psnr if isfinite(scores.psnr) else None
        yield common | {"caption": caption, "psnr": psnr, "ssim": scores.ssim, "kept": float(bool(verdict.all))}


def recalls(pipe: Any, about: Drawn, steps: int, sparsity: float) -> Iterator[Row]:
    """Recall in a dense run, of three masks: rows of `recalls` by step, and rows of `prompts` by caption.

    found then      the mask of the step in which AdaSpa searches first
    another prompt  the mask found in that step for the next caption
    found now       the mask of the step's own mass
    """
    keep = KeepMass(block=about.block, found={})
    draw(pipe, about, steps, WatchMass(keep))
    mass = torch.stack([torch.stack(site) for site in keep.found.values()], 2).flatten(2, 3)  # (t b sites*heads Q K)
    search = AdaSpa(block=about.block).search_steps(steps)[0]
    then = _mask(mass[search], about, sparsity)
    found = {
        "found then": torch.stack([recall(now, then) for now in mass]),
        "another prompt": torch.stack([recall(now, then.roll(1, dims=0)) for now in mass]),
        "found now": torch.stack([recall(now, _mask(now, about, sparsity)) for now in mass]),
    }  # (t b sites*heads)
    for arm, values in found.items():
        for step, heads in enumerate(values):
            mean, lowest = heads.mean().item(), heads.amin(1).mean().item()
            yield {"table": "recalls", "arm": arm, "step": step, "recall": mean, "lowest": lowest}
    for caption in range(about.captions):
        own, other = (found[arm][:, caption].mean(1) for arm in ("found then", "another prompt"))
        later = {"own_later": own[search + 1 :].mean().item(), "other_later": other[search + 1 :].mean().item()}
        yield {"table": "prompts", "caption": caption, "search": search, "own": own[search].item()} | later


def _mask(mass: Tensor, about: Drawn, sparsity: float) -> Tensor:
    """At one sparsity, so that heads of all sites can be looked at together."""
    text = open_blocks(about.layout.is_("text")[None], about.block)
    return choose_blocks(mass, torch.ones_like(text), text, sparsity, head_adaptive=False)


def refreshes(pipe: Any, about: Drawn, steps: int, sparsity: float) -> Iterator[Row]:
    """A row for each caption: how far the masks by kept and by fresh lse agree, and the runs' fidelity."""
    same: list[Tensor] = []
    dense, _ = draw(pipe, about, steps)
    cached, _ = draw(pipe, about, steps, AdaSpa(sparsity=sparsity, block=about.block))
    fresh, _ = draw(pipe, about, steps, FreshLse(sparsity=sparsity, block=about.block, same=same))
    again, _ = draw(pipe, about, steps, AdaSpa(sparsity=sparsity, block=about.block, lse_cache=False))
    shares = torch.stack(same).mean((0, 3))  # over sites and heads: (2 b)
    for caption in range(about.captions):
        agreement, common = shares[:, caption].tolist()
        found = {"caption": caption, "agreement": agreement, "common": common}
        for name, made in (("cached", cached), ("fresh", fresh), ("dense", again)):
            found[f"psnr_{name}"] = fidelity(made[caption][None], dense[caption][None]).psnr
        yield found
