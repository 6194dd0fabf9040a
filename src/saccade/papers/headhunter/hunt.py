"""HeadHunter on a pipeline: what SoftPAG draws with some heads weakened."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from saccade.attach import attach
from saccade.compare.arms import Setup, Visit
from saccade.compare.verb import draw
from saccade.core.site import Site
from saccade.papers.headhunter.system import Head, SoftPAG
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.runs.head_search import Heads, Query


def weakened_pictures(
    pipe: Any, system: SoftPAG | None = None, *, setup: Setup | None = None
) -> Callable[[Sequence[Query], Heads], Iterable[Any]]:
    """A generator for `saccade.runs.hunt_heads`: pictures (h w 3) in [0, 1] of prompts and seeds, some heads weakened.

    system  kind, u, w, scope, and layers weakened throughout; its heads are replaced; None for the defaults
    setup   steps, size, batch and further arguments of the pipeline; its seeds are not used
    """
    usual, setup = system or SoftPAG(), setup or Setup()

    def generate(queries: Sequence[Query], heads: Heads) -> Iterable[Any]:
        texts = tuple(str(getattr(prompt, "text", prompt)) for prompt, _ in queries)
        jobs = [(number, seed) for number, (_, seed) in enumerate(queries)]
        visits = [tuple(jobs[start : start + setup.batch]) for start in range(0, len(jobs), setup.batch)]
        with attach(pipe, replace(usual, heads=heads)), no_progress_bar(pipe):
            drawn = [draw(pipe, texts, Visit(jobs=some, first=True), setup) for some in visits]
        return [picture[0] for pictures in drawn for picture in pictures]

    return generate


def all_heads(pipe: Any) -> tuple[Head, ...]:
    """Every (layer, head) of self- and joint attention of a model or pipeline."""
    with attach(pipe) as run:
        return heads_at(run.sites)


def heads_at(sites: Iterable[Site]) -> tuple[Head, ...]:
    """The heads of these sites."""
    return tuple((site.layer, head) for site in sites if site.kind != "cross" for head in range(site.heads))
