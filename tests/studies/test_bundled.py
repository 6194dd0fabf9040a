"""The pages of the bundled pipelines say what lies beside their weights."""

from pathlib import Path
from typing import Any

import pytest

from saccade.experiments import Figures, Results
from saccade.models import path
from saccade.studies import scenes_flux, scenes_wan

DOCS = Path(__file__).resolve().parents[2] / "docs"


every_study = pytest.mark.parametrize("study", [scenes_flux, scenes_wan])


@every_study
def test_the_page_is_up_to_date(study: Any) -> None:
    page = (DOCS / study.EXPERIMENT.page).read_text()
    assert all(study.table(objects) in page for objects in study.COUNTS), "run saccade reproduce NAME --page"


@every_study
def test_the_sheet_of_samples_is_the_one_beside_the_weights(study: Any, tmp_path: Path) -> None:
    nothing, name = Results(device="", date="", versions={}), study.EXPERIMENT.name
    link = study.samples(nothing, Figures(folder=tmp_path, name=name))
    assert link.endswith(f"({name}-samples.png)")
    sheet = (path(study.MODEL) / "samples.png").read_bytes()
    assert (tmp_path / f"{name}-samples.png").read_bytes() == sheet
    assert (DOCS / "studies" / f"{name}-samples.png").read_bytes() == sheet
