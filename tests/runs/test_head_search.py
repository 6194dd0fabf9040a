"""The search for heads: over an objective that is known, counted, stopped and resumed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.runs import hunt_heads
from saccade.runs.head_search import Head, Heads, Query

HEADS = tuple((layer, head) for layer in range(3) for head in range(4))
QUERIES = (("a", 0), ("b", 1), ("a", 2))


class Counted:
    """Outputs are the heads and the query; counts generations."""

    def __init__(self, stop: int | None = None) -> None:
        self.made, self.stop = 0, stop

    def __call__(self, queries: Sequence[Query], heads: Heads) -> list[Any]:
        if self.stop is not None and self.made >= self.stop:
            raise KeyboardInterrupt
        self.made += len(queries)
        return [(heads, prompt, seed) for prompt, seed in queries]


def worth(head: Head) -> float:
    return float((7 * head[0] + 5 * head[1]) % 11)


def additive(output: Any, prompt: str) -> float:
    heads, said, seed = output
    assert said == prompt
    return sum(map(worth, heads)) + 0.1 * seed


RANKED = tuple(sorted(HEADS, key=lambda head: (-worth(head), head)))


@given(best=st.integers(1, 4), rounds=st.integers(1, 3))
def test_an_additive_objective_gives_the_top_heads_in_order_at_the_exact_cost(best: int, rounds: int) -> None:
    generate = Counted()
    found = hunt_heads(generate, additive, QUERIES, HEADS, best=best, rounds=rounds)
    assert found.chosen == RANKED[: best * rounds]
    assert generate.made == len(QUERIES) * sum(len(HEADS) - best * r for r in range(rounds))
    assert len(set(found.chosen)) == len(found.chosen)
    for number, scores in enumerate(found.scores):
        assert set(scores) == set(HEADS) - set(found.chosen[: best * number])


def test_one_round_is_one_ranking_and_its_prefixes_fall_in_score() -> None:
    found = hunt_heads(Counted(), additive, QUERIES, HEADS, best=5)
    scores = [found.scores[0][head] for head in found.chosen]
    assert scores == sorted(scores, reverse=True)
    assert found.scores[0][(0, 1)] == pytest.approx(worth((0, 1)) + 0.1)  # seeds 0, 1, 2
    assert found.chosen[:2] == hunt_heads(Counted(), additive, QUERIES, HEADS, best=2).chosen


def test_rounds_see_what_was_chosen_before() -> None:
    """Two heads that are only good together are found in rounds."""

    def pairs(output: Any, prompt: str) -> float:
        heads = set(output[0])
        return 1.0 * ((0, 0) in heads) + 5.0 * ({(0, 0), (2, 3)} <= heads) + 0.5 * ((1, 1) in heads)

    assert hunt_heads(Counted(), pairs, QUERIES, HEADS, best=1, rounds=2).chosen == ((0, 0), (2, 3))
    assert hunt_heads(Counted(), pairs, QUERIES, HEADS, best=2).chosen == ((0, 0), (1, 1))


def test_a_search_that_was_stopped_goes_on(tmp_path: Path) -> None:
    cache, options = tmp_path / "new" / "cache.json", {"best": 2, "rounds": 2, "about": "w 3"}
    stopped = Counted(stop=15)
    with pytest.raises(KeyboardInterrupt):
        hunt_heads(stopped, additive, QUERIES, HEADS, cache=cache, **options)
    again = Counted()
    found = hunt_heads(again, additive, QUERIES, HEADS, cache=cache, **options)
    assert found == hunt_heads(Counted(), additive, QUERIES, HEADS, **options)
    assert stopped.made + again.made == 3 * (12 + 10)
    third = Counted()
    assert hunt_heads(third, additive, QUERIES, HEADS, cache=cache, **options) == found and third.made == 0
    assert len(json.loads(cache.read_text())["values"]) == 22


def test_progress_is_reported() -> None:
    said: list[tuple[int, int, str]] = []
    hunt_heads(
        Counted(), additive, QUERIES, HEADS[:3], best=1, rounds=2, progress=lambda *reported: said.append(reported)
    )
    assert [reported[:2] for reported in said] == [(i, 5) for i in range(5)]
    assert said[0][2] == "round 1, layer 0, head 0" and said[-1][2].startswith("round 2")


@pytest.mark.bad_input
def test_bad_input_is_refused(tmp_path: Path) -> None:
    def hunt(objective: Any = additive, queries: Any = QUERIES, heads: Any = HEADS, **options: Any) -> Any:
        return hunt_heads(Counted(), objective, queries, heads, **{"best": 1, **options})

    with pytest.raises(ValueError, match=r"the objective gave nan for prompt 'a' with layer 0, head 0"):
        hunt(lambda output, prompt: float("nan"))
    with pytest.raises(ValueError, match=r"the objective gave \[1, 2\] for prompt 'a'"):
        hunt(lambda output, prompt: [1, 2])
    with pytest.raises(ValueError, match=r"queries=\(\) leave nothing"):
        hunt(queries=())
    with pytest.raises(ValueError, match=r"best=5 heads in rounds=3 are more than the 12"):
        hunt(best=5, rounds=3)
    with pytest.raises(ValueError, match="must be at least 1"):
        hunt(best=0)
    with pytest.raises(ValueError, match="hold one twice"):
        hunt(heads=((0, 0), (0, 0)))
    with pytest.raises(ValueError, match="gave 1 outputs for 3 queries"):
        hunt_heads(lambda queries, heads: [0.0], additive, QUERIES, HEADS, best=1)
    hunt(cache=tmp_path / "one.json", about="w 3")
    with pytest.raises(ValueError, match="holds a search of other queries or settings; name another file"):
        hunt(cache=tmp_path / "one.json", about="w 4")
