"""A model's folder that is not whole: every fault is reported by file, option and mend."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.models import Architecture, DiT
from saccade.models.dit import DiTConfig
from saccade.models.stored import make_config, read_weights
from saccade.papers import DCDiT, EMMDiT

TINY = DiTConfig(depth=1, width=16, heads=2, side=8, channels=3, classes=5)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    DiT(TINY).save_pretrained(tmp_path)
    return tmp_path


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _weights(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut, r"model.safetensors \(\d+ bytes\) is no whole safetensors file: .*; it was cut or is of another format"),
        (lambda at: _weights(at, b""), r"model.safetensors \(0 bytes\) is no whole safetensors file"),
        (lambda at: _weights(at, POINTER), r"model.safetensors is a Git LFS pointer, .* git lfs pull"),
        (lambda at: torch.save({"a": 1}, at / "model.safetensors"), r"is no whole safetensors file"),
        (lambda at: DiT(TINY, width=32).save_pretrained(at / "b") or (at / "b" / "model.safetensors").rename(
            at / "model.safetensors"), r"is not of the model in .*\d+ of another shape: positions \(1, 16, 32"),
        (lambda at: _change(at, depth=2), r"is not of the model in .*missing: .*blocks.1.mixer.qkv.weight"),
        (lambda at: _change(at, dept=2, wide=3), r"config.json has options that DiTConfig does not know: dept, wide"),
        (lambda at: _change(at, depth=None), r"config.json says depth=null; it must be int"),
        (lambda at: _change(at, depth="2"), r'config.json says depth="2"; it must be int'),
        (lambda at: _change(at, depth=True), r"config.json says depth=true; it must be int"),
        (lambda at: _change(at, mixer=["attention", None]), r'mixer=\["attention", null\]; it must be str \| tuple'),
        (lambda at: _change(at, modulation="all"), r'says modulation="all"; it must be .*zero'),
        (lambda at: _change(at, learned_variance=1), r"says learned_variance=1; it must be bool"),
        (lambda at: _change(at, heads=3), r"width=16 must be a multiple of heads=3"),
        (lambda at: _change(at, _class_name="Dit"), r'says _class_name="Dit", no architecture; choose from .*DiT,'),
        (lambda at: _change(at, _class_name=["DiT"]), r'says _class_name=\["DiT"\], no architecture'),
        (lambda at: (at / "config.json").write_text('{"depth": '), r"config.json is no whole JSON file: .*again"),
        (lambda at: (at / "config.json").write_text(""), r"config.json is no whole JSON file"),
        (lambda at: (at / "config.json").write_bytes(b"\xff\xfe{"), r"config.json is no whole JSON file"),
        (lambda at: (at / "config.json").write_text("[]"), r"config.json holds a list, not an object of options"),
    ],
)  # fmt: skip
def test_a_spoilt_folder_is_refused_by_file_and_option(folder: Path, spoil: Any, message: str) -> None:
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        Architecture.from_pretrained(folder)


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="holds no model.safetensors; give a folder with a whole model"):
        Architecture.from_pretrained(folder)
    with pytest.raises(FileNotFoundError, match=r"holds no config.json"):
        Architecture.from_pretrained(tmp_path / "nowhere")


def test_a_config_by_another_hand_is_read(folder: Path) -> None:
    """Whole numbers for fractions, a byte-order mark, options left out."""
    path = folder / "config.json"
    stored = {key: value for key, value in json.loads(path.read_text()).items() if key != "positions"}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(stored | {"time_scale": 1}).encode())
    assert Architecture.from_pretrained(folder).config == TINY


def test_every_published_config_is_read_back() -> None:
    for kind in (*Architecture.kinds().values(), DCDiT, EMMDiT):
        if kind.config_class.__module__.startswith("saccade."):
            for size in kind.sizes.values():
                stored = json.loads(json.dumps({f: getattr(size, f) for f in size.__dataclass_fields__}))
                assert make_config(type(size), stored, Path("config.json")) == size


@dataclass(frozen=True, kw_only=True)
class Needy:
    sizes: list[int]
    depth: int = 1


def test_options_without_a_default_are_asked_for() -> None:
    with pytest.raises(ValueError, match="config.json lacks options that Needy needs: sizes; add them"):
        make_config(Needy, {"depth": 2}, Path("config.json"))
    assert make_config(Needy, {"sizes": [1, 2]}, Path("config.json")).depth == 1


def test_weights_alone_are_read(folder: Path) -> None:
    assert read_weights(folder / "model.safetensors").keys() == DiT(TINY).state_dict().keys()
