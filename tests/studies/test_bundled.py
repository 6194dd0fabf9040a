"""The page of the bundled model says what lies beside its weights."""

from pathlib import Path

import pytest

from saccade.experiments import Figures, Results
from saccade.models import path
from saccade.studies.scenes_flux import COUNTS, EXPERIMENT, samples, table

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("objects", list(COUNTS))
def test_the_page_is_up_to_date(objects: int) -> None:
    assert table(objects) in (DOCS / EXPERIMENT.page).read_text(), "run saccade reproduce scenes_flux --page"


def test_the_sheet_of_samples_is_the_one_beside_the_weights(tmp_path: Path) -> None:
    nothing = Results(device="", date="", versions={})
    link = samples(nothing, Figures(folder=tmp_path, name="scenes_flux"))
    assert link.endswith("(scenes_flux-samples.png)")
    sheet = (path("scenes-flux") / "samples.png").read_bytes()
    assert (tmp_path / "scenes_flux-samples.png").read_bytes() == sheet
    assert (DOCS / "studies" / "scenes_flux-samples.png").read_bytes() == sheet
