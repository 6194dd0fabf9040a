"""The bundled model under guidance, and what its pictures are scored by."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import isnan
from statistics import fmean
from typing import Any

import numpy as np

from saccade.compare.arms import Setup
from saccade.data.scenes import Prompt, judge, prompts
from saccade.papers.headhunter.hunt import all_heads, weakened_pictures
from saccade.papers.headhunter.system import Head, SoftPAG
from saccade.pipelines.shared import shared_pipeline
from saccade.runs.head_search import Objective

TEXT = 32  # text tokens


@dataclass(frozen=True)
class Studio:
    """The bundled model, asked for pictures under guidance."""

    model: str
    side: int
    steps: int
    usual: SoftPAG

    @property
    def pipe(self) -> Any:
        """The pipeline, loaded once."""
        return shared_pipeline(self.model)

    def heads(self) -> tuple[Head, ...]:
        """All of the model's."""
        return all_heads(self.pipe)

    def queries(self, count: int, seed: int) -> list[tuple[Prompt, int]]:
        """Held-out captions with a noise for each."""
        return [(p, 1000 * seed + i) for i, p in enumerate(prompts(count, seed=seed, split="held-out"))]

    def system(self, **options: Any) -> SoftPAG:
        """As the search has it, with some options changed."""
        return replace(self.usual, **options)

    def setup(self, count: int, side: int | None = None, steps: int | None = None, **more: Any) -> Setup:
        """Size and steps of a call."""
        side = side or self.side
        options = {"max_sequence_length": TEXT, **more}
        return Setup(steps=steps or self.steps, height=side, width=side, batch=count, options=options)

    def scores(
        self, asked: Sequence[tuple[Prompt, int]], arm: dict[str, Any] | None = None, objective: Objective | None = None
    ) -> list[float]:
        """The objective of each picture, without guidance where no arm is given."""
        arm, judge_by = arm or {"heads": ()}, objective or promises_kept
        system = self.system(**{name: value for name, value in arm.items() if name != "heads"})
        made = weakened_pictures(self.pipe, system, setup=self.setup(len(asked)))(asked, tuple(arm["heads"]))
        return [judge_by(picture, prompt) for picture, (prompt, _) in zip(made, asked, strict=True)]


def promises_kept(picture: Any, prompt: Prompt) -> float:
    """1 for a caption kept whole, and the mean share of its promises kept: from 0 to 2."""
    verdict = judge(picture, prompt)
    shares = [float(x) for x in asdict(verdict).values() if not isnan(x)]
    return float(verdict.all) + fmean(shares)


def brightness(picture: Any, prompt: Prompt) -> float:
    """The mean of a picture."""
    return float(np.mean(picture))
