"""The measurements of the minimal transformer's experiment."""

import pytest

from saccade.experiments import Results
from saccade.papers import MinimalTransformer
from saccade.papers.minimal_transformer.experiment import ARMS, BARE, FULL, Settings, rank_correlation, within


def results(gaps: dict[str, float], **accuracies: float) -> Results:
    rows = [
        {"arm": arm, "seed": seed, "q": number, "gap": gap + seed / 1000, "accuracy": accuracies.get(arm, 0.0)}
        for seed in (0, 1, 2)
        for number, (arm, gap) in enumerate(gaps.items())
    ]
    return Results(device="", date="", versions={}, tables={"arms": rows})


def test_rank_correlation_is_by_seed_and_blind_to_scale() -> None:
    falling = rank_correlation(results({"a": 3.0, "b": 2.5, "c": -1.0}))
    assert (falling.mid, falling.n) == (pytest.approx(-1.0), 3)
    assert rank_correlation(results({"a": 1.0, "b": 3.0, "c": 2.0})).mid == pytest.approx(0.5)


@pytest.mark.parametrize(("lost", "verdict"), [(0.01, "confirmed"), (0.03, "refuted")])
def test_two_points_may_be_lost(lost: float, verdict: str) -> None:
    found = results({FULL: 0.0, BARE: 0.0}, **{FULL: 0.5, BARE: 0.5 - lost})
    assert within(BARE, FULL).verdict(found) == verdict


def test_targets_for_each_parameter_lie_on_both_sides_of_one() -> None:
    settings = Settings()
    counts = [
        MinimalTransformer.parameters_of(
            MinimalTransformer.config_class(side=16, patch=4, channels=3, depth=settings.depth, **options)
        )
        for options in ARMS.values()
    ]
    ratios = [10 * settings.count / count for count in counts]
    assert len(ARMS) == 8 and min(ratios) < 0.5 and max(ratios) > 1
