"""How often one of k answers is right, from n trials of which c were."""

from math import comb

from saccade.core.checks import check_whole


def pass_at(k: int, *, trials: int, correct: int) -> float:
    """1 - C(n - c, k) / C(n, k), without bias.

    Raises ValueError for more answers than trials, and for more right ones.
    Source: Chen et al., "Evaluating large language models trained on code" (2021).
    """
    check_whole(1, k=k, trials=trials)
    check_whole(0, correct=correct)
    if k > trials or correct > trials:
        raise ValueError(f"k={k} and correct={correct} must not exceed trials={trials}")
    return 1 - comb(trials - correct, k) / comb(trials, k)


def graded(scores: list[float]) -> list[bool]:
    """Right or wrong of each trial, from 0 and 1, or 0 and 100.

    Raises ValueError for any other score.
    """
    for score in scores:
        if score not in (0, 1, 100):
            raise ValueError(f"scores holds {score}; give 0 for wrong and 1, or 100, for right")
    return [score > 0 for score in scores]
