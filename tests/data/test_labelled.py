"""Labelled pictures: batches from the generator alone, held-out pictures apart, masks that fit, honest errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from saccade.data.labelled import Pictures, SceneSource, as_pictures, from_dataset, open_scenes, open_source
from saccade.data.labelled.cifar import read_parquet
from saccade.data.scenes import COLOURS, render
from tests.data.picture_files import write_cifar10, write_folder


@pytest.fixture(scope="module")
def scenes() -> SceneSource:
    return open_scenes(32, count=128, held=64)


@pytest.fixture(scope="module")
def opened_again() -> SceneSource:
    return open_scenes(32, count=128, held=64)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 9))
def test_a_batch_depends_on_the_generator_alone(
    scenes: SceneSource, opened_again: SceneSource, seed: int, n: int
) -> None:
    (x, labels), (y, others) = (source.batch(np.random.default_rng(seed), n) for source in (scenes, opened_again))
    assert x.shape == (n, 3, 32, 32) and x.abs().max() <= 1
    assert torch.equal(x, y) and torch.equal(labels, others)


@pytest.mark.parametrize(("label", "classes"), [("shape", 4), ("colour", 7), ("kind", 28)])
def test_labels_name_what_a_scene_shows(label: Any, classes: int) -> None:
    source = open_scenes(32, label=label, count=2, held=40)
    assert source.classes == len(source.names) == classes
    for number, scene in zip(source.held_out(40)[1].tolist(), source.scenes(40), strict=True):
        (thing,) = scene.things
        assert source.names[number] in (thing.shape, thing.colour, f"{thing.colour} {thing.shape}")


def test_at_the_renderers_sizes_a_picture_is_the_rendered_scene(scenes: SceneSource) -> None:
    x, _ = scenes.held_out(5)
    assert torch.equal(x, as_pictures(np.stack([render(scene, 32) for scene in scenes.scenes(5)])))


def test_a_smaller_side_is_the_mean_of_the_pixels_it_covers() -> None:
    small, large = (open_scenes(side, count=1, held=8) for side in (16, 32))
    fine = (large.held_out(8)[0] + 1) * 127.5
    wanted = torch.nn.functional.avg_pool2d(fine, 2)
    assert ((small.held_out(8)[0] + 1) * 127.5 - wanted).abs().max() <= 0.5001


@pytest.mark.parametrize("side", [16, 32, 48])
def test_masks_hold_the_pixels_of_the_things_colour(side: int) -> None:
    source = open_scenes(side, count=1, held=12)
    x, _ = source.held_out(12)
    for picture, mask, scene in zip(x, source.masks(12), source.scenes(12), strict=True):
        colour = as_pictures(np.array(COLOURS[scene.things[0].colour], np.uint8)[None, None, None])[0]
        distance = (picture - colour).norm(dim=0)
        inside = torch.from_numpy(mask)
        assert distance[inside].mean() < distance[~inside].mean() / 2


def test_held_out_is_fixed_apart_from_training_and_mixed(scenes: SceneSource) -> None:
    x, labels = scenes.held_out(64)
    assert torch.equal(x[:9], scenes.held_out(9)[0])
    trained = as_pictures(scenes.train).flatten(1)
    assert torch.cdist(x.flatten(1), trained).min() > 0
    assert len(labels[:16].unique()) > 4


def test_flips_mirror_about_half_and_change_nothing_else() -> None:
    pixels = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
    labels = np.arange(4)
    given: dict[str, Any] = {"names": tuple("abcd"), "train": pixels, "labels": labels}
    source = Pictures(**given, held=pixels, held_labels=labels, flip=True)
    x, chosen = source.batch(np.random.default_rng(0), 200)
    plain = as_pictures(pixels)[chosen]
    same, mirrored = (((x == y).flatten(1).all(1)) for y in (plain, plain.flip(-1)))
    assert (same ^ mirrored).all() and 70 < int(mirrored.sum()) < 130


def test_cifar10_is_read_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pixels, labels = write_cifar10(tmp_path)
    monkeypatch.setenv("SACCADE_DATA", str(tmp_path))
    source, cached = (open_source("cifar10", 32, cache=cache) for cache in (None, tmp_path / "cache"))
    again = open_source("cifar10", 32, cache=tmp_path / "cache")
    x, found = source.held_out(len(labels))
    for other in (cached, again):
        assert torch.equal(x, other.held_out(len(labels))[0])
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    assert torch.equal(x, as_pictures(pixels)[order]) and found.tolist() == [labels[i] for i in order.tolist()]
    assert source.names[0] == "airplane" and source.classes == 10


def test_cifar10_at_half_size_averages_two_by_two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    monkeypatch.setenv("SACCADE_DATA", str(tmp_path))
    small, large = (open_source("cifar10", side).held.astype(int) for side in (16, 32))
    sums = large.reshape(-1, 16, 2, 16, 2, 3).sum((2, 4))
    assert np.abs(4 * small - sums).max() <= 4  # half a byte for each of two roundings


@pytest.mark.slow
def test_the_real_cifar10_has_ten_even_classes(data_root: Path, tmp_path: Path) -> None:
    source = open_source("cifar10", 16, cache=tmp_path)
    _, labels = source.held_out(10000)
    assert labels.bincount().tolist() == [1000] * 10
    assert source.batch(np.random.default_rng(0), 4)[0].shape == (4, 3, 16, 16)


def test_a_folder_gives_its_subfolders_as_classes(tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", {"cats": (200, 0, 0), "dogs": (0, 0, 200)}, each=10)
    source = open_source(f"folder:{tmp_path / 'pictures'}", 8, held=0.25)
    x, labels = source.held_out(5)
    assert source.names == ("cats", "dogs") and source.side == 8
    assert torch.equal(x[:, 2].mean((1, 2)) > x[:, 0].mean((1, 2)), labels == 1)


def test_a_wide_picture_keeps_its_centre(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    (tmp_path / "pictures" / "one").mkdir(parents=True)
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / "pictures" / "one" / f"{name}.png")
    x, _ = open_source(f"folder:{tmp_path / 'pictures'}", 10).held_out(1)
    assert (x == 1).all()


def test_a_folders_cache_notices_a_changed_file(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for colour in ((10, 10, 10), (90, 90, 90)):
        write_folder(root, {"only": colour}, each=3)
        source = open_source(f"folder:{root}", 4, cache=tmp_path / "cache")
        assert (source.held == colour[0]).all()
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


class Rows(list[dict[str, Any]]):
    """As much of a `datasets.Dataset` as is used."""

    class Feature:
        names = ("left", "right")

    features = {"class": Feature}


def test_rows_of_a_data_set_need_no_library() -> None:
    pixels = [np.full((6, 6, 3), 10 * i, np.uint8) for i in range(8)]
    rows = Rows({"picture": Image.fromarray(p) if i % 2 else p, "class": i % 2} for i, p in enumerate(pixels))
    source = from_dataset(rows, "picture", "class", side=3, held=Rows(rows[:2]))
    x, labels = source.held_out(2)
    assert source.names == ("left", "right") and len(source.train) == 8
    assert {(round(float((p.mean() + 1) * 12.75)), int(k)) for p, k in zip(x, labels, strict=True)} == {(0, 0), (1, 1)}
    assert len(from_dataset(rows, "picture", "class", side=3, held=0.5).train) == 4


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("imagenet", {}, "source='imagenet' is unknown; choose one of scenes, controlled-scenes, cifar10, folder:PATH"),
        ("scenes", {"flip": True}, "option 'flip' is unknown to source='scenes'; choose from label, count, held, seed"),
        ("scenes", {"label": "size"}, "label='size' is unknown; choose one of shape, colour, kind"),
        ("scenes", {"count": 0}, "count=0 must be at least 1"),
        ("scenes", {"side": 0}, "side=0 must be at least 1"),
    ],
)
def test_bad_names_and_options_are_answered(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_source(name, **options)


def test_missing_files_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SACCADE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="SACCADE_DATA=None has no cifar10/train.parquet; set it"):
        open_source("cifar10")
    monkeypatch.setenv("SACCADE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="has no cifar10/train.parquet"):
        open_source("cifar10")
    with pytest.raises(FileNotFoundError, match="nowhere is not there; give a folder"):
        open_source(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(FileNotFoundError, match="has no subfolder; put the pictures"):
        open_source(f"folder:{tmp_path}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty has no picture"):
        open_source(f"folder:{tmp_path}")


def test_a_broken_picture_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", {"one": (1, 2, 3)}, each=2)
    (tmp_path / "pictures" / "one" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(ValueError, match="torn.png cannot be read"):
        open_source(f"folder:{tmp_path / 'pictures'}", 4)
    write_cifar10(tmp_path, broken=3)
    monkeypatch.setenv("SACCADE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="picture 3 of .*train.parquet, picture/3.png, cannot be read"):
        open_source("cifar10")


def test_labels_without_a_name_are_answered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_cifar10(tmp_path, first=12)
    monkeypatch.setenv("SACCADE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="label 12 of picture 0 is outside 0 to 9; there are 10 names"):
        open_source("cifar10")


def test_a_cache_of_other_pictures_is_answered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    np.save(tmp_path / "cifar10-train-32.npy", np.zeros((2, 32, 32, 3), np.uint8))
    monkeypatch.setenv("SACCADE_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"train-32.npy holds \(2, 32, 32, 3\), not 20 pictures of side 32; remove it"):
        open_source("cifar10", cache=tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "dataset has no rows; give at least one for each class"),
        ([{"image": None, "class": 0}], "label='label' is no column; choose one of image, class"),
        ([{"image": None, "label": 0}] * 2, "image='image' of row . is no picture but NoneType; name another column"),
        ([{"image": None, "label": 0.5}], "label='label' holds float64, not whole numbers"),
        ([{"image": None, "label": 0}, {"image": None, "label": None}], "holds object, .* row 1 is None; name another"),
        ([{"image": None, "label": 0}, {"image": None, "label": 1.0}], "holds float64, .* row 1 is 1.0; name another"),
        (
            [{"image": None, "label": [1]}],
            r"label='label' holds lists, not whole numbers: row 0 is \[1\]; name another",
        ),
        ([{"image": None, "label": [[1], 2]}], "label='label' holds lists, not whole numbers"),
        ([{"image": None, "label": np.zeros(2, int)}], "label='label' holds lists, not whole numbers"),
        ([{"image": None, "label": "cat"}], "label='label' holds <U3, not whole numbers: row 0 is 'cat'"),
        ([{"image": [[1], [2, 3]], "label": 0}] * 2, "image='image' of row . is no picture but list"),
        ([{"image": np.zeros((4, 4)), "label": 0}] * 2, r"row . is no picture but float64 \(4, 4\); give bytes"),
        ([{"image": np.zeros((4, 4), np.uint16), "label": 0}] * 2, r"row . is no picture but uint16 \(4, 4\)"),
        ([{"image": np.zeros((3, 9, 9), np.uint8), "label": 0}] * 2, r"has shape \(3, 9, 9\); give \(h w\), or"),
        ([{"image": np.zeros((0, 9), np.uint8), "label": 0}] * 2, r"has shape \(0, 9\); give \(h w\), or"),
        ([{"image": Image.new("F", (2, 2)), "label": 0}] * 2, "of row . cannot be read: its grey is of floats"),
    ],
)
def test_bad_rows_are_answered(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dataset(rows, side=4)


@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,)])
def test_arrays_of_any_channels_are_pictures(channels: tuple[int, ...]) -> None:
    pixels = np.full((4, 4, *channels), 255, np.uint8)
    pixels[0] = [7, 255] if channels == (2,) else [7, 7, 7, 255] if channels == (4,) else 7
    found = from_dataset([{"image": pixels, "label": np.int64(0)}, {"image": pixels, "label": True}], side=4)
    assert found.held[0, 0].tolist() == [[7] * 3] * 4 and (found.held[0, 1:] == 255).all()


def test_labels_of_tensors_are_numbers() -> None:
    pixels = np.zeros((4, 4), np.uint8)
    rows = [{"image": pixels, "label": torch.tensor(i % 2)} for i in range(4)]
    found = from_dataset(rows, side=4, names=("a", "b"))
    assert sorted([*found.labels.tolist(), *found.held_labels.tolist()]) == [0, 0, 1, 1]


def _parquet(file: Path, columns: dict[str, Any]) -> Path:
    pa = pytest.importorskip("pyarrow", reason="the extra `data` brings pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), file)
    return file


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([{"bytes": b"", "path": "p"}, None], [0, 0], "picture 0 of .*a.parquet, p, cannot be read: cannot identify"),
        (
            [None, {"bytes": b"", "path": "p"}],
            [0, 0],
            "picture 0 of .*a.parquet is NoneType, not bytes; remove or mend",
        ),
        ([{"bytes": None, "path": "p"}] * 2, [0, 0], "picture 0 of .*a.parquet is NoneType, not bytes"),
        (["p", "q"], [0, 0], "picture 0 of .*a.parquet is str, not bytes"),
        ([None, None], [0, None], "column 'label' of .*a.parquet holds object, not whole numbers: row 1 is None"),
        ([None, None], [0.0, 1.7], "column 'label' of .*a.parquet holds float64, not whole numbers: row 0 is 0.0"),
        ([None, None], [[0], [1]], r"column 'label' of .*a.parquet holds lists, not whole numbers: row 0 is \[0\]"),
    ],
)
def test_bad_rows_of_parquet_are_answered(images: list[Any], labels: list[Any], message: str, tmp_path: Path) -> None:
    file = _parquet(tmp_path / "a.parquet", {"image": images, "label": labels})
    with pytest.raises(ValueError, match=message):
        read_parquet(file, ("one", "two"), 4)


def test_a_parquet_file_of_another_kind_is_answered(tmp_path: Path) -> None:
    file = _parquet(tmp_path / "a.parquet", {"img": [0], "label": [0]})
    with pytest.raises(ValueError, match="a.parquet has no column image; it has img, label"):
        read_parquet(file, ("one",), 4)
    for content in (b"", b"garbage", file.read_bytes()[:-9]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="a.parquet is no parquet file that can be read: "):
            read_parquet(file, ("one",), 4)


@pytest.mark.parametrize("held", [0.0, 1.0, 2])
def test_a_share_must_leave_both_sides(held: float) -> None:
    with pytest.raises(ValueError, match=f"held={held} must be between 0 and 1"):
        from_dataset([{"image": np.zeros((2, 2), np.uint8), "label": 0}] * 2, side=2, held=held)


@pytest.mark.parametrize("n", [0, 65])
def test_held_out_says_how_many_there_are(scenes: SceneSource, n: int) -> None:
    with pytest.raises(ValueError, match=f"n={n} must be 1 to 64, the number of held-out pictures"):
        scenes.held_out(n)


def test_pictures_need_one_label_each() -> None:
    pixels: Any = np.zeros((2, 2, 2, 3), np.uint8)
    given: dict[str, Any] = {"names": ("a",), "train": pixels, "held": pixels, "held_labels": np.zeros(2, np.int64)}
    with pytest.raises(ValueError, match="train has 2 pictures and 1 labels; give one label each"):
        Pictures(**given, labels=np.zeros(1, np.int64))
