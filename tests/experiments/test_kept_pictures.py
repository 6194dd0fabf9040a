"""A picture kept in results is the one on the page."""

from pathlib import Path

import numpy as np
from PIL import Image

from saccade.experiments import Figures, Results
from saccade.experiments.kept_pictures import KeptPicture, encoded

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)


def shown(folder: Path, text: str, larger: int = 1) -> np.ndarray:
    results = Results(device="d", date="", versions={}, tables={"sheet": [{"png": text}]})
    block = KeptPicture(source="sheet.png", name="sheet", about="Some frames", larger=larger)
    assert block(results, Figures(folder=folder / "page", name="a")) == "![Some frames](a-sheet.png)"
    return np.asarray(Image.open(folder / "page" / "a-sheet.png").convert("RGB"))


def test_it_comes_back_pixel_by_pixel_and_larger(tmp_path: Path) -> None:
    assert np.array_equal(shown(tmp_path, encoded(PICTURE)), PICTURE)
    assert np.array_equal(shown(tmp_path, encoded(PICTURE), larger=3), PICTURE.repeat(3, 0).repeat(3, 1))


def test_few_colours_make_it_small(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    few = encoded(smooth, colours=8)
    assert len(few) < len(encoded(smooth)) and len(np.unique(shown(tmp_path, few).reshape(-1, 3), axis=0)) <= 8
