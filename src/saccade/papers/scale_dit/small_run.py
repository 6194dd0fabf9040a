"""Scale-DiT on the bundled model: losses of held-out large pictures, and how large ones keep to their small ones."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from saccade.attach import attach
from saccade.data.scenes import Parsed, judge, parse, prompts
from saccade.experiments import Row
from saccade.papers.scale_dit.anchor_layout import square
from saccade.papers.scale_dit.arms import PIXELS, SEED, TEXT, AnchorArm, Pool, Sides, Tuning, made
from saccade.papers.scale_dit.low_stream import LowStream
from saccade.papers.scale_dit.sampling import Stages, two_stages
from saccade.papers.scale_dit.training import flow_loss

LOST = 0.5  # what a thing without a partner counts as, in sides of the picture


@dataclass(frozen=True, kw_only=True)
class SmallRun:
    """What is drawn and measured.

    pictures  held-out, whose loss is measured at times spread evenly
    captions  of two things each, drawn in `steps` from pure noise
    """

    model: str = "scenes-flux"
    size: Sides = field(default_factory=Sides)
    tuning: Tuning = field(default_factory=Tuning)
    pictures: int = 12
    captions: int = 6
    steps: int = 12

    def rows(self, arm: AnchorArm) -> Iterator[Row]:
        """Of one arm, by table."""
        with made(self.model, arm, self.size, self.tuning) as (pipe, stream, losses):
            yield from ({"table": "tuning", "arm": arm.label, "step": i, "loss": x} for i, x in enumerate(losses))
            for table, rows in (
                ("losses", self.losses(pipe, stream, arm)),
                ("samples", self.samples(pipe, stream, arm)),
            ):
                yield from ({"table": table, "arm": arm.label, "pairs": arm.pairs(self.size)} | row for row in rows)

    @torch.no_grad()
    def losses(self, pipe: Any, stream: LowStream, arm: AnchorArm) -> Iterator[Row]:
        """Picture by picture; the same noise for all arms."""
        size = self.size
        pool = Pool(pipe, arm, size.high, size.ratio, self.pictures, split="held-out")
        rng, kept = np.random.default_rng(SEED), np.array([False])
        with attach(pipe.transformer, *_systems(arm, size), layout=arm.layout(size)):
            for i in range(self.pictures):
                t = torch.tensor([(i + 0.5) / self.pictures])
                yield {"picture": i, "loss": flow_loss(stream, pool.example(np.array([i]), t, rng, kept)).item()}

    def samples(self, pipe: Any, stream: LowStream, arm: AnchorArm) -> Iterator[Row]:
        """Caption by caption; the small pictures are the same for all arms."""
        stages = Stages(
            low=square(PIXELS * self.size.low), high=square(PIXELS * self.size.high), steps=self.steps,
            high_steps=self.steps, start="noise", text_tokens=TEXT, scaled=arm.scaled, anchor=arm.anchor,
        )  # fmt: skip
        system = arm.system(self.size.window)
        for i, wanted in enumerate(prompts(self.captions, seed=SEED, count=2, split="held-out")):
            drawn = two_stages(pipe, stream, system, [wanted.text], stages, seed=SEED + i)
            low, high = (parse(_bytes(pictures[0])) for pictures in (drawn.low, drawn.high))
            found = judge(high, wanted)
            yield {
                "caption": i, "things": len(high.things), "count_error": abs(len(high.things) - len(low.things)),
                "layout_error": layout_error(low, high), "colour": found.colour, "shape": found.shape,
                "kept": float(found.all),
            }  # fmt: skip


def layout_error(low: Parsed, high: Parsed) -> float:
    """Mean distance, in sides of the picture, of things to their partners in the other picture, matched at least cost.

    A thing too many, too few or too far away counts as half a side. 0 where neither shows anything.
    """
    from scipy.optimize import linear_sum_assignment

    ours, theirs = ([(thing.x, thing.y) for thing in parsed.things] for parsed in (low, high))
    most = max(len(ours), len(theirs))
    costs = np.full((most, most), LOST)
    for i, (x, y) in enumerate(ours):
        for j, (u, v) in enumerate(theirs):
            costs[i, j] = min(np.hypot(x - u, y - v), LOST)
    return float(costs[linear_sum_assignment(costs)].mean()) if most else 0.0


def _systems(arm: AnchorArm, size: Sides) -> tuple[Any, ...]:
    system = arm.system(size.window)
    return () if system is None else (system,)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return (picture * 255).round().astype(np.uint8)
