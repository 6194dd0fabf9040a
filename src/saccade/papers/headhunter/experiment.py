"""Heads of the bundled model that a guidance should weaken: found on some captions, judged on others.

heads      every head alone, weakened and steered away from: the objective of each caption; the same for brightness
strengths  the best heads, one, three and more of them, and whole layers, at several strengths, on the same captions
held       what did best there against no guidance and classifier-free guidance, on other captions and seeds
large      the same on larger pictures
rounds     heads for brightness, found in rounds and at once
Expected, after the paper: heads of one layer differ more than layers do; a few heads do better than a whole layer;
rounds find better sets for a style than one round; steering keeps more captions than none.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from saccade.data.scenes import judge
from saccade.experiments import Bench, Experiment, Row
from saccade.papers.headhunter.hunt import weakened_pictures
from saccade.papers.headhunter.perturbations import Kind, Scope
from saccade.papers.headhunter.sections import CFG, CLAIMS, DENSE, FOUND, SECTIONS
from saccade.papers.headhunter.studio import Studio, brightness, promises_kept
from saccade.papers.headhunter.system import Head, SoftPAG
from saccade.runs.head_search import HeadSearch, Objective, hunt_heads


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is searched and judged.

    model        a pipeline of the scenes: a bundled name or a directory
    captions     of the search, its strengths too; from `search_seed` on; `round_captions` of that in rounds, which
                 draws four times as many pictures of each
    w, scope     of the search, at u = 1
    sizes        how many of the best heads are weakened together
    weights      strengths tried with these
    others       kinds and scopes tried with the most heads of `sizes`, and with every head, at the first strength
    seeds        of the judged captions, `held` for each, and of their noise
    side, large  pixels; steps and large_steps
    cfg          scale of classifier-free guidance
    """

    model: str = "scenes-flux"
    captions: int = 100
    search_seed: int = 101
    side: int = 64
    steps: int = 8
    w: float = 2.0
    kind: Kind = "identity"
    scope: Scope = "image_block"
    sizes: tuple[int, ...] = (1, 3)
    weights: tuple[float, ...] = (0.5, 1.0)
    others: tuple[tuple[Kind, Scope], ...] = (
        ("uniform", "image_block"),
        ("query_mean", "image_block"),
        ("identity", "all"),
    )
    seeds: tuple[int, ...] = (201, 202, 203, 204, 205, 206)
    held: int = 17
    large: int = 128
    large_steps: int = 6
    cfg: float = 2.0
    round_captions: int = 12
    rounds: int = 2
    best: int = 1


EXPERIMENT = Experiment(
    name="headhunter",
    settings=Settings(),
    quick=Settings(
        captions=1, steps=1, side=48, sizes=(1,), weights=(1.0,), seeds=(201,), held=1, large=48, large_steps=1,
        round_captions=1, rounds=2, best=1,
    ),
    hours=0.25,
    sections=SECTIONS,
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part()
def heads(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each head and caption, and for each caption without guidance."""
    said, studio = bench.settings, opened(bench.settings)
    asked = studio.queries(said.captions, said.search_seed)
    yield from ({"layer": None, "head": None, "caption": i, "score": x} for i, x in enumerate(studio.scores(asked)))
    found = search(bench, studio, "captions", promises_kept, said.captions, best=max(said.sizes))
    for (layer, head), values in found.values[0].items():
        yield from ({"layer": layer, "head": head, "caption": i, "score": x} for i, x in enumerate(values))


@EXPERIMENT.part()
def strengths(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm and caption of the search."""
    said, studio = bench.settings, opened(bench.settings)
    asked = studio.queries(said.captions, said.search_seed)
    best = search(bench, studio, "captions", promises_kept, said.captions, best=max(said.sizes)).chosen
    arms = tried(said, best, sorted({layer for layer, _ in studio.heads()}))
    for done, arm in enumerate(arms):
        bench.progress(done, len(arms), f"{arm['heads'] or arm['layers']}, w {arm['w']}")
        for caption, score in enumerate(studio.scores(asked, arm)):
            yield {"arm": name_of(arm), "caption": caption, "score": score, **arm}


def tried(said: Settings, best: Sequence[Head], layers: Sequence[int]) -> list[dict[str, Any]]:
    """What is weakened, how, and how strongly it is steered away from."""
    usual: dict[str, Any] = {"layers": (), "kind": said.kind, "scope": said.scope}
    first = said.weights[0]
    arms = [{**usual, "heads": tuple(best[:size]), "w": w} for size in said.sizes for w in said.weights]
    arms += [{**usual, "heads": (), "layers": (layer,), "w": first} for layer in layers]
    for kind, scope in said.others:
        arms.append({**usual, "heads": tuple(best), "w": first, "kind": kind, "scope": scope})
        arms.append({**usual, "heads": (), "layers": tuple(layers), "w": first, "kind": kind, "scope": scope})
    return arms


@EXPERIMENT.part(per_seed=True)
def held(bench: Bench[Settings]) -> Iterable[Row]:
    """Rows of captions that the search has not seen."""
    return judged(bench, bench.settings.side, bench.settings.steps, (DENSE, FOUND, CFG))


@EXPERIMENT.part(per_seed=True)
def large(bench: Bench[Settings]) -> Iterable[Row]:
    """The same on larger pictures."""
    return judged(bench, bench.settings.large, bench.settings.large_steps, (DENSE, FOUND))


@EXPERIMENT.part()
def rounds(bench: Bench[Settings]) -> Iterable[Row]:
    """Brightness, by captions, of as many heads found in rounds and at once."""
    said, studio = bench.settings, opened(bench.settings)
    asked, size = studio.queries(said.round_captions, said.search_seed), said.best * said.rounds
    step = search(bench, studio, "brightness", brightness, said.round_captions, best=said.best, rounds=said.rounds)
    once = search(bench, studio, "brightness", brightness, said.round_captions, best=size)
    for arm, chosen in (("in rounds", step.chosen), ("at once", once.chosen)):
        values = studio.scores(asked, {"heads": chosen, "w": said.w}, brightness)
        yield from ({"arm": arm, "heads": chosen, "caption": i, "score": x} for i, x in enumerate(values))
    plain = studio.scores(asked, objective=brightness)
    yield from ({"arm": DENSE, "heads": (), "caption": i, "score": x} for i, x in enumerate(plain))


def opened(said: Settings) -> Studio:
    """The model, and how the search weakens it."""
    usual = SoftPAG(kind=said.kind, scope=said.scope, w=said.w)
    return Studio(model=said.model, side=said.side, steps=said.steps, usual=usual)


def search(
    bench: Bench[Settings], studio: Studio, name: str, objective: Objective, count: int, *, best: int, rounds: int = 1
) -> HeadSearch:
    """A search kept beside the parts, so that one that was stopped goes on and others read it."""
    said = bench.settings
    return hunt_heads(
        weakened_pictures(studio.pipe, studio.system(), setup=studio.setup(count)), objective,
        studio.queries(count, said.search_seed), studio.heads(), best=best, rounds=rounds,
        cache=bench.work.parent / f"{name}.search.json", about=f"{name}: {said.kind}, {said.scope}, w {said.w}",
        progress=bench.progress,
    )  # fmt: skip


def judged(bench: Bench[Settings], side: int, steps: int, arms: Sequence[str]) -> Iterator[Row]:
    """Captions kept of a seed's captions, by arm."""
    said, studio = bench.settings, opened(bench.settings)
    asked, best = studio.queries(said.held, bench.seed), chosen(bench)
    for done, arm in enumerate(arms):
        bench.progress(done, len(arms), arm)
        own = {"true_cfg_scale": said.cfg, "negative_prompt": [""] * len(asked)} if arm == CFG else {}
        options = {name: best[name] for name in ("w", "kind", "scope")} | {"layers": tuple(best["layers"])}
        system = studio.system(**options) if arm == FOUND else studio.system()
        generate = weakened_pictures(studio.pipe, system, setup=studio.setup(len(asked), side, steps, **own))
        made = generate(asked, tuple(map(tuple, best["heads"])) if arm == FOUND else ())
        for caption, (picture, (prompt, _)) in enumerate(zip(made, asked, strict=True)):
            kept, score = float(judge(picture, prompt).all), promises_kept(picture, prompt)
            yield {"arm": arm, "caption": 1000 * bench.seed + caption, "kept": kept, "score": score}


def chosen(bench: Bench[Settings]) -> Row:
    """The arm that did best on the captions of the search.

    Raises ValueError where the part that says so has not run.
    """
    file = bench.work.parent / "strengths.json"
    if not file.exists():
        raise ValueError(f"{file} is not there; run the parts heads and strengths first")
    rows: list[Row] = json.loads(file.read_text())["rows"]
    means = {arm: fmean(r["score"] for r in rows if r["arm"] == arm) for arm in dict.fromkeys(r["arm"] for r in rows)}
    return next(row for row in rows if row["arm"] == max(means, key=lambda arm: means[arm]))


def name_of(arm: dict[str, Any]) -> str:
    """Of a row."""
    heads, layers = arm["heads"], arm["layers"]
    some = f"best {len(heads)}" if not layers else "every layer" if len(layers) > 1 else f"layer {layers[0]}"
    return f"{some}, {arm['kind']}, {arm['scope']}, w {arm['w']:g}"
