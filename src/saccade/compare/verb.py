"""Run a pipeline under several stacks of systems, with the same prompts, seeds and noise, and measure them together.

Arms are interleaved: every visit (a batch of prompts) runs all arms, in an order that turns from visit to visit, so
that a machine that slows down slows all of them. The reference is the pipeline as it is. The first arm is dense
attention by a second kernel: how far two exact kernels lie apart is the floor under every fidelity.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from math import isnan
from typing import Any

import torch

from saccade.attach import attach
from saccade.compare.arms import Candidate, Setup, Systems, Visit, candidates, to_spec, turned, visits
from saccade.compare.comparison import ArmResult, Comparison, Drawn, SiteUse
from saccade.compare.judging import Asked, text_of, unjudgeable, verdict
from saccade.core.errors import SaccadeError
from saccade.metrics import Measured, Picture, fidelity, measure, perceptual
from saccade.metrics.machine import device_name, versions
from saccade.metrics.output import pictures
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.run.report import mean_density

Progress = Callable[[int, int, str], None]  # (runs done, runs in all, what runs now)
WARM_STEPS = 4
TIMED_VISITS = 3  # visits with a second pass for attention time, where timing it would disturb the first


@dataclass(kw_only=True, eq=False)
class Taken:
    """What an arm's visits gave so far."""

    seconds: list[float] = field(default_factory=list)
    attention: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    sites: list[SiteUse] = field(default_factory=list)
    drawn: dict[tuple[int, int], Picture] = field(default_factory=dict)


def compare(
    pipe: Any,
    systems: Systems,
    prompts: Sequence[Asked],
    *,
    setup: Setup | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> Comparison:
    """Draw every prompt with every seed under every stack, and measure time, memory, fidelity and kept promises.

    pipe      a diffusers pipeline
    systems   one arm each, by name in a mapping; a tuple is a stack
    prompts   texts, or prompts of `saccade.data.scenes`, whose pictures or videos are judged by what they promise
    progress  called before each run
    A stack the pipeline refuses is left out, with the reason among the remarks; SaccadeError where none is left.
    Raises ValueError where no prompt is given.
    """
    setup = setup or Setup()
    if not prompts:
        raise ValueError("prompts=() leaves nothing to draw; give at least one")
    texts = tuple(map(text_of, prompts))
    plan = visits(len(prompts), setup)
    arms = candidates(systems, setup.floor)
    step = _Progress(progress, len(arms) * (len(plan) + 1))
    with no_progress_bar(pipe):
        arms, remarks = _warm(pipe, arms, texts, plan[0], setup, step)
        step.total = step.done + len(arms) * len(plan)
        taken = {arm.label: Taken() for arm in arms}
        for number, visit in enumerate(plan):
            for arm in turned(arms, number):
                step(arm.label)
                _run(pipe, arm, texts, visit, setup, taken[arm.label], number)
    return _gather(pipe, arms, taken, prompts, setup, remarks, name)


def _warm(
    pipe: Any, arms: tuple[Candidate, ...], texts: tuple[str, ...], visit: Visit, setup: Setup, step: "_Progress"
) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """Run every arm once, unmeasured, so that kernels are compiled; leave out those that are refused."""
    few = replace(setup, steps=min(setup.steps or WARM_STEPS, WARM_STEPS))
    kept, remarks = [], []
    for arm in arms:
        step(f"warm up {arm.label}")
        try:
            with attach(pipe, *arm.stack):
                draw(pipe, texts, visit, few)
            kept.append(arm)
        except (SaccadeError, ValueError) as error:
            if arm.role == "reference":
                raise
            remarks.append(f"{arm.label} was left out: {error}")
    if not any(arm.role == "system" for arm in kept) and any(arm.role == "system" for arm in arms):
        raise SaccadeError("\n".join(("no system could be attached", *remarks)))
    return tuple(kept), tuple(remarks)


def _run(
    pipe: Any, arm: Candidate, texts: tuple[str, ...], visit: Visit, setup: Setup, taken: Taken, number: int
) -> None:
    eager = not hasattr(getattr(pipe, "transformer", None), "_orig_mod")  # a compiled model is timed as a whole only
    apart = torch.device(pipe.device).type != "cpu"  # there, timing a site waits for the device
    got, sites = _measured(pipe, arm, texts, visit, setup, timing=eager and not apart)
    if eager and apart and number < TIMED_VISITS:
        _, sites = _measured(pipe, arm, texts, visit, setup, timing=True)
    taken.seconds.append(got.seconds)
    taken.peaks += [] if got.peak_bytes is None else [got.peak_bytes]
    taken.drawn.update(zip(visit.jobs, got.result, strict=True) if visit.first else ())
    taken.sites = [_plus(a, b) for a, b in zip(taken.sites, sites, strict=True)] if taken.sites else sites
    if timed := [site.seconds for site in sites if site.seconds is not None]:
        taken.attention.append(sum(timed))


def _measured(
    pipe: Any, arm: Candidate, texts: tuple[str, ...], visit: Visit, setup: Setup, *, timing: bool
) -> tuple[Measured[list[Picture]], list[SiteUse]]:
    with attach(pipe, *arm.stack, timing=timing) as run:
        got = measure(lambda: draw(pipe, texts, visit, setup), pipe.device)
        return got, [_site(site) for site in run.report().sites]


def draw(pipe: Any, texts: tuple[str, ...], visit: Visit, setup: Setup) -> list[Picture]:
    """One call of the pipeline; each picture's noise comes from its own seed, whatever else is in the batch."""
    given = {"num_inference_steps": setup.steps, "height": setup.height, "width": setup.width, **setup.options}
    noise = [torch.Generator("cpu").manual_seed(seed) for _, seed in visit.jobs]
    output = pipe(
        prompt=[texts[prompt] for prompt, _ in visit.jobs],
        generator=noise,
        output_type="np",
        **{key: value for key, value in given.items() if value is not None},
    )
    return pictures(output)


def _gather(
    pipe: Any,
    arms: tuple[Candidate, ...],
    taken: Mapping[str, Taken],
    prompts: Sequence[Asked],
    setup: Setup,
    remarks: tuple[str, ...],
    name: str | None,
) -> Comparison:
    lpips = perceptual()
    dense = next(taken[arm.label].drawn for arm in arms if arm.role == "reference")

    unjudged = unjudgeable(next(iter(dense.values())), prompts)
    judged = list(map(text_of, prompts)) if unjudged else prompts

    def drawn(arm: Candidate) -> Iterator[Drawn]:
        for (prompt, seed), picture in taken[arm.label].drawn.items():
            against = dense[prompt, seed]
            score = None if arm.role == "reference" else fidelity(picture, against, lpips=lpips.judge)
            yield Drawn(
                prompt=prompt, seed=seed, picture=picture, fidelity=score, verdict=verdict(picture, judged[prompt])
            )

    return Comparison(
        model=name or type(pipe).__name__,
        device=device_name(pipe.device),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        prompts=tuple(map(text_of, prompts)),
        seeds=setup.seeds,
        arms=tuple(_arm(arm, taken[arm.label], tuple(drawn(arm))) for arm in arms),
        settings=asdict(setup),
        versions=versions(),
        remarks=(*remarks, *filter(None, (lpips.reason, unjudged))),
    )


def _arm(arm: Candidate, taken: Taken, drawn: tuple[Drawn, ...]) -> ArmResult:
    return ArmResult(
        label=arm.label,
        role=arm.role,
        stack=tuple(map(to_spec, arm.stack)),
        seconds=tuple(taken.seconds),
        attention=tuple(taken.attention),
        peak_bytes=max(taken.peaks, default=None),
        sites=tuple(taken.sites),
        drawn=drawn,
    )


def _site(site: Any) -> SiteUse:
    why = tuple(f"{kernel}: {'; '.join(reasons)}" for kernel, reasons in site.refused.items())
    return SiteUse(
        name=site.name,
        kind=site.kind,
        systems=site.systems,
        forwards=site.forwards,
        density=site.density,
        kernel=site.kernel,
        calls=site.calls,
        seconds=site.seconds,
        reasons=(*why, *filter(None, (site.note,))),
    )


def _plus(a: SiteUse, b: SiteUse) -> SiteUse:
    timed = [site.seconds for site in (a, b) if site.seconds is not None]
    density = mean_density((site.forwards, site.density) for site in (a, b))
    return replace(
        b,
        calls=a.calls + b.calls,
        forwards=a.forwards + b.forwards,
        density=None if isnan(density) else density,
        seconds=sum(timed) if timed else None,
    )


@dataclass(eq=False)
class _Progress:
    """Counts the runs for `progress`."""

    progress: Progress | None
    total: int
    done: int = 0

    def __call__(self, what: str) -> None:
        if self.progress is not None:
            self.progress(self.done, self.total, what)
        self.done += 1
