"""FlashBias' experiment: its figures are complete, consistent, and honest about memory and digits."""

from pathlib import Path

import pytest

from saccade.experiments import Bench, Results, Row
from saccade.papers.flashbias import alibi_lm, table_classifier
from saccade.papers.flashbias.bias_costs import crossover
from saccade.papers.flashbias.exact_cases import gaps
from saccade.papers.flashbias.experiment import Settings, timing
from saccade.papers.flashbias.sections import COSTS, RANKS, saved


def row(n: int, ratio: float) -> Row:
    return {"n": n, "dense_ms": ratio, "factors_ms": 1.0, "dense_bytes": 2, "factors_bytes": 1}


def found(**tables: list[Row]) -> Results:
    return Results(device="any", date="2026-01-01", versions={}, tables=tables)


def test_rows_cover_every_setting_and_memory_follows_the_bias(tmp_path: Path) -> None:
    shown: list[str] = []
    settings = Settings(lengths=(64, 512), dtypes=("float32",), heads=2, channels=8, repeats=1)
    bench = Bench(settings=settings, work=tmp_path, progress=lambda done, total, what: shown.append(what))
    rows = list(timing(bench))
    assert [(r["prior"], r["n"], r["part"]) for r in rows] == [
        (prior, n, part) for prior in ("alibi", "distance") for n in (64, 512) for part in ("forward", "backward")
    ]
    assert all(r[f"{arm}_ms"] > 0 for r in rows for arm in ("plain", "dense", "factors"))
    long = [r for r in rows if r["n"] == 512 and r["part"] == "forward"]
    assert all(r["dense_bytes"] >= 2 * 512**2 * 4 and r["dense_bytes"] > 4 * r["factors_bytes"] for r in long)
    assert len(shown) == 4


def test_exact_cases_agree_with_dense_attention_to_the_last_digits() -> None:
    rows = list(gaps())
    assert {row["case"]: row["rank"] for row in rows} == {
        "alibi": 2, "alibi, by key": 1, "distance, 3d": 9, "distance, d + 2": 5, "distance, d + 1": 4, "cosine": 2,
    }  # fmt: skip
    assert all(row["output_gap"] < 1e-12 and row["gradient_gap"] < 1e-11 for row in rows)


def test_the_crossover_is_where_winning_begins_for_good() -> None:
    assert crossover([row(1, 2.0), row(2, 0.5), row(4, 1.5), row(8, 2.0)]) == 4
    assert crossover([row(1, 2.0), row(2, 0.5)]) is None


def test_claims_of_cost_are_of_the_largest_length() -> None:
    slower = [row(8, 0.5), *(row(16, 0.8) for _ in range(4))]
    assert saved(found(timing=slower), "ms").mid == pytest.approx(1 - 1 / 0.8)
    faster = [row(8, 0.5), *(row(16, 1.25) for _ in range(4))]
    assert [claim.verdict(found(timing=slower)) for claim in COSTS] == ["refuted", "confirmed"]
    assert [claim.verdict(found(timing=faster)) for claim in COSTS] == ["confirmed", "confirmed"]


def test_the_claim_of_rank_is_of_all_heads() -> None:
    (claim,) = RANKS
    for ranks, verdict in (
        ((12, 13, 12, 14), "confirmed"),
        ((40, 41, 44, 40), "refuted"),
        ((2, 40, 3, 30), "undecided"),
    ):
        assert claim.verdict(found(columns=[{"rank": rank} for rank in ranks])) == verdict


def test_a_factored_classifier_has_its_tables_back_afterwards() -> None:
    name, source = table_classifier.opened("scenes", 128)
    trained = table_classifier.trained(source, steps=2, tested=16, progress=lambda done, total, what: None)
    right = trained.right()
    rows = list(table_classifier.factored(trained))
    assert name == "scenes" and trained.right() == right
    assert len(rows) == len(table_classifier.ENERGIES) * len(table_classifier.RULES)
    assert all(0 <= row["right"] <= 16 and row["mean_rank"] <= row["max_rank"] for row in rows)
    heads = table_classifier.DEPTH * table_classifier.HEADS
    assert len(list(table_classifier.columns(trained.model))) == heads


def test_dense_and_factored_language_models_learn_the_same() -> None:
    shown: list[int] = []
    *arms, text = alibi_lm.arms(3, lambda done, total, what: shown.append(done))
    assert [row["arm"] for row in arms] == list(alibi_lm.ARMS) and shown == list(range(9))
    assert text["first_gap"] == text["largest_gap"] < 1e-5
    dense, factors, flipped = (row["last"] for row in arms)
    assert dense == pytest.approx(factors, abs=1e-5) and dense != pytest.approx(flipped, abs=1e-5)
