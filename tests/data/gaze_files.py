"""A folder laid out like OSIE, filled with gaze of our own making."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from saccade.data.discs import DiscViews, disc_gaze
from saccade.data.gaze import GazeSet

VIEWS = DiscViews(length=40)


def write_osie(folder: Path, count: int = 3, observers: int = 2) -> GazeSet:
    """Fixations, pointer and photographs of `count` pictures; returns what they were made of."""
    made = disc_gaze(count, observers, views=VIEWS)
    (folder / "mouse_lab").mkdir(parents=True)
    (folder / "stimuli").mkdir()
    entries = np.empty((count, 1), dtype=object)
    for i, name in enumerate(made.names):
        entries[i, 0] = {"img": f"{name}.jpg", "subjects": _people(made, name)}
        savemat(folder / "mouse_lab" / f"{name}.mat", {"fixations": pointer(made, name)})
        Image.fromarray((made.picture(name)[0] * 255).astype(np.uint8)).save(folder / "stimuli" / f"{name}.jpg")
    savemat(folder / "fixations.mat", {"fixations": entries})
    return made


def pointer(made: GazeSet, name: str) -> dict[str, Any]:
    """The struct of a file of `mouse_lab`: (row, column) from 1 on, people mixed up, each in its order."""
    paths = made.trajectories[name]
    rows = [
        (person + 5, *np.rint(at)[::-1] + 1, k + 1) for person, path in enumerate(paths) for k, at in enumerate(path)
    ]
    table = np.array(rows)[np.random.default_rng(0).permutation(len(rows))]
    return {"subj": table[:, :1], "coord": table[:, 1:3].astype(np.uint16), "order": table[:, 3:]}


def _people(made: GazeSet, name: str) -> np.ndarray:
    people = np.empty((len(made.scanpaths[name]), 1), dtype=object)
    for k, path in enumerate(made.scanpaths[name]):
        x, y = path.points.T
        people[k, 0] = {"fix_x": x, "fix_y": y, "fix_duration": path.durations}
    return people
