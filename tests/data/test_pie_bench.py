"""PIE-Bench's layout, read from a folder of rendered scenes."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.data.pie_bench import decode, encode, read, resized
from saccade.data.scenes import masks
from tests.pie_folder import SCENE, wide, write_folder


def test_runs_are_pixels_in_reading_order_and_the_border_is_set() -> None:
    found = decode([9, 2, 17, 1], side=8)
    wanted = np.zeros((8, 8), bool)
    wanted[1, 1:3] = wanted[2, 1] = True
    wanted[[0, -1]] = wanted[:, [0, -1]] = True
    assert np.array_equal(found, wanted)


@given(st.integers(0, 10_000), st.integers(3, 17), st.floats(0, 1))
def test_encoding_and_decoding_a_mask_gives_it_back_but_for_the_border(seed: int, side: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((side, side)) < share
    assert np.array_equal(decode(encode(mask), side)[1:-1, 1:-1], mask[1:-1, 1:-1])


def test_a_run_may_reach_past_the_end() -> None:
    assert decode([0, 10**6], side=4).all()


@pytest.mark.parametrize("side", [8, 16, 24])
def test_a_mask_of_blocks_is_resized_exactly(side: int) -> None:
    small = np.random.default_rng(0).random((8, 8)) < 0.5
    large = small.repeat(3, 0).repeat(3, 1)
    assert np.array_equal(resized(large, 8), small)
    assert np.array_equal(resized(resized(large, side), 8), small)


def test_tasks_come_without_brackets_and_with_the_word_they_are_about(tmp_path: Path) -> None:
    colour, delete = read(write_folder(tmp_path))
    assert (colour.key, colour.type, colour.type_id) == ("000", "change attribute colour", 6)
    assert (colour.source, colour.target) == ("a red circle and a blue cross", "a green circle and a blue cross")
    assert (colour.words, delete.words) == (("circle",), ("blue cross",))
    assert delete.source == "a red circle and a blue cross"
    assert colour.picture().shape == (1, 512, 512, 3)
    assert np.array_equal(colour.mask()[1:-1, 1:-1], wide(masks(SCENE, 512)[0])[1:-1, 1:-1])
    assert colour.mask(64).shape == (64, 64)


@pytest.mark.bad_input
def test_what_is_amiss_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no mapping_file.json; give the folder PIE-Bench unpacks to"):
        read(tmp_path)
    write_folder(tmp_path)
    index = tmp_path / "mapping_file.json"
    entries = json.loads(index.read_text())
    del entries["001"]["mask"]
    index.write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=r"task '001' of mapping_file.json has no mask"):
        read(tmp_path)
    for runs in ([1, 2, 3], [-1, 2]):
        with pytest.raises(ValueError, match=f"mask of {len(runs)} numbers must be pairs of start and length"):
            decode(runs)
    (tmp_path / "annotation_images" / "6_colour" / "000.png").unlink()
    entries["001"]["mask"] = []
    index.write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="000.png' is missing"):
        read(tmp_path)[0].picture()


def test_an_index_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    index = write_folder(tmp_path) / "mapping_file.json"
    plain = read(tmp_path)
    index.write_text(index.read_text(), encoding="utf-8-sig")
    assert [edit.source for edit in read(tmp_path)] == [edit.source for edit in plain]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mask", None, r"mask=None; give a list of starts and lengths, \[\] for no pixel"),
        ("mask", "1 2", "mask='1 2'; give a list"),
        ("mask", [0, None], "mask holds None; give whole numbers"),
        ("mask", [0, 1.5], "mask holds 1.5; give whole numbers"),
        ("mask", [[0, 1]], r"mask holds \[0, 1\]; give whole numbers"),
        ("mask", [1, 2, 3], "mask of 3 numbers must be pairs of start and length"),
        ("image_path", None, "image_path=None; give a text"),
        ("original_prompt", None, "original_prompt=None; give a text"),
        ("editing_prompt", 7, "editing_prompt=7; give a text"),
        ("blended_word", 7, "blended_word=7; give a text"),
        ("editing_type_id", None, "editing_type_id=None; give a number"),
        ("editing_type_id", "six", "editing_type_id='six'; give a number"),
    ],
)
def test_a_field_of_another_kind_is_named(field: str, value: object, message: str, tmp_path: Path) -> None:
    index = write_folder(tmp_path) / "mapping_file.json"
    entries = json.loads(index.read_text())
    entries["001"][field] = value
    index.write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=rf"task '001' of mapping_file.json.*{message}"):
        read(tmp_path)


def test_a_null_word_is_none(tmp_path: Path) -> None:
    index = write_folder(tmp_path) / "mapping_file.json"
    entries = json.loads(index.read_text())
    entries["000"]["blended_word"] = None
    index.write_text(json.dumps(entries))
    assert read(tmp_path)[0].words == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "mapping_file.json' is no index in JSON: "),
        (b'{"a": "\xff"}', "mapping_file.json' is no index in JSON: .*decode"),
        (b"[]", "mapping_file.json' holds list; its tasks must stand under their keys"),
        (b'{"000": null}', "task '000' of mapping_file.json is None; give a dict of image_path"),
    ],
)
def test_an_index_that_is_none_is_named(text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "mapping_file.json").write_bytes(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)
