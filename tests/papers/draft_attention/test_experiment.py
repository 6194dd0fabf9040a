"""DraftAttention's experiment: what it measures, and what its page makes of it."""

from pathlib import Path

import pytest
import torch

from saccade.core.call import plain_call
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import Lowered
from saccade.core.mechanism import Mechanism
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.experiments import Figures
from saccade.experiments.page import made
from saccade.experiments.results import newest
from saccade.papers.draft_attention import fields, zero_shot
from saccade.papers.draft_attention.arms import RandomRegions, arms, widest_band
from saccade.papers.draft_attention.experiment import EXPERIMENT

DOCS = Path(__file__).resolve().parents[3] / "docs"
GRID, POOL = (1, 8, 8), (2, 2)
JOINT = Layout.joint(text=4, grid=GRID)


def test_smooth_fields_have_variance_one_and_neighbours_alike() -> None:
    rough, even = (fields.smooth((1, 16, 16), length, 8, seed=0) for length in (0.0, 2.0))
    assert rough.shape == (1, 4, 256, 8)
    for x in (rough, even):
        assert x.std().item() == pytest.approx(1, abs=1e-4)
    alike = [(x[:, :, 1:] * x[:, :, :-1]).mean().item() for x in (rough, even)]
    assert alike[0] < 0.1 < 0.8 < alike[1]


def test_the_best_choice_finds_most_and_all_find_all_at_no_sparsity() -> None:
    rows = list(fields.recalls(GRID, POOL, 1.0, (0.0, 0.8), columns=8, sharpness=2.0, seed=0))
    assert [row["recall"] for row in rows if row["sparsity"] == 0] == pytest.approx([1, 1, 1, 1])
    found = {row["arm"]: row["recall"] for row in rows if row["sparsity"] == 0.8}
    assert found["oracle"] >= found["draft"] > found["random"] and found["oracle"] > found["maxima"]


def test_attention_by_region_is_summed() -> None:
    weights = torch.rand(1, 1, 64, 64)
    sums = fields.by_region(weights, GRID, POOL)
    members = [
        [y * 8 + x for y in range(i, i + 2) for x in range(j, j + 2)] for i in (0, 2, 4, 6) for j in (0, 2, 4, 6)
    ]
    assert sums[0, 0, 3, 7].item() == pytest.approx(weights[0, 0, members[3]][:, members[7]].sum().item(), rel=1e-5)
    assert sums.sum().item() == pytest.approx(weights.sum().item(), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_bounds_hold_and_the_first_is_reached_nowhere(seed: int) -> None:
    either, positive = fields.bounds(GRID, POOL, 1.0, 0.8, columns=8, seed=seed)
    for row in (either, positive):
        assert 0 < row["blocks"] <= 1
    assert 0 < positive["dropped"] <= 1 and positive["sign"] == "positive"


def test_the_second_bound_supposes_that_no_dropped_score_is_far_below_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = torch.zeros(1, 1, 64, 1), torch.ones(1, 1, 64, 1)
    q[:, :, :32] = -100.0  # half of the rows of patches: constant within each
    monkeypatch.setattr(fields, "smooth", lambda grid, length, columns, seed: q + 1e-3 if seed % 2 == 0 else k)
    either, _ = fields.bounds(GRID, POOL, 1.0, 0.8, columns=1, seed=0)
    assert either["dropped"] > 1


def test_blocks_are_touched_where_they_hold_a_kept_pair() -> None:
    member = fields.members(GRID, POOL)
    keep = torch.eye(16, dtype=torch.bool)[None]
    order = torch.argsort(member.argmax(1), stable=True)
    assert fields.blocks_touched(keep, member[order], 4) == 1 / 16
    assert fields.blocks_touched(keep, member, 8) == 2 / 8  # a row of the picture, and that beside it
    row = fields.touched((1, 8, 16), (4, 4), 2.0, 0.8, 16, seed=0)
    assert row["kept"] <= row["raster"] and row["sorted"] == pytest.approx(row["kept"])


def test_arms_say_what_their_sparse_steps_compute() -> None:
    every = list(arms(JOINT, POOL, (0.5, 0.8), (0.0, 0.25)))
    assert [arm.label for arm in every] == ["dense", *["draft", "band", "random"] * 4]
    site = Site(name="blocks.0.attn", kind="joint", heads=2)
    for arm in every[1:]:
        assert arm.system.plan(site, Clock(step=7, num_steps=8))
        assert bool(arm.system.plan(site, Clock(step=1, num_steps=8))) == (arm.skip == 0)
    q, k, v = (torch.randn(1, 2, JOINT.n, 8) for _ in range(3))
    for arm in (every[1], every[3]):
        (mechanism,) = arm.system.plan(site, Clock(step=7, num_steps=8))
        assert isinstance(mechanism, Mechanism)
        mask = mechanism.pairs(plain_call(q, k, v, layout=JOINT), Memory()).mask
        assert isinstance(mask, Lowered) and mask.bound.density() == pytest.approx(arm.pairs, abs=0.01)


def test_a_band_comes_as_near_as_it_can() -> None:
    layout = Layout.image_only((1, 8, 8))
    shares = {width: widest_band(layout, share).width for width, share in ((1, 0.1), (2, 0.34), (8, 1.0))}
    assert shares == {1: 1, 2: 2, 8: 8}


def test_random_regions_are_the_same_in_every_call() -> None:
    q, k, v = (torch.randn(1, 2, JOINT.n, 8) for _ in range(3))
    call = plain_call(q, k, v, layout=JOINT)
    one, other = (RandomRegions(sparsity=0.5, pool=POOL).pairs(call, Memory()).mask for _ in range(2))
    assert one is not None and other is not None
    assert torch.equal(one.materialize(JOINT, JOINT), other.materialize(JOINT, JOINT))


def test_a_call_is_timed_by_its_parts() -> None:
    row = zero_shot.cost((1, 32, 32), (4, 8), 0.8, heads=1, columns=16)
    assert row["tokens"] == 1024 and min(row[name] for name in ("choosing", "both", "sparse", "dense")) > 0


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    page = (DOCS / EXPERIMENT.page).read_text()
    results = newest(DOCS / "results", "draft_attention")
    parts = made(EXPERIMENT.sections, results, Figures(folder=tmp_path, name="draft_attention"))
    assert [name for name, text in parts.items() if f"<!-- figures: {name} -->\n{text}\n<!-- end -->" not in page] == []
