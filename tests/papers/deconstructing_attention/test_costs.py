"""The paper's tables of cost, against sums by hand and against what operators count and keep."""

from typing import Any

import pytest
import torch

from saccade.models.macs import macs
from saccade.papers.deconstructing_attention.costs import COSTS, layer_cost
from saccade.papers.deconstructing_attention.model import VARIANTS, DeconstructedLM

SIZES: dict[str, Any] = {"batch": 3, "tokens": 10, "width": 16, "heads": 2}
B, L, D, H = SIZES.values()


def test_the_table_has_every_variant() -> None:
    assert {*COSTS} == {"standard", *VARIANTS}


@pytest.mark.parametrize(
    ("variant", "prefill", "decode", "cache"),
    [
        ("standard", 4 * B * L**2 * D + 6 * B * L * D**2, 6 * B * D**2 + 4 * B * L * D, 4 * B * L * D),
        ("static_emb_qk", 4 * B * L**2 * D + 6 * B * L * D**2, 6 * B * D**2 + 4 * B * L * D, 4 * B * L * D),
        ("mlp", 6 * B * L * D**2, 6 * B * D**2, 0),
        ("approx", 14 * B * L * D**2, 10 * B * D**2, 6 * B * D + 4 * B * D**2 / H),
        ("nonapprox", 6 * B * L * D**2, 6 * B * D**2, 2 * B * D + 4 * B * H),
        (
            "rnd_emb_qk",
            2 * L**2 * D * (1 + B) + 6 * B * L * D**2,
            2 * L * D * (1 + B) + 6 * B * D**2,
            2 * (B + 1) * L * D,
        ),
    ],
)
def test_rows_of_the_table(variant: str, prefill: float, decode: float, cache: float) -> None:
    found = layer_cost(variant, **SIZES)
    assert (found.prefill, found.decode, found.cache) == (prefill, decode, cache)


def test_maps_that_are_known_are_cheaper_to_decode() -> None:
    known = layer_cost("fixed_seq_qk", **SIZES, maps_known=True)
    assert known.prefill == 2 * L**2 * D + 2 * B * L * D**2 and known.decode == 2 * B * L * D + 2 * D**2
    assert known.decode < layer_cost("fixed_seq_qk", **SIZES).decode


@pytest.mark.parametrize("variant", ["mlp", "static_emb_qk"])
def test_what_runs_counts_the_same(variant: str) -> None:
    """FLOPs are twice the multiply-adds of a layer without its output projection and feed-forward."""
    model = DeconstructedLM(
        vocabulary=11, depth=1, width=D, heads=H, ffn="swiglu(hidden=8)", variant=variant, layout="uniform"
    )
    rest = B * L * (D * D + 3 * 8 * D + 11 * D)
    assert 2 * (macs(model, torch.zeros(B, L, dtype=torch.long)) - rest) == layer_cost(variant, **SIZES).prefill


@pytest.mark.filterwarnings("ignore:first-order sums came within")
@pytest.mark.parametrize(
    ("variant", "named"),
    [
        ("static_emb_qk", "static_emb_qk"), ("mlp", "mlp"), ("approx(reading='per_order')", "approx"),
        ("rnd_emb_qk", "rnd_emb_qk"),
    ],
)  # fmt: skip
def test_what_runs_keeps_the_same(variant: str, named: str) -> None:
    """In half precision, and but for the number of tokens that `per_order` keeps too."""
    model = DeconstructedLM(vocabulary=11, depth=1, width=D, heads=H, variant=variant, layout="uniform", context=L)
    memories = model.fresh_memories()
    model(torch.zeros(B, L, dtype=torch.long), memories)
    numbers = memories[0].size / 4 - ("per_order" in variant)
    assert 2 * numbers == layer_cost(named, **SIZES).cache


def test_nonapprox_keeps_a_vector_and_a_number_in_single_precision() -> None:
    model = DeconstructedLM(vocabulary=11, depth=1, width=D, heads=H, variant="nonapprox", layout="uniform")
    memories = model.fresh_memories()
    model(torch.zeros(B, L, dtype=torch.long), memories)
    vector, number = (each.numel() for each in memories[0].kept.values())
    assert 2 * vector + 4 * number == layer_cost("nonapprox", **SIZES).cache


def test_messages() -> None:
    with pytest.raises(ValueError, match="variant='linear' is unknown; choose one of standard, mlp, approx"):
        layer_cost("linear", **SIZES)
    with pytest.raises(ValueError, match="maps_known=True needs a fixed stream, which 'mlp' has not; leave it out"):
        layer_cost("mlp", **SIZES, maps_known=True)
