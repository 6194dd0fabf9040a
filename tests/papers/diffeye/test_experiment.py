"""The small runs end to end, what they count, and the pictures they draw."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from saccade.core.scanpath import Scanpath
from saccade.data.discs import DiscViews, disc_gaze
from saccade.papers.diffeye.drawing import draw_saliency, draw_scanpath, draw_trajectories, row_of, speed_histogram
from saccade.papers.diffeye.experiment import EXPERIMENT
from saccade.papers.diffeye.report import BOTH, CLAIMS, DISC_ARMS, OTHERS, OURS, PEOPLE
from saccade.papers.diffeye.scoring import People, people, scores, speed_shares
from saccade.papers.diffeye.small_run import held_out_discs, misses

GAZE = disc_gaze(2, 4, views=DiscViews(length=16))


def test_the_quick_run_gives_a_page(tmp_path: Path) -> None:
    found = EXPERIMENT.run(tmp_path / "work", quick=True)
    assert found.distinct("discs.arm") == [*DISC_ARMS, PEOPLE, OTHERS]
    assert set(found.distinct("osie.arm")) > {PEOPLE, OTHERS, OURS}
    (tmp_path / "papers").mkdir()
    marks = "\n".join(f"<!-- figures: {mark} -->\n<!-- end -->" for mark in EXPERIMENT.sections)
    (page := tmp_path / EXPERIMENT.page).write_text(marks)
    EXPERIMENT.publish(found, tmp_path)
    assert f"| {BOTH} |" in page.read_text() and "2 held-out pictures, 2 observers" in page.read_text()
    assert (tmp_path / "papers" / "diffeye-discs.svg").exists() and len(CLAIMS) == page.read_text().count("**") / 2


def test_who_rests_on_every_disc_misses_none() -> None:
    _, places = held_out_discs(2, 1, 16)
    stops = np.concatenate((np.full((2, 1, 2), 31.5), places), axis=1)
    paths = np.repeat(stops, 4, axis=1)[:, None]
    np.testing.assert_allclose(misses(paths, places), 0)
    np.testing.assert_allclose(misses(paths + [3.0, 4.0], places), 5)


def test_people_are_parted_and_compared_with_others() -> None:
    seen = people(GAZE, 1, 16, np.random.default_rng(0))
    assert [(len(each.own), len(each.others)) for each in seen] == [(1, 3), (1, 3)]
    with pytest.raises(ValueError, match="discs-00000 has 4 observers; own=4 leaves nobody"):
        people(GAZE, 4, 16, np.random.default_rng(0))


def test_scores_of_the_same_paths_are_best() -> None:
    path = np.array([[5.0, 5.0], [30.0, 30.0], [60.0, 20.0], [60.0, 50.0]])
    seen = [People(own=[path], others=[path], fixations=path)]
    same, other = (scores([[each]], seen, (64, 64)) for each in (path, path[::-1]))
    for name in ("dtw", "frechet", "tde", "speeds"):
        assert same[name] == 0
    assert same["cc"] == pytest.approx(1) == other["cc"]  # the map knows no order
    assert other["dtw"] > 0 and other["tde_best"] > 0


def test_shares_of_speeds_sum_to_one() -> None:
    shares = dict(speed_shares([[np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 0.0]])]]))
    assert sum(shares.values()) == pytest.approx(1)
    assert [round(at, 3) for at, share in shares.items() if share] == [-0.917, 1.083]


def test_pictures_show_every_path_and_fixation() -> None:
    picture, name = GAZE.picture(GAZE.names[0]), GAZE.names[0]
    figure, axes = row_of(3)
    draw_trajectories(axes[0], picture, GAZE.trajectories[name], "paths")
    scanpath: Scanpath = GAZE.scanpaths[name][0]
    draw_scanpath(axes[1], picture, scanpath)
    draw_saliency(axes[2], picture, np.random.default_rng(0).random((64, 64)))
    assert isinstance(figure, Figure) and len(axes[0].lines) == 8 and axes[0].get_title() == "paths"
    assert [each.get_text() for each in axes[1].texts] == ["1", "2", "3", "4"]
    assert len(axes[2].images) == 2
    (panel,) = Figure().subplots(1, 1, squeeze=False)[0]
    speed_histogram(panel, {"people": GAZE.trajectories[name], "others": [np.zeros((3, 2))]}, rate=60)
    assert panel.get_xlabel() == "speed, pixels a second"
    assert [each.get_text() for each in panel.get_legend().get_texts()] == ["people", "others"]  # type: ignore[union-attr]
