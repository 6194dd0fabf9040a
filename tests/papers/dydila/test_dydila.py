"""DyDiLiT with options of its mixer changed."""

import pytest
import torch

from saccade.papers import DyDiLiT


def test_options_reach_every_block() -> None:
    with torch.device("meta"):
        model = DyDiLiT.of("B/2", mixer="dydila(projectors=2, exponents=5, factors=4)", classes=7)
    assert isinstance(model, DyDiLiT) and len(model.blocks) == 12 and model.label.classes == 7
    for block in model.blocks:
        assert block.mixer.redundant_q.bank.shape == (2, 768, 768)
        assert block.mixer.measure_rk.exponents.shape == (5,) and block.mixer.factors.shape == (4,)


def test_stored_and_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = DyDiLiT(depth=1, width=16, heads=2, side=8, channels=3, classes=3)
    model.save_pretrained(tmp_path)
    assert DyDiLiT.from_pretrained(tmp_path).config == model.config


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="choices=0 of a router must be at least 1"):
        DyDiLiT.of("S/2", mixer="dydila(factors=0)")
    with pytest.raises(ValueError, match="size='H/2' of DyDiLiT is unknown; choose one of S/2"):
        DyDiLiT.of("H/2")
