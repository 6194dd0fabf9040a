"""A folder laid out as PIE-Bench: one rendered scene, to be recoloured and to lose a thing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

from saccade.data.pie_bench import encode
from saccade.data.scenes import Scene, Thing, masks, render

CIRCLE = Thing(colour="red", shape="circle", size="large", x=0.25, y=0.3)
CROSS = Thing(colour="blue", shape="cross", size="large", x=0.7, y=0.7)
SCENE = Scene(things=(CIRCLE, CROSS), background="white")
EDITED = {
    "6_colour/000.png": replace(SCENE, things=(replace(CIRCLE, colour="green"), CROSS)),
    "3_delete/001.png": replace(SCENE, things=(CIRCLE,)),
}


def write_folder(folder: Path) -> Path:
    """`mapping_file.json`, the pictures, and under `results` what a perfect editor would make of them."""
    owned = masks(SCENE, 512)
    prompt, recoloured = "a red circle and a blue cross", "a [green] circle and a blue cross"
    tasks = {
        "000": ("6_colour/000.png", prompt, recoloured, "circle circle", "6", owned[0]),
        "001": ("3_delete/001.png", "a red circle and a [blue cross]", "a red circle", "", "3", owned[1]),
    }
    names = ("image_path", "original_prompt", "editing_prompt", "blended_word", "editing_type_id", "mask")
    index = {key: dict(zip(names, (*task[:-1], encode(wide(task[-1]))), strict=True)) for key, task in tasks.items()}
    (folder / "mapping_file.json").write_text(json.dumps(index))
    for name, scene in EDITED.items():
        _save(SCENE, folder / "annotation_images" / name)
        _save(scene, folder / "results" / name)
    return folder


def wide(mask: np.ndarray) -> np.ndarray:
    """The mask one pixel wider: the outline mixes both colours."""
    return binary_dilation(mask, np.ones((3, 3)))


def _save(scene: Scene, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(scene, 512)).save(path)
