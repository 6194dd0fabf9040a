"""Read OSIE (Xu et al. 2014): 700 photographs of 800 x 600 pixels that people looked at freely for three seconds.

    fixations.mat        fixations: (700, 1) structs img, subjects; of 15 observers fix_x, fix_y, fix_duration in ms
    mouse_lab/NAME.mat   fixations: one struct subj, coord, order; samples (row, column), counted from 1, of a pointer
                         that uncovers the picture where it stands, about 14 people a picture; their times are not kept
    stimuli/NAME.jpg     the photographs

Trajectories become (x, y) counted from 0; fixations are as they are stored.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from saccade.core.scanpath import Points, Scanpath
from saccade.data.gaze import GazeSet, Picture
from saccade.data.rgb import as_picture, open_picture

FOLDER, FIXATIONS, POINTER, STIMULI = "osie", "fixations.mat", "mouse_lab", "stimuli"
SIZE = (800, 600)


def read_osie(folder: Path | str | None = None) -> GazeSet:
    """All of it, from `folder` or, unless given, from `osie` under the environment variable SACCADE_DATA.

    Pictures are read when they are asked for; one without a file of trajectories has none.
    Raises FileNotFoundError where there is no `fixations.mat`, ValueError for a file that is not laid out as above.
    """
    root = _folder(folder)
    scanpaths = dict(_entry(entry, root / FIXATIONS) for entry in _rows(root / FIXATIONS))
    return GazeSet(
        names=tuple(scanpaths),
        size=SIZE,
        scanpaths=scanpaths,
        trajectories={name: read_pointer(root / POINTER / f"{Path(name).stem}.mat") for name in scanpaths},
        picture=_Stimuli(root / STIMULI),
    )


def read_pointer(file: Path) -> tuple[Points, ...]:
    """Each person's trajectory in a file of `mouse_lab`, (x, y) counted from 0; none where there is no file.

    Raises ValueError for a file that is not laid out so.
    """
    if not file.is_file():
        return ()
    stored = _loaded(file)
    people, places, order = (np.asarray(_field(stored, name, file)) for name in ("subj", "coord", "order"))
    if places.ndim != 2 or places.shape[1] != 2 or not len(places) == people.size == order.size:
        raise ValueError(
            f"'{file}' has subj {people.shape}, coord {places.shape}, order {order.shape}; rows must match"
        )
    points = places[:, ::-1].astype(np.float64) - 1
    return tuple(_one(points, people.ravel() == person, order.ravel()) for person in np.unique(people))


def _one(points: Points, mine: np.ndarray, order: np.ndarray) -> Points:
    return points[mine][np.argsort(order[mine], kind="stable")]


class _Stimuli:
    """Reads a photograph by its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str) -> Picture:
        """Raises ValueError for a file that is missing or no picture."""
        return as_picture(open_picture(self.folder / name, f"'{self.folder / name}'"))


def _folder(folder: Path | str | None) -> Path:
    root = os.environ.get("SACCADE_DATA")
    found = Path(folder) if folder is not None else Path(root or "") / FOLDER
    if (folder is None and not root) or not (found / FIXATIONS).is_file():
        named = f"SACCADE_DATA={root}" if folder is None else f"folder='{folder}'"
        inside = f"{FOLDER}/{FIXATIONS}" if folder is None else FIXATIONS
        raise FileNotFoundError(
            f"{named} has no {inside}; set it to the folder of the optional data sets, or take saccade.data.discs"
        )
    return found


def _rows(file: Path) -> list[Any]:
    return list(np.atleast_1d(_loaded(file)))


def _loaded(file: Path) -> Any:
    from scipy.io import loadmat

    try:
        return loadmat(file, simplify_cells=True)["fixations"]
    except Exception as error:  # the readers of torn files raise nearly anything
        raise ValueError(f"'{file}' holds no variable 'fixations' of MATLAB: {error or type(error).__name__}") from None


def _entry(entry: Any, file: Path) -> tuple[str, tuple[Scanpath, ...]]:
    name = str(_field(entry, "img", file))
    people = _field(entry, "subjects", file)
    return name, tuple(_scanpath(person, file, name) for person in np.atleast_1d(np.asarray(people, dtype=object)))


def _scanpath(person: Any, file: Path, name: str) -> Scanpath:
    stored = (_field(person, key, file) for key in ("fix_x", "fix_y", "fix_duration"))
    x, y, durations = (np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in stored)
    if not len(x) == len(y) == len(durations):
        raise ValueError(f"'{file}', {name}: {len(x)} fix_x, {len(y)} fix_y and {len(durations)} fix_duration differ")
    try:
        return Scanpath(points=np.stack((x, y), -1), durations=durations)
    except ValueError as error:
        raise ValueError(f"'{file}', {name}: {error}") from None


def _field(entry: Any, key: str, file: Path) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        held = ", ".join(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        raise ValueError(f"'{file}' has an entry of {held} without '{key}'; give a file laid out as OSIE's")
    return entry[key]
