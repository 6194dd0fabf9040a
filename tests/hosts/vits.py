"""Tiny random vision transformers of timm."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import nn

WANTED = ("", ".datasets", ".models.feature_extraction", ".ops.misc", ".transforms", ".transforms.functional")


def library() -> Any:
    """timm, also where torchvision is left out, whose usual build breaks beside a torch for CPUs.

    Importing timm asks for names of torchvision that no transformer uses, so mocks hand them over and then go.
    """
    if "timm" in sys.modules or find_spec("torchvision"):
        return import_module("timm")
    mocks = {f"torchvision{name}": MagicMock() for name in WANTED}
    sys.modules.update(mocks)
    found = import_module("timm")
    for name in mocks:
        del sys.modules[name]
    return found


def create(name: str, **more: Any) -> nn.Module:
    """`timm.create_model`: random, two blocks of two heads over 8 x 8 patches."""
    tiny = {"img_size": 32, "patch_size": 4, "depth": 2, "embed_dim": 32, "num_heads": 2, "num_classes": 5}
    return library().create_model(name, **{**tiny, **more})


def vit() -> tuple[nn.Module, dict[str, Any]]:
    return create("vit_tiny_patch16_224"), {"x": torch.randn(2, 3, 32, 32)}


def deit() -> tuple[nn.Module, dict[str, Any]]:
    return create("deit_tiny_distilled_patch16_224"), {"x": torch.randn(2, 3, 32, 32)}


def beit() -> tuple[nn.Module, dict[str, Any]]:
    return create("beit_base_patch16_224"), {"x": torch.randn(2, 3, 32, 32)}


def eva() -> tuple[nn.Module, dict[str, Any]]:
    """Two registers, a rotary table scaled from a grid of 16 x 16, and patches of any number."""
    more = {"num_reg_tokens": 2, "dynamic_img_size": True}
    return create("eva02_tiny_patch14_224", **more), {"x": torch.randn(2, 3, 24, 32)}


MAKERS = (beit, deit, eva, vit)
