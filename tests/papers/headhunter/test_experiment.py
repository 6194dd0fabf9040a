"""HeadHunter's experiment: its arms and scores, and what its page makes of results."""

import json
from pathlib import Path

import numpy as np
import pytest

from saccade.core.rows import Rows
from saccade.data import scenes
from saccade.experiments import Bench, Figures, Results
from saccade.papers.headhunter import SoftPAG, all_heads, plot_heads, weakened_pictures
from saccade.papers.headhunter.experiment import Settings, chosen, name_of, tried
from saccade.papers.headhunter.plots import score_grid
from saccade.papers.headhunter.sections import (
    CLAIMS,
    DENSE,
    FOUND,
    gain,
    heads_over_layers,
    held_table,
    plot_search,
    spread,
    strengths_table,
)
from saccade.papers.headhunter.studio import brightness, promises_kept
from saccade.runs.head_search import HeadSearch
from tests.hosts.tiny import BY_NAME
from tests.tiny_flux import tiny_flux

SEARCH = HeadSearch(
    chosen=((1, 0), (0, 1)),
    scores=({(0, 0): 1.0, (0, 1): 2.0, (1, 0): 3.0, (1, 1): 0.0}, {(0, 0): 1.0, (0, 1): 2.5, (1, 1): 2.0}),
    values=({}, {}),
)


def results(**tables: list[dict[str, object]]) -> Results:
    said = {"sizes": [1], "weights": [1.0], "side": 64, "large": 128, "kind": "identity", "scope": "all"}
    return Results(device="none", date="2026-01-01", versions={}, settings=said, tables=tables)  # type: ignore[arg-type]


def test_a_caption_kept_whole_counts_once_more_than_its_promises() -> None:
    rng = np.random.default_rng(0)
    scene = scenes.sample(rng, count=1)
    prompt, picture = scenes.describe(scene, rng), scenes.render(scene, 64) / 255
    assert promises_kept(picture, prompt) == 2.0
    assert promises_kept(np.zeros_like(picture), prompt) < 1.0
    assert brightness(np.full((4, 4, 3), 0.25), prompt) == 0.25


def test_the_arm_that_did_best_is_judged(tmp_path: Path) -> None:
    bench = Bench(settings=Settings(), work=tmp_path / "held")
    with pytest.raises(ValueError, match="run the parts heads and strengths first"):
        chosen(bench)
    rows = [{"arm": arm, "score": score, "w": w} for arm, score, w in (("a", 1.0, 1), ("b", 0.5, 2), ("b", 2.0, 2))]
    (tmp_path / "strengths.json").write_text(json.dumps({"seconds": 1, "rows": rows}))
    assert chosen(bench)["arm"] == "b"
    arms = tried(Settings(others=(("uniform", "all"),)), ((0, 1), (3, 2), (1, 1)), (0, 1))
    assert list(map(name_of, arms)) == [
        "best 1, identity, image_block, w 0.5",
        "best 1, identity, image_block, w 1",
        "best 3, identity, image_block, w 0.5",
        "best 3, identity, image_block, w 1",
        "layer 0, identity, image_block, w 0.5",
        "layer 1, identity, image_block, w 0.5",
        "best 3, uniform, all, w 0.5",
        "every layer, uniform, all, w 0.5",
    ]


def test_the_map_has_a_cell_for_every_head_and_none_for_those_chosen_before() -> None:
    assert np.array_equal(score_grid(SEARCH), [[1.0, 2.0], [3.0, 0.0]])
    later = score_grid(SEARCH, 1)
    assert np.isnan(later[1, 0]) and np.nansum(later) == 5.5
    for number, framed in ((0, (0.5, -0.5)), (1, (-0.5, 0.5))):
        (axes, _) = plot_heads(SEARCH, number, baseline=1.0).axes
        assert [patch.get_xy() for patch in axes.patches] == [framed]
    with pytest.raises(ValueError, match="number=2 is no round; there were 2"):
        plot_heads(SEARCH, 2)


def test_spreads_and_gains_are_paired_by_caption() -> None:
    grid = [
        {"layer": layer, "head": head, "caption": c, "score": float(3 * layer + head)}
        for layer in (0, 1)
        for head in (0, 1)
        for c in (0, 1)
    ]  # noqa: E501
    plain = [{"layer": None, "head": None, "caption": c, "score": 1.0} for c in (0, 1)]
    assert spread(results(heads=[*plain, *grid])).mid == pytest.approx(0.5 - 1.5)
    judged = [
        {"arm": arm, "caption": c, "kept": kept, "score": 2 * kept}
        for arm, kept in ((DENSE, 0.0), (FOUND, 1.0))
        for c in (0, 1)
    ]  # noqa: E501
    made = results(held=judged, large=judged)
    assert gain(made, "held", FOUND).mid == 1.0
    assert held_table(made, None).count(FOUND) == 2  # type: ignore[arg-type]


def test_few_heads_are_held_against_the_best_layer(tmp_path: Path) -> None:
    arms = (
        ("best 1, identity, all, w 1", [[0, 1]], 1.5),
        ("layer 0, identity, all, w 1", [], 1.0),
        ("layer 1, identity, all, w 1", [], 1.2),
        ("layer 1, uniform, all, w 1", [], 9.0),
    )
    tried = [{"arm": arm, "heads": heads, "caption": c, "score": x} for arm, heads, x in arms for c in (0, 1)]
    grid = [{"layer": 0, "head": h, "caption": c, "score": float(h)} for h in (0, 1) for c in (0, 1)]
    plain = [{"layer": None, "head": None, "caption": c, "score": 1.0} for c in (0, 1)]
    made = results(strengths=tried, heads=[*plain, *grid])
    assert heads_over_layers(made).mid == pytest.approx(0.3)
    assert "(0, 1)" in strengths_table(made, None)  # type: ignore[arg-type]
    figures = Figures(folder=tmp_path, name="headhunter")
    assert "headhunter-heads.svg" in plot_search(made, figures) and (tmp_path / "headhunter-heads.svg").exists()
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)


@pytest.mark.host
def test_pictures_of_queries_have_the_noise_of_their_seeds_however_they_are_batched() -> None:
    from saccade.compare.arms import Setup

    pipe, asked = tiny_flux(), [("a red circle", 1), ("a blue square", 2), ("a red circle", 1)]
    made = {}
    for batch in (1, 3):
        setup = Setup(steps=2, height=32, width=32, batch=batch, options={"max_sequence_length": 16})
        made[batch] = np.stack(list(weakened_pictures(pipe, SoftPAG(w=2.0), setup=setup)(asked, ((0, 0),))))
    np.testing.assert_allclose(made[1], made[3], atol=1e-4)
    assert np.array_equal(made[1][0], made[1][2]) and not np.array_equal(made[1][0], made[1][1])
    plain = np.stack(list(weakened_pictures(pipe, setup=setup)(asked, ())))
    assert np.abs(plain - made[3]).max() > 1e-3
    layer = np.stack(list(weakened_pictures(pipe, SoftPAG(layers=(1,), w=2.0), setup=setup)(asked, ())))
    assert np.abs(plain - layer).max() > 1e-3


@pytest.mark.host
def test_every_head_of_self_and_joint_attention_is_a_candidate() -> None:
    assert all_heads(BY_NAME["flux"].build()[0]) == tuple((layer, head) for layer in range(4) for head in (0, 1))
    assert all_heads(BY_NAME["wan"].build()[0]) == tuple((layer, head) for layer in range(2) for head in (0, 1))


def test_rows_are_weakened_with_their_samples_and_roles() -> None:
    rows = Rows.of("uncond", "cond", samples=2).weakened((2, 3))
    assert rows.roles[4:] == ("weak", "weak") and rows.samples == (0, 1, 0, 1, 0, 1)
    edited = Rows.of("source", "target").under("uncond", "cond").weakened((2, 3))
    assert edited.where("weak") == (4, 5) and edited.pairs() == ((1, 0), (3, 2), (5, 4))
    alone = Rows.of("source", "target").weakened((0, 1))
    assert alone.branches == ("cond", "cond", "weak", "weak") and alone.pairs() == ((1, 0), (3, 2))
