"""MobileNets with ULSAM in them: strides, widths, storage, and what a configuration refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.models.sizing import parameters
from saccade.papers import ULSAM, ULSAMMobileNet
from saccade.papers.ulsam.model import V2, Followed, ULSAMMobileNetConfig

TINY = {"multiplier": 0.1, "classes": 3}


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("version", [1, 2])
def test_pictures_are_reduced_by_the_stride(stride: int, version: int) -> None:
    model = ULSAMMobileNet(version=version, stride=stride, **TINY).eval()
    assert model.features(torch.zeros(1, 3, 32, 64)).shape[2:] == (32 // stride, 64 // stride)


def test_the_last_layers_keep_their_stride() -> None:
    strides = [layer.stride for layer in ULSAMMobileNetConfig(stride=8).layers().values()]
    assert [number for number, stride in enumerate(strides, start=2) if stride > 1] == [5, 8, 15]
    full = [layer.stride for layer in V2.layers().values()]
    assert [number for number, stride in enumerate(full, start=2) if stride > 1] == [3, 5, 8, 15]


def test_layers_are_where_the_paper_counts_them() -> None:
    two, one = V2.layers(), ULSAMMobileNetConfig(version=1).layers()
    assert [number for number, layer in two.items() if layer.inputs == layer.outputs == 96] == [13, 14]
    assert [number for number, layer in two.items() if layer.inputs == layer.outputs == 160] == [16, 17]
    assert [number for number, layer in one.items() if layer.inputs == layer.outputs == 512] == [8, 9, 10, 11, 12]
    assert (max(one), max(two)) == (14, 18)


def test_ulsam_stands_where_it_was_asked_for() -> None:
    model = ULSAMMobileNet(added=(12, 17), instead=(14,), groups=2, norm_act=False, **TINY)
    assert [*model.ulsams()] == [12, 14, 17] and isinstance(model.blocks[12], ULSAM)
    assert isinstance(model.blocks[10], Followed) and isinstance(model.blocks[15], Followed)
    assert all(module.groups == 2 and not module.norm_act for module in model.ulsams().values())
    both = ULSAMMobileNet(added=(14,), instead=(14,), **TINY)
    assert parameters(both.blocks[12]) == 2 * parameters(ULSAM(16, groups=4))


def test_is_stored_and_read_back(tmp_path: Path) -> None:
    model = ULSAMMobileNet(added=(17,), instead=(14,), stride=8, **TINY).eval()
    model.save_pretrained(tmp_path)
    again, x = ULSAMMobileNet.from_pretrained(tmp_path).eval(), torch.randn(1, 3, 16, 16)
    assert again.config == model.config and torch.equal(again(x), model(x))


def test_trains() -> None:
    model = ULSAMMobileNet(added=(17,), instead=(14,), stride=8, **TINY)
    model(torch.randn(4, 3, 16, 16)).logsumexp(1).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instead": (15,)}, "instead=15: layer 15 turns 96 channels into 160 at stride 2; only one that keeps"),
        ({"instead": (12,)}, "layer 12 turns 64 channels into 96 at stride 1"),
        ({"instead": (19,)}, "instead=19 is no layer; blocks are 2 to 18"),
        ({"added": (1,)}, "added=1 is no layer; blocks are 2 to 18"),
        ({"version": 1, "added": (15,)}, "added=15 is no layer; blocks are 2 to 14"),
        ({"version": 3}, "version=3 must be 1 or 2"),
        ({"multiplier": 0.0}, "multiplier=0.0 must be above 0"),
        ({"stride": 3}, "stride=3 must be a power of two up to 32"),
        ({"groups": 0}, "groups=0 must be at least 1"),
        ({"added": (17,), "groups": 3}, "groups=3 must be at least 1 and divide the width=160"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ULSAMMobileNet(**options)
