"""DyDiLA as the catalogue offers it."""

import pytest
import torch

from saccade.models import DyDiLiT
from saccade.systems.dydila import DyDiLA


def test_options_reach_every_block() -> None:
    with torch.device("meta"):
        model = DyDiLA(size="B/2", projectors=2, exponents=5, factors=4, classes=7).build()
    assert isinstance(model, DyDiLiT) and len(model.blocks) == 12 and model.label.classes == 7
    for block in model.blocks:
        assert block.mixer.redundant_q.bank.shape == (2, 768, 768)
        assert block.mixer.measure_rk.exponents.shape == (5,) and block.mixer.factors.shape == (4,)


def test_stored_and_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = DyDiLiT(depth=1, width=16, heads=2, side=8, channels=3, classes=3)
    model.save_pretrained(tmp_path)
    assert DyDiLiT.from_pretrained(tmp_path).config == model.config


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="factors=0 must be at least 1"):
        DyDiLA(factors=0)
    with pytest.raises(ValueError, match="size='H/2' is unknown; choose one of S/2"):
        DyDiLA(size="H/2")
