"""Passes over the model for the windows of a long video, counted, and its frames."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.metrics.fidelity import Picture
from saccade.multi_prompt.request import Request
from saccade.pipelines.video import VideoParts
from saccade.runs.latent_blending import rising_guidance, sample_windows
from saccade.runs.sde_solver import sde_dpmpp_2m
from saccade.runs.windows import pairs, singles

Condition = tuple[Tensor, Tensor]  # the conditional and the unconditional embedding (p c) of a window


@dataclass(kw_only=True, eq=False)
class Passes:
    """One setting for all seeds.

    run     the handle of the attachment, None where nothing is attached
    paired  windows go in pairs, as source and target
    """

    parts: VideoParts
    asked: Request
    run: Any
    paired: bool
    progress: Callable[[int, int, str], None] | None
    done: int = 0
    history: dict[str, Any] = field(default_factory=dict)

    @property
    def visits(self) -> tuple[tuple[int, ...], ...]:
        """The windows of each pass."""
        return pairs(self.asked.windows) if self.paired else singles(self.asked.windows)

    def video(self, seed: int) -> Picture:
        """A video (t h w 3) in [0, 1]."""
        parts, asked, windows = self.parts, self.asked, self.asked.windows
        generator = torch.Generator("cpu").manual_seed(seed)
        self.history = {"generator": generator}
        parts.begin(asked.steps)
        noise = parts.noise(windows.frames, generator)
        latents = sample_windows(
            self._clean, noise, windows, self._conditions(), self._advance, steps=asked.steps, visits=self.visits
        )
        spans = [windows.span(w) for w in range(windows.count)] if asked.isolated else [slice(0, windows.frames)]
        return np.concatenate([parts.decode(latents[span]) for span in spans])

    def segments(self) -> tuple[slice, ...]:
        """The frames of each prompt."""
        runs, parts = self.asked.windows.segments(), self.parts
        if not self.asked.isolated:
            return tuple(parts.shown(run) for run in runs)
        ends = list(accumulate((parts.shown(slice(0, run.stop - run.start)).stop for run in runs), initial=0))
        return tuple(slice(a, b) for a, b in zip(ends, ends[1:], strict=False))

    def _conditions(self) -> list[Condition]:
        windows, asked = self.asked.windows, self.asked
        prompts = windows.conditions(self.parts.embeddings(asked.prompts))
        negatives = windows.unconditions(self.parts.embeddings(asked.negatives))
        return list(zip(prompts, negatives, strict=True))

    def _clean(
        self, x: Float[Tensor, "r t c h w"], conditions: list[Condition], windows: tuple[int, ...], step: int
    ) -> Float[Tensor, "r t c h w"]:
        """What the windows would be without noise, after guidance."""
        if self.run is not None:
            self.run.part(f"windows {', '.join(map(str, windows))}")
        yes, no = (torch.stack(side) for side in zip(*conditions, strict=True))
        found = self._guided(x, yes, no, step) if self.asked.guided else self.parts.predict(x, yes, step)
        self._tell()
        return self.parts.clean(found, x, step)

    def _guided(self, x: Tensor, yes: Tensor, no: Tensor, step: int) -> Tensor:
        parts, weight = self.parts, self._weight(step)
        if parts.stacked:
            without, given = parts.predict(torch.cat((x, x)), torch.cat((no, yes)), step).chunk(2)
        else:
            given, without = parts.predict(x, yes, step), parts.predict(x, no, step)
        return without + weight * (given - without)

    def _weight(self, step: int) -> float:
        asked = self.asked
        if asked.schedule == "constant":
            return asked.guidance
        index = "step" if asked.schedule == "rising" else "official"
        time = self.parts.timestep(step)
        return rising_guidance(step, asked.steps, scale=asked.guidance, index=index, timestep=time)

    def _advance(self, x: Tensor, clean: Tensor, step: int) -> Tensor:
        if self.asked.solver == "pipeline":
            return self.parts.advance(clean, x, step, self.history)
        alpha_before = self.parts.level(step - 1)[0] if step else None
        alpha, alpha_next = (self.parts.level(i)[0] for i in (step, step + 1))
        generator = self.history["generator"]
        noise = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
        before, self.history["clean"] = self.history.get("clean"), clean
        return sde_dpmpp_2m(
            x, clean, noise, alpha=alpha, alpha_next=alpha_next, before=before, alpha_before=alpha_before
        )

    def _tell(self) -> None:
        self.done += 1
        if self.progress is not None:
            total = self.asked.steps * len(self.visits) * len(self.asked.seeds)
            self.progress(self.done, total, "multi_prompt")
