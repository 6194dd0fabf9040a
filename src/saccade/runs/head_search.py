"""Which attention heads serve an objective when something is done to them: HeadHunter's search, over any generator.

    S = (), pool = all heads
    for each round: score every head of the pool by the objective of what S and that head together give, averaged over
    the same prompts and seeds; the best join S.

Prefixes of S are usable sets of heads. Cost: M generations for each head of each round's pool. Source: Ahn et al. 2025,
arXiv 2506.10978, algorithm 1.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any

Head = tuple[int, int]  # layer, head
Query = tuple[Any, int]  # prompt, seed
Heads = tuple[Head, ...]
Generate = Callable[[Sequence[Query], Heads], Iterable[Any]]
Objective = Callable[[Any, Any], float]
Progress = Callable[[int, int, str], None]  # (heads scored, in all, what runs now)


@dataclass(frozen=True, kw_only=True)
class HeadSearch:
    """What was found.

    chosen  heads in the order they were selected
    scores  for each round the mean objective of every head of its pool, with those chosen before
    values  the same before averaging, a number for each query
    """

    chosen: Heads
    scores: tuple[Mapping[Head, float], ...]
    values: tuple[Mapping[Head, tuple[float, ...]], ...]


def hunt_heads(
    generate: Generate,
    objective: Objective,
    queries: Sequence[Query],
    heads: Sequence[Head],
    *,
    best: int,
    rounds: int = 1,
    cache: str | Path | None = None,
    about: str = "",
    progress: Progress | None = None,
) -> HeadSearch:
    """Select `best` heads in each of `rounds` rounds.

    generate   answers queries with outputs, one each, while something is done to the heads it is given
    objective  of an output and its prompt, a number; higher is better
    queries    pairs of prompt and seed, the same for every head, else their ranking is noise
    heads      all candidates, (layer, head)
    cache      a JSON file of values, written after every head; a search that was stopped goes on from it
    about      what the values depend on beside queries and heads (model, strength, steps), kept in the cache
    Equal scores go by layer, then head. Raises ValueError for options out of range, an objective that is no number,
    and a cache of other queries, or about something else.
    """
    _check(queries, heads, best, rounds)
    kept = _Cache(Path(cache), _identity(queries, about)) if cache is not None else None
    total, done = sum(len(heads) - best * r for r in range(rounds)), 0
    chosen: Heads = ()
    found: list[dict[Head, tuple[float, ...]]] = []
    for number in range(rounds):
        pool = sorted(head for head in heads if head not in chosen)
        found.append({})
        for head in pool:
            if progress is not None:
                progress(done, total, f"round {number + 1}, layer {head[0]}, head {head[1]}")
            found[-1][head] = _scored(generate, objective, queries, (*chosen, head), kept)
            done += 1
        means = {head: fmean(values) for head, values in found[-1].items()}
        chosen += tuple(sorted(pool, key=lambda head: -means[head])[:best])
    scores = tuple({head: fmean(values) for head, values in one.items()} for one in found)
    return HeadSearch(chosen=chosen, scores=scores, values=tuple(found))


def _scored(
    generate: Generate, objective: Objective, queries: Sequence[Query], heads: Heads, kept: "_Cache | None"
) -> tuple[float, ...]:
    if kept is not None and (known := kept.values.get(_key(heads))) is not None:
        return tuple(known)
    outputs = list(generate(queries, heads))
    if len(outputs) != len(queries):
        raise ValueError(f"generate gave {len(outputs)} outputs for {len(queries)} queries; it must give one each")
    found = tuple(_number(objective, out, prompt, heads[-1]) for out, (prompt, _) in zip(outputs, queries, strict=True))
    if kept is not None:
        kept.put(_key(heads), found)
    return found


def _number(objective: Objective, output: Any, prompt: Any, head: Head) -> float:
    said = objective(output, prompt)
    try:
        value = float(said)
    except (TypeError, ValueError, RuntimeError):
        value = float("nan")
    if isnan(value):
        raise ValueError(
            f"the objective gave {said!r:.60} for prompt '{_text(prompt)}' with layer {head[0]}, head {head[1]}; it "
            "must be one number"
        )
    return value


@dataclass(eq=False)
class _Cache:
    """Values by heads, on disk."""

    path: Path
    identity: dict[str, Any]
    values: dict[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.exists():
            return
        found = json.loads(self.path.read_text(encoding="utf-8"))
        if found["identity"] != self.identity:
            raise ValueError(f"cache='{self.path}' holds a search of other queries or settings; name another file")
        self.values = found["values"]

    def put(self, key: str, values: Sequence[float]) -> None:
        self.values[key] = values
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(json.dumps({"identity": self.identity, "values": self.values}), encoding="utf-8")
        os.replace(beside, self.path)


def _key(heads: Heads) -> str:
    """The heads chosen before, in whatever order, and the one that is tried."""
    return " ".join(f"{layer}.{head}" for layer, head in (*sorted(heads[:-1]), heads[-1]))


def _identity(queries: Sequence[Query], about: str) -> dict[str, Any]:
    return {"about": about, "queries": [[_text(prompt), seed] for prompt, seed in queries]}


def _text(prompt: Any) -> str:
    return str(getattr(prompt, "text", prompt))


def _check(queries: Sequence[Query], heads: Sequence[Head], best: int, rounds: int) -> None:
    if not queries:
        raise ValueError("queries=() leave nothing to score by; give at least one (prompt, seed)")
    if best < 1 or rounds < 1:
        raise ValueError(f"best={best} and rounds={rounds} must be at least 1")
    if len(set(heads)) != len(heads):
        raise ValueError("heads hold one twice; name every (layer, head) once")
    if best * rounds > len(heads):
        raise ValueError(f"best={best} heads in rounds={rounds} are more than the {len(heads)} there are")
