"""A video of several prompts, longer than one call of its pipeline makes: windows over one latent, a pass each step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.metrics.fidelity import Picture
from saccade.pipelines.video import Texts, VideoParts
from saccade.runs.latent_blending import rising_guidance, sample_windows
from saccade.runs.sde_solver import sde_dpmpp_2m
from saccade.runs.windows import Windows, pairs, singles

GuidanceSchedule = Literal["constant", "rising", "official"]
Solver = Literal["pipeline", "sde_dpmpp_2m"]
Condition = tuple[Texts, Texts]  # what the conditional and the unconditional branch read in a window


@dataclass(frozen=True, kw_only=True, eq=False)
class LongVideo:
    """One setting for videos of any seed.

    prompts, negatives  one for each prompt of the windows
    paired    windows go in pairs, rows of a source and a target, and the run hears which; else one at a time
    guidance  scale; `schedule` says whether it rises from 1 to 1 + guidance, by sampler steps or by training timesteps
    solver    the pipeline's scheduler, or ours for models of alphas
    run       the handle of what is attached, None where nothing is
    tell      called after each pass
    """

    parts: VideoParts
    windows: Windows
    prompts: tuple[str, ...]
    negatives: tuple[str, ...]
    steps: int
    paired: bool = True
    guidance: float = 1.0
    schedule: GuidanceSchedule = "constant"
    solver: Solver = "pipeline"
    run: Any = None
    tell: Callable[[], None] = lambda: None

    @property
    def visits(self) -> tuple[tuple[int, ...], ...]:
        """The windows of each pass of a step."""
        return pairs(self.windows) if self.paired else singles(self.windows)

    @property
    def guided(self) -> bool:
        """Whether there is an unconditional branch."""
        return self.schedule != "constant" or self.guidance != 1

    def video(self, seed: int) -> Picture:
        """A video (t h w 3) in [0, 1]; windows side by side are decoded each by itself."""
        parts, windows = self.parts, self.windows
        state = _State(generator=torch.Generator("cpu").manual_seed(seed))
        parts.begin(self.steps)
        latents = sample_windows(
            self._clean, parts.noise(windows.frames, state.generator), windows, self._conditions,
            lambda x, clean, step: self._advance(x, clean, step, state), steps=self.steps, visits=self.visits,
        )  # fmt: skip
        whole = [slice(0, windows.frames)]
        spans = whole if windows.overlap else [windows.span(w) for w in range(windows.count)]
        return np.concatenate([parts.decode(latents[span]) for span in spans])

    def segments(self) -> tuple[slice, ...]:
        """The frames of each prompt."""
        runs, shown = self.windows.segments(), self.parts.shown
        if self.windows.overlap:
            return tuple(shown(run) for run in runs)
        tile = shown(slice(0, self.windows.tile)).stop
        ends = accumulate(((run.stop - run.start) // self.windows.tile * tile for run in runs), initial=0)
        return tuple(slice(a, b) for a, b in pairwise(ends))

    @cached_property
    def _conditions(self) -> list[Condition]:
        given = _each({name: self.windows.conditions(x) for name, x in self.parts.texts(self.prompts).items()})
        without = _each({name: self.windows.unconditions(x) for name, x in self.parts.texts(self.negatives).items()})
        return list(zip(given, without, strict=True))

    def _clean(
        self, x: Float[Tensor, "r t c h w"], conditions: list[Condition], windows: tuple[int, ...], step: int
    ) -> Float[Tensor, "r t c h w"]:
        """What the windows would be without noise, after guidance."""
        if self.run is not None:
            self.run.part(f"windows {', '.join(map(str, windows))}")
        given, without = (_together(torch.stack, side) for side in zip(*conditions, strict=True))
        found = self._guided(x, given, without, step) if self.guided else self.parts.predict(x, given, step)
        self.tell()
        return self.parts.clean(found, x, step)

    def _guided(self, x: Tensor, given: Texts, without: Texts, step: int) -> Tensor:
        parts, weight = self.parts, self._weight(step)
        if parts.stacked:
            no, yes = parts.predict(torch.cat((x, x)), _together(torch.cat, (without, given)), step).chunk(2)
        else:
            yes, no = parts.predict(x, given, step), parts.predict(x, without, step)
        return no + weight * (yes - no)

    def _weight(self, step: int) -> float:
        if self.schedule == "constant":
            return self.guidance
        index = "step" if self.schedule == "rising" else "official"
        time = self.parts.timestep(step)
        return rising_guidance(step, self.steps, scale=self.guidance, index=index, timestep=time)

    def _advance(self, x: Tensor, clean: Tensor, step: int, state: "_State") -> Tensor:
        if self.solver == "pipeline":
            return self.parts.advance(clean, x, step, state.kept, state.generator)
        alpha_before = self.parts.level(step - 1)[0] if step else None
        alpha, alpha_next = (self.parts.level(i)[0] for i in (step, step + 1))
        noise = torch.randn(x.shape, generator=state.generator).to(x)
        before, state.kept["clean"] = state.kept.get("clean"), clean
        return sde_dpmpp_2m(
            x, clean, noise, alpha=alpha, alpha_next=alpha_next, before=before, alpha_before=alpha_before
        )


def _each(texts: Texts) -> list[Texts]:
    """The rows of some texts one by one."""
    return [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]


def _together(join: Callable[[list[Tensor]], Tensor], rows: Sequence[Texts]) -> Texts:
    """Some texts joined, argument by argument."""
    return {name: join([row[name] for row in rows]) for name in rows[0]}


@dataclass(kw_only=True, eq=False)
class _State:
    """Of one video: where its noise comes from, and what its solver keeps."""

    generator: torch.Generator
    kept: dict[str, Any] = field(default_factory=dict)
