"""Gaze data: OSIE's layout read as it is stored, splits by picture, made views that do what they say, honest errors."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from saccade.core.scanpath import Scanpath
from saccade.data.discs import COLOURS, DiscViews, disc_gaze, disc_places, pink
from saccade.data.osie import read_osie, read_pointer
from tests.data.gaze_files import write_osie


def test_a_folder_laid_out_like_osie_gives_back_what_it_was_made_of(tmp_path: Path) -> None:
    made = write_osie(tmp_path)
    found = read_osie(tmp_path)
    assert found.names == tuple(f"{name}.jpg" for name in made.names) and found.size == (800, 600)
    for name, other in zip(found.names, made.names, strict=True):
        for path, wanted in zip(found.scanpaths[name], made.scanpaths[other], strict=True):
            np.testing.assert_array_equal(path.points, wanted.points)
            np.testing.assert_array_equal(path.durations, wanted.durations)
        for path, points in zip(found.trajectories[name], made.trajectories[other], strict=True):
            np.testing.assert_array_equal(path, np.rint(points))  # (x, y) from 0 on, in order
        assert found.picture(name).shape == (1, 64, 64, 3)


def test_osie_is_found_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_osie(tmp_path / "osie")
    monkeypatch.setenv("SACCADE_DATA", str(tmp_path))
    assert len(read_osie()) == 3


def test_pictures_without_a_pointer_have_no_trajectory(tmp_path: Path) -> None:
    made = write_osie(tmp_path)
    (tmp_path / "mouse_lab" / f"{made.names[1]}.mat").unlink()
    found = read_osie(tmp_path)
    assert [len(found.trajectories[name]) for name in found.names] == [2, 0, 2]


def test_missing_and_torn_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACCADE_DATA", raising=False)
    with pytest.raises(
        FileNotFoundError, match=r"SACCADE_DATA=None has no osie/fixations.mat; set it .*saccade.data.d"
    ):
        read_osie()
    with pytest.raises(FileNotFoundError, match="folder='.*' has no fixations.mat"):
        read_osie(tmp_path)
    made = write_osie(tmp_path)
    with pytest.raises(ValueError, match="'.*gone.jpg' is missing"):
        read_osie(tmp_path).picture("gone.jpg")
    pointer = tmp_path / "mouse_lab" / f"{made.names[0]}.mat"
    savemat(pointer, {"fixations": {"subj": [1], "coord": [[1, 2], [3, 4]], "order": [1, 2]}})
    with pytest.raises(ValueError, match=r"has subj .*, coord \(2, 2\), order .*; rows must match"):
        read_pointer(pointer)
    savemat(pointer, {"fixations": {"subj": [1]}})
    with pytest.raises(ValueError, match="has an entry of subj without 'coord'"):
        read_pointer(pointer)
    pointer.write_bytes(b"torn")
    with pytest.raises(ValueError, match="holds no variable 'fixations' of MATLAB"):
        read_pointer(pointer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fix_x": [1.0, 2.0, 3.0]}, "3 fix_x, 2 fix_y and 2 fix_duration differ"),
        ({"fix_x": [1.0, np.nan]}, r"has no number in rows \[1\]"),
        ({"fix_duration": [100.0, -1.0]}, "must be milliseconds of at least 0"),
    ],
)
def test_entries_that_are_amiss_name_file_and_picture(tmp_path: Path, change: dict[str, object], message: str) -> None:
    person = {"fix_x": [1.0, 2.0], "fix_y": [3.0, 4.0], "fix_duration": [100.0, 200.0]} | change
    savemat(tmp_path / "fixations.mat", {"fixations": {"img": "a.jpg", "subjects": person}})
    with pytest.raises(ValueError, match=f"fixations.mat', a.jpg: .*{message}"):
        read_osie(tmp_path)


def test_a_split_shares_no_picture_and_leaves_none_out() -> None:
    gaze = disc_gaze(14, 1)
    train, held = gaze.split("train"), gaze.split("held-out")
    assert len(held) == 2 and held.names == (gaze.names[6], gaze.names[13])
    assert sorted((*train.names, *held.names)) == sorted(gaze.names)
    assert set(held.trajectories) == set(held.scanpaths) == set(held.names)
    with pytest.raises(ValueError, match="split='test' is unknown; choose one of train, held-out"):
        gaze.split("test")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="every=15 must be in 2 to 14"):
        gaze.split("train", every=15)
    with pytest.raises(ValueError, match="names hold 'x', which none of the 14 pictures is called"):
        gaze.take(["x"])


def test_made_observers_visit_red_green_and_blue_in_turn() -> None:
    views = DiscViews()
    gaze, places = disc_gaze(6, 3, seed=1), disc_places(6, seed=1)
    for name in gaze.names:
        picture = gaze.picture(name)[0]
        for (x, y), colour in zip(places[name].astype(int), COLOURS, strict=True):
            np.testing.assert_allclose(picture[y, x], colour, atol=1e-6)
        for path, scanpath in zip(gaze.trajectories[name], gaze.scanpaths[name], strict=True):
            assert path.shape == (64, 2) and path.min() >= 0 and path.max() <= 63
            stops = np.concatenate((views.middle, places[name]))
            assert np.linalg.norm(scanpath.points - stops, axis=1).max() < 5
            at = (np.arange(4) * 16 + 7).astype(int)  # the middle of each stop
            assert np.linalg.norm(path[at] - stops, axis=1).max() < 8
            assert len(scanpath) == 4 and scanpath.durations.sum() == 64 * 16 - 3 * 32


def test_made_gaze_depends_on_its_seed_alone() -> None:
    one, same, other = (disc_gaze(2, 2, seed=seed) for seed in (0, 0, 1))
    name = one.names[1]
    np.testing.assert_array_equal(one.trajectories[name][1], same.trajectories[name][1])
    assert not np.array_equal(one.trajectories[name][1], other.trajectories[name][1])
    assert not np.array_equal(one.trajectories[name][0], one.trajectories[name][1])


def test_tremble_has_the_spectrum_of_pink_noise() -> None:
    rng = np.random.default_rng(0)
    power = np.mean([np.abs(np.fft.rfft(pink(64, rng)[:, 0])) ** 2 for _ in range(400)], axis=0)[1:-1]
    slope = np.polyfit(np.log(np.arange(1, len(power) + 1)), np.log(power), 1)[0]
    assert -1.3 < slope < -0.7


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="side=20 must be at least 8 radii of 7 pixels"):
        DiscViews(side=20)
    with pytest.raises(ValueError, match="length=8 must be at least 16 samples"):
        DiscViews(length=8)
    with pytest.raises(ValueError, match="count=0 must be at least one picture"):
        disc_gaze(0)
    with pytest.raises(ValueError, match="observers=0 must be at least one"):
        disc_gaze(1, 0)


@pytest.mark.bad_input
def test_a_scanpath_has_a_duration_for_each_fixation() -> None:
    points = np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"durations \(3,\) must be one for each of 2 fixations"):
        Scanpath(points=points, durations=np.ones(3))
    with pytest.raises(ValueError, match="is empty"):
        Scanpath(points=points[:0], durations=np.ones(0))
    np.testing.assert_array_equal(Scanpath(points=points, durations=np.full(2, 250)).timed[:, 2], [0.25, 0.25])


@pytest.mark.skipif(not os.environ.get("SACCADE_DATA"), reason="SACCADE_DATA names no folder of data sets")
def test_osie_has_its_published_sizes() -> None:
    try:
        found = read_osie()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    assert len(found) == 700 and len(found.split("held-out")) == 100
    paths = [path for paths in found.scanpaths.values() for path in paths]
    assert len(paths) == 10500 and round(float(np.mean([len(path) for path in paths])), 2) == 9.36
    pointers = [path for paths in found.trajectories.values() for path in paths]
    assert round(len(pointers) / 700) == 14 and 100 < np.median([len(path) for path in pointers]) < 135
    everything = np.concatenate(pointers)
    assert everything.min() == 0 and (everything.max(0) == (798, 598)).all()
    assert found.picture("1001.jpg").shape == (1, 600, 800, 3)
