"""The study of offline judges: which pictures stand for which failing."""

import pytest
import torch

from saccade.data.labelled import open_scenes
from saccade.studies.quality import LACKING, Settings, chosen, repeated

SETTINGS = Settings(judged=10)


@pytest.mark.parametrize("name", list(LACKING))
def test_pictures_that_lack_something_lie_behind_the_real_ones(name: str) -> None:
    source, keep = open_scenes(32, count=1, held=SETTINGS.pool, seed=1), LACKING[name]
    rows = chosen(source, keep, SETTINGS).tolist()
    scenes = list(source.scenes(SETTINGS.pool))
    assert 0 < len(rows) <= SETTINGS.judged and min(rows) >= SETTINGS.judged
    assert all(keep(scenes[row]) for row in rows)


def test_few_pictures_are_repeated_with_their_labels() -> None:
    x, labels = torch.arange(40).view(40, 1, 1, 1), torch.arange(40)
    assert repeated(labels).tolist() == [0, 1] * 20
    assert torch.equal(repeated(x)[:, 0, 0, 0], repeated(labels))
