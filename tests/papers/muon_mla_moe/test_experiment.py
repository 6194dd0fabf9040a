"""The measurements of the experiment."""

import json
from pathlib import Path

import pytest
import torch

from saccade.experiments import Results
from saccade.papers.muon_mla_moe.cache_cost import cache_rows
from saccade.papers.muon_mla_moe.experiment import ADAMW, MUON, decoder, falls_with_batch, shares
from saccade.papers.muon_mla_moe.small_runs import Settings, curve, optim, share_of_steps, variation_of_load

TINY = Settings(source="captions", width=16, heads=2, experts=4, top=1, length=16)


@pytest.mark.parametrize(("target", "share"), [(3.0, 0.5), (2.5, 0.75), (2.0, 1.0), (1.0, 1.0), (4.5, 0.25)])
def test_share_of_steps_is_read_between_records(target: float, share: float) -> None:
    assert share_of_steps([(10, 4.0), (20, 3.0), (40, 2.0)], target) == share


def test_a_curve_is_a_mean_of_the_last_records(tmp_path: Path) -> None:
    rows = [{"step": 10 * i, "nats": float(i)} for i in range(1, 8)]
    (tmp_path / "loss.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert curve(tmp_path)[-1] == (70, 5.0) and curve(tmp_path)[0] == (10, 1.0)


def test_shares_are_of_the_same_seed_and_batch() -> None:
    nats = {(ADAMW, 4): (4.0, 2.0), (MUON, 4): (2.0, 1.0), (ADAMW, 16): (4.0, 2.0), (MUON, 16): (3.0, 1.0)}
    rows = [
        {"arm": arm, "batch": batch, "seed": seed, "step": step, "nats": value}
        for (arm, batch), values in nats.items()
        for seed in (0, 1, 2)
        for step, value in zip((10, 20), values, strict=True)
    ]
    found = Results(device="", date="", versions={}, tables={"curves": rows})
    assert shares(found, 16) == {0: 0.75, 1: 0.75, 2: 0.75} and shares(found, 4)[0] == 0.5
    assert falls_with_batch(found).mid == -0.25


def test_one_rate_serves_both_optimisers_unless_muon_has_its_own() -> None:
    assert (optim("muon", 1e-3).muon_lr, optim("muon", 1e-3, 1e-2).muon_lr) == (1e-3, 1e-2)


def test_load_of_a_collapse_varies_most() -> None:
    model = decoder(TINY, 0).eval()
    even = variation_of_load(model, TINY)
    for block in model.blocks:
        block.ffn.router.offset[2] = 10.0  # type: ignore[union-attr, index]
    assert even < variation_of_load(model, TINY) == pytest.approx(3**0.5)


def test_what_is_kept_is_what_is_counted() -> None:
    torch.manual_seed(0)
    rows = {row["arm"]: row for row in cache_rows((16, 2, 8, 4), cached=6, rounds=2)}
    assert {name: row["counted"] for name, row in rows.items()} == {
        "all heads": 32, "latents, absorbed": 12, "latents, expanded": 12
    }  # fmt: skip
    assert all(row["measured"] == row["counted"] and row["low"] <= row["ratio"] <= row["high"] for row in rows.values())
