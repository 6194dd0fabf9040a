"""The experiment on proxies and windows: blockiness, likeness of attention, arms, and verdicts on likeness."""

import pytest
import torch

from saccade.experiments import Results
from saccade.papers.pt_dit.attention_likeness import attention_maps, pair_likeness, ring_likeness
from saccade.papers.pt_dit.experiment import EXPERIMENT, Settings, blockiness
from saccade.papers.pt_dit.report import ALONE, FULL, LIKENESS_CLAIMS, OURS, RIGID, likeness_table

GRID, WINDOW, RINGS = (1, 4, 4), (1, 2, 2), (0, 2, 4)


def test_blockiness_sees_borders_of_windows_alone() -> None:
    base = Settings().base
    cells = torch.arange(32) // (2 * base.patch) % 2  # windows of two patches, light and dark in turn
    windows = (cells[:, None] + cells) % 2
    assert blockiness(windows.expand(2, 3, 32, 32).float(), base) == 1
    patches = torch.arange(32) // base.patch % 2
    assert blockiness(((patches[:, None] + patches) % 2).expand(2, 3, 32, 32).float(), base) == 0
    assert blockiness(torch.full((1, 3, 32, 32), 0.3), base) == 0


def test_arms_differ_from_pt_dit_in_what_their_names_say() -> None:
    arms = Settings().arms
    assert arms[FULL].window == (1, 16, 16) and arms[FULL].steps == ("near",)
    assert arms[OURS] == Settings().base
    assert set(arms[OURS].steps) - set(arms[ALONE].steps) == {"proxies"}
    assert set(arms[OURS].steps) - set(arms[RIGID].steps) == {"far"}


def test_rows_shared_by_a_window_are_alike_within_and_apart_across() -> None:
    home = torch.cartesian_prod(torch.arange(4), torch.arange(4)) // 2
    number = home[:, 0] * 2 + home[:, 1]
    rows = torch.eye(16)[number].expand(3, 16, 16)  # each window looks at one key of its own
    found = pair_likeness(rows, GRID, WINDOW)
    assert found == {"within": 1, "across": 0, "neighbours_within": 1, "neighbours_across": 0}


def test_rings_look_only_at_their_keys() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(2, 16, 16, generator=generator)
    place = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    near = (place - 0.5).abs().amax(-1) < 2  # of the first window, whose middle is (0.5, 0.5)
    inner, outer = ring_likeness(rows, GRID, WINDOW, RINGS)
    window = rows[:, [0, 1, 4, 5]]
    window[..., near] = 1.0
    changed = rows.clone()
    changed[:, [0, 1, 4, 5]] = window
    inner_after, outer_after = ring_likeness(changed, GRID, WINDOW, RINGS)
    assert inner_after > inner and outer_after == outer


def test_maps_are_softmax_rows_of_every_layer() -> None:
    from saccade.papers import PTDiT

    config = EXPERIMENT.quick.arms[FULL]
    model = PTDiT(config, depth=2).eval()
    layers = [block.near.attention for block in model.blocks]  # type: ignore[union-attr]
    maps = attention_maps(layers, model, torch.randn(1, 3, 32, 32), torch.rand(1), torch.randn(1, 4, 64))  # type: ignore[arg-type]
    assert [each.shape for each in maps] == [(4, 256, 256)] * 2
    for each in maps:
        torch.testing.assert_close(each.sum(-1), torch.ones(4, 256))
    assert not any(layer._forward_pre_hooks for layer in layers)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("gains", "verdict"), [((0.1, 0.2), "confirmed"), ((0.1, -0.2), "undecided"), ((-1, -2), "refuted")]
)
def test_likeness_is_confirmed_by_one_sign_everywhere(gains: tuple[float, float], verdict: str) -> None:
    row = {"within": 0.9, "neighbours_within": 0.9, "neighbours_across": 0.9}
    rows = [
        row | {"seed": seed, "layer": 0, "across": 0.9 - gain, "by_distance": [0.5, 0.5 + gain]}
        for seed, gain in enumerate(gains)
    ]
    found = Results(device="cpu", date="", versions={}, settings={"rings": RINGS}, tables={"likeness": rows})
    assert [claim.verdict(found) for claim in LIKENESS_CLAIMS] == [verdict] * 2
    assert "keys 0 to 2 away | keys 2 to 4 away" in likeness_table(found, None)  # type: ignore[arg-type]
