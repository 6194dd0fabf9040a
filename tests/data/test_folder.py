"""What a folder of pictures is read from: hidden and foreign entries passed over, links followed or refused."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.data.labelled import Pictures, open_folder
from tests.data.picture_files import write_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_folder(tmp_path / "pictures", {"cats": (200, 0, 0), "dogs": (0, 0, 200)}, each=2)
    return tmp_path / "pictures"


def counts(source: Pictures) -> list[int]:
    return np.bincount(np.concatenate([source.labels, source.held_labels])).tolist()


def test_hidden_and_foreign_entries_are_passed_over(root: Path) -> None:
    for place in (root, root / "cats"):
        for folder in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".hidden/deep"):
            write_folder(place / folder, {"in": (9, 9, 9)}, each=1)
        (place / "._0.png").write_bytes(b"\0\5\x16\7 resource fork")
        (place / ".DS_Store").touch()
        (place / "notes.txt").touch()
    source = open_folder(root, 4)
    assert source.names == ("cats", "dogs") and counts(source) == [2, 2]


def test_a_hidden_root_is_read(root: Path) -> None:
    hidden = root.rename(root.parent / ".pictures")
    assert counts(open_folder(hidden, 4)) == [2, 2]


def test_folders_in_a_class_belong_to_it_whatever_their_name(root: Path) -> None:
    write_folder(root / "cats", {"more": (1, 1, 1), "looks like one.png": (1, 1, 1)}, each=3)
    assert counts(open_folder(root, 4)) == [8, 2]


def test_linked_folders_and_files_are_followed(root: Path) -> None:
    write_folder(root.parent / "elsewhere", {"birds": (0, 9, 0), "kittens": (9, 0, 0)}, each=3)
    (root / "birds").symlink_to(root.parent / "elsewhere" / "birds")
    (root / "cats" / "kittens").symlink_to(root.parent / "elsewhere" / "kittens")
    (root / "dogs" / "linked.png").symlink_to(root / "dogs" / "0.png")
    source = open_folder(root, 4)
    assert source.names == ("birds", "cats", "dogs") and counts(source) == [3, 5, 3]


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("cats/again", "cats", "cats/again is the same as .*pictures/cats, which is read already; remove the link"),
        ("cats/up", ".", "cats/up is the same as .*pictures, which is read already"),
        ("cats/more", "dogs", "dogs is the same as .*cats/more, which is read already"),
        ("pets", "cats", "pets is the same as .*pictures/cats, which is read already"),
        ("cats/gone.png", "nowhere.png", "link .*gone.png leads nowhere; mend or remove it"),
        ("gone", "nowhere", "link .*gone leads nowhere; mend or remove it"),
        ("cats/loop", "cats/loop", "link .*loop leads nowhere; mend or remove it"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_links_in_circles_twice_or_to_nothing_are_named(
    root: Path, link: str, target: str, message: str, cached: bool, tmp_path: Path
) -> None:
    (root / link).symlink_to(root / target)
    with pytest.raises(ValueError, match=message):
        open_folder(root, 4, cache=tmp_path / "cache" if cached else None)


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 there")
def test_a_file_name_with_a_stray_byte_is_read_and_cached(root: Path, tmp_path: Path) -> None:
    for folder in (os.fsencode(root / "cats"), os.fsencode(root) + b"/\xff"):
        os.makedirs(folder, exist_ok=True)
        with open(folder + b"/stray-\xe9.png", "wb") as file:
            Image.new("RGB", (4, 4)).save(file, "PNG")
    plain, cached, again = (open_folder(root, 4, cache=place) for place in (None, tmp_path / "c", tmp_path / "c"))
    assert counts(plain) == [3, 2, 1]
    assert np.array_equal(plain.held, cached.held) and np.array_equal(plain.train, again.train)


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"\x93NUMPY\1\0"],
)
def test_a_torn_cache_is_named(root: Path, content: bytes, tmp_path: Path) -> None:
    open_folder(root, 4, cache=tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    for torn in (content, whole[:-1], whole[:40]):
        kept.write_bytes(torn)
        with pytest.raises(ValueError, match=r"cache file .*\.npy is torn or of another kind: .*; remove it"):
            open_folder(root, 4, cache=tmp_path / "cache")
    np.save(kept, np.zeros((4, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"npy holds float64 \(4, 4, 4, 3\), not 4 pictures of side 4; remove it"):
        open_folder(root, 4, cache=tmp_path / "cache")
