"""AdaSpa's experiment: what it compares with, and what its page makes of it."""

from typing import Any

import pytest
import torch

from saccade.core.call import plain_call
from saccade.core.clock import Clock
from saccade.core.partial import whole
from saccade.experiments import Figures, Results
from saccade.mechanisms.block_grid import BlockGrid
from saccade.ops import reference
from saccade.papers.adaspa import AdaSpa
from saccade.papers.adaspa.ablations import FixedBlocks, FreshLse, KeepMass, fixed_mask
from saccade.papers.adaspa.measures import ARMS, Drawn
from saccade.papers.adaspa.sections import CLAIMS, against_another_prompt, agrees, closer, recall_table, slower, stays
from tests.papers.adaspa.plain import LAYOUT, SITE, dense, lse_of, mass_of, memory_of, operands, text_blocks, walk

INPUTS = [operands(seed=step) for step in range(5)]


def results(**tables: list[dict[str, Any]]) -> Results:
    settings = {"sparsity": 0.8, "steps": 3, "small": {"grid": 16, "sparsities": [0.5, 0.8, 0.9]}}
    return Results(device="a machine", date="2026-01-01", versions={}, settings=settings, tables=tables)


@pytest.mark.parametrize("rule", ["band", "random"])
def test_fixed_blocks_are_as_many_as_those_found(rule: Any) -> None:
    memory = memory_of()
    like = AdaSpa(sparsity=0.7, block=4, head_adaptive=False)
    walk(like, INPUTS, memory=memory)
    mask = fixed_mask(rule, LAYOUT, 4, 0.7, 0, 4)
    assert torch.equal(mask.allow.expand(2, -1, -1, -1).sum(-1), memory.get("blocks").sum(-1))
    assert mask.allow[..., torch.tensor(text_blocks(LAYOUT, 4))].all()
    fixed = FixedBlocks(like=like, rule=rule, layout=LAYOUT)
    plans = [fixed.plan(SITE, Clock(step=step, num_steps=5)) for step in range(5)]
    assert plans[0] == () and all(isinstance(plan[0], BlockGrid) for plan in plans[1:])
    assert len({id(plan[0]) for plan in plans[1:]}) == 1


def test_a_band_lies_about_the_diagonal_and_random_blocks_differ() -> None:
    band = fixed_mask("band", LAYOUT, 4, 0.7, 0, 4).allow
    assert band.diagonal(dim1=2, dim2=3).all() and torch.equal(band[:, 0], band[:, 3])
    one, other = (fixed_mask("random", LAYOUT, 4, 0.7, seed, 4).allow for seed in (0, 1))
    assert not torch.equal(one, other) and not torch.equal(one[:, 0], one[:, 1])


def test_a_refresh_by_its_own_lse_is_noted_beside_the_kept_one() -> None:
    same: list[torch.Tensor] = []
    fresh = FreshLse(sparsity=0.7, block=4, same=same)
    outs = walk(fresh, INPUTS)
    assert len(same) == 1 and same[0].shape == (2, 2, 4) and 0.5 < float(same[0].mean()) < 1
    assert not torch.equal(outs[2], walk(AdaSpa(sparsity=0.7, block=4), INPUTS)[2])
    same.clear()
    walk(fresh, [INPUTS[0]] * 5)
    assert (same[0] == 1).all()


def test_mass_is_kept_step_by_step() -> None:
    keep = KeepMass(block=4, found={})
    call = plain_call(*INPUTS[0], layout=LAYOUT, site=SITE)
    for _ in range(2):
        keep.observe(call, whole(reference.run(call, want_lse=True)), memory_of())
    one, two = keep.found[SITE.name]
    torch.testing.assert_close(one, mass_of(*INPUTS[0][:2], lse_of(*INPUTS[0][:2]), 4))
    assert torch.equal(one, two) and dense(*INPUTS[0]).shape == call.q.shape


def test_arms_are_systems_of_their_own_names() -> None:
    names = [Drawn().system(arm, 0.8).name for arm in ARMS]
    assert names == ["adaspa", "adaspa", "band", "random"]
    assert Drawn().layout.n == 32 + 256 and len(Drawn(captions=3).prompts) == 3


def test_claims_are_decided_by_captions() -> None:
    psnr = {("AdaSpa", 0.5): 30, ("AdaSpa", 0.8): 26, ("AdaSpa", 0.9): 25, ("band", 0.5): 29, ("band", 0.8): 21}
    rows = [
        {"grid": 16, "arm": arm, "sparsity": s, "caption": c, "psnr": value + 0.01 * c * s}
        for (arm, s), value in (psnr | {("band", 0.9): 19}).items()
        for c in range(4)
    ]
    found = results(samples=rows)
    assert closer("AdaSpa", than="band")(found).mid == pytest.approx(5)
    assert slower("AdaSpa", than="band")(found).mid == pytest.approx(5)
    rows[0]["psnr"] = None  # equal to the dense picture
    assert slower("AdaSpa", than="band")(found).n == 3
    refreshes = [{"agreement": 0.97 + 0.001 * c} for c in range(4)]
    assert agrees(results(refreshes=refreshes)).low > 0
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS) == 9


def test_a_mask_that_stays_good_is_seen_to(tmp_path: Any) -> None:
    def prompts(change: float) -> list[dict[str, Any]]:
        return [
            {"caption": c, "search": 1, "own": 0.9, "own_later": 0.9 + change + 0.001 * c, "other_later": 0.7}
            for c in range(3)
        ]

    assert stays(results(prompts=prompts(-0.01))).low > 0 > stays(results(prompts=prompts(-0.2))).high
    assert against_another_prompt(results(prompts=prompts(-0.01))).mid == pytest.approx(0.191)
    by_step = [{"arm": "found then", "step": s, "recall": 0.9 - s / 10, "lowest": 0.5} for s in range(4)]
    table = recall_table(results(prompts=prompts(0), recalls=by_step), Figures(folder=tmp_path, name="adaspa"))
    assert table.splitlines()[-1] == "| found then | 0.800 | 0.500 | 0.700 | 0.500 | 0.600 | 0.500 |"
