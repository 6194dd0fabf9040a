"""More trials, or longer ones: costs and coverages against sums by hand."""

import numpy as np
import pytest

from saccade.papers.kinetics import QWEN3, Budget, Use, best_of, block_budget, cost_of, cut_short, pass_at

SHAPE = QWEN3["0.6B"]
LENGTHS = np.array([[3000, 5000, 1000], [9000, 700, 2500]])
RIGHT = np.array([[True, False, True], [False, False, True]])


def test_trials_cost_the_mean_of_their_traces_and_cover_by_counts() -> None:
    costs, covered = best_of(SHAPE, LENGTHS, RIGHT, prompt=256, trials=(1, 2, 3))
    for i, k in enumerate((1, 2, 3)):
        for q, row in enumerate(LENGTHS):
            spent = [cost_of(SHAPE, Use(prompt=256, generated=int(n), trials=k)).equivalent() for n in row]
            assert costs[i, q] == pytest.approx(np.mean(spent))
            assert covered[i, q] == pass_at(k, trials=3, correct=int(RIGHT[q].sum()))
    assert (np.diff(costs, axis=0) > 0).all() and (np.diff(covered, axis=0) >= 0).all()


def test_a_cut_trace_costs_what_was_written() -> None:
    right = np.stack([np.zeros_like(RIGHT), RIGHT])
    budget = block_budget(128)
    costs, covered = cut_short(SHAPE, LENGTHS, right, prompt=64, at=(2048, 32768), budget=budget, intensity=0.0)
    for i, cut in enumerate((2048, 32768)):
        for q, row in enumerate(LENGTHS):
            uses = [Use(prompt=64, generated=min(int(n), cut)) for n in row]
            assert costs[i, q] == pytest.approx(np.mean([cost_of(SHAPE, use, budget).compute for use in uses]))
    assert covered.tolist() == [[0, 0], [pytest.approx(2 / 3), pytest.approx(1 / 3)]]


def test_the_published_blocks() -> None:
    found = [block_budget(keys) for keys in (128, 256, 512, 1024, 2048)]
    assert [(b.block, b.top // (b.block or 1)) for b in found] == [(128, 1), (64, 4), (32, 16), (16, 64), (8, 256)]
    assert found[0] == Budget(top=128, block=128)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="keys=100 must divide 16384"):
        block_budget(100)
    with pytest.raises(ValueError, match="right holds grades of 1 cuts"):
        cut_short(SHAPE, LENGTHS, RIGHT[None], prompt=1, at=(10, 20))
    with pytest.raises(ValueError, match="k=4 and correct=2 must not exceed trials=3"):
        best_of(SHAPE, LENGTHS, RIGHT, prompt=1, trials=(4,))
