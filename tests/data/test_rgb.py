"""Every door that takes a picture turns it upright, lays its alpha on white, keeps deep grey, and refuses the rest."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from saccade.data.labelled import from_dataset, open_folder
from saccade.data.labelled.cifar import read_parquet
from saccade.data.pie_bench import load
from saccade.data.rgb import BLACK, as_picture, as_rgb, open_picture
from saccade.data.scenes import Scene, Thing, parse, render

SIDE = 8
RAMP = np.linspace(0, 65535, SIDE).astype(np.uint16)
RAMP_IN_BYTES = [0, 36, 73, 109, 146, 182, 219, 255]


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores so that a viewer who turns it as EXIF says shows `upright`."""
    ways: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x),
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: np.rot90(x, -1),
    }
    return np.ascontiguousarray(ways[orientation](upright))


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(upright: np.ndarray, orientation: int, kind: str = "png") -> bytes:
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if kind == "webp" else {"quality": 100, "subsampling": 0} if kind == "jpeg" else {}
    return encoded(Image.fromarray(stored(upright, orientation)), kind, exif=exif, **options)


def through_folder(data: bytes, place: Path) -> np.ndarray:
    (place / "pictures" / "one").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (place / "pictures" / "one" / name).write_bytes(data)
    return open_folder(place / "pictures", SIDE).held[0]


def through_parquet(data: bytes, place: Path) -> np.ndarray:
    pa = pytest.importorskip("pyarrow", reason="the extra `data` brings pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"image": [{"bytes": data, "path": "a.png"}], "label": [0]}), place / "a.parquet")
    return read_parquet(place / "a.parquet", ("one",), SIDE)[0][0]


def through_rows(data: bytes, place: Path) -> np.ndarray:
    return from_dataset([{"image": Image.open(io.BytesIO(data)), "label": 0}] * 2, side=SIDE).held[0]


def through_pie_bench(data: bytes, place: Path) -> np.ndarray:
    (place / "a.png").write_bytes(data)
    return (load(place / "a.png")[0] * 255).round().astype(np.uint8)


def through_edit(data: bytes, place: Path) -> np.ndarray:
    return (as_picture(Image.open(io.BytesIO(data)))[0] * 255).round().astype(np.uint8)


DOORS = [through_folder, through_parquet, through_rows, through_pie_bench, through_edit]
Door = Callable[[bytes, Path], np.ndarray]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("door", DOORS)
def test_every_door_turns_a_picture_upright(door: Door, orientation: int, tmp_path: Path) -> None:
    upright = np.random.default_rng(0).integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)
    assert np.array_equal(door(turned(upright, orientation), tmp_path), upright)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp"])
def test_every_format_is_turned_once(kind: str, orientation: int) -> None:
    upright = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 50, np.ones((8, 8), np.uint8))
    upright = np.stack([upright] * 3, -1)
    image = open_picture(io.BytesIO(turned(upright, orientation, kind)), "picture")
    for found in (image, as_rgb(image)):
        assert found.size == (24, 16)
        assert np.abs(np.asarray(found).astype(int) - upright).max() <= 3  # JPEG


def test_orientation_set_in_memory_counts_and_the_picture_given_stays_as_it_is() -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    image.getexif()[0x112] = 6
    assert as_rgb(image).size == (2, 3) and image.size == (3, 2) and image.getexif()[0x112] == 6


def test_broken_exif_says_nothing() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    image = Image.fromarray(pixels)
    image.info["exif"] = b"Exif\0\0no header at all"
    assert np.array_equal(np.asarray(as_rgb(image)), pixels)


def test_a_scene_is_read_upright() -> None:
    scene = Scene(
        things=(Thing(colour="red", shape="circle", size="large", x=0.25, y=0.3),),
        background="white",
    )
    (thing,) = parse(Image.open(io.BytesIO(turned(render(scene, 64), 8)))).things
    assert (round(thing.x, 2), round(thing.y, 2)) == (0.25, 0.3)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_scales_grey_of_16_bits(door: Door, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(RAMP[None].repeat(SIDE, 0)))
    assert door(data, tmp_path)[3].tolist() == [[value] * 3 for value in RAMP_IN_BYTES]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
def test_deep_grey_of_every_mode(mode: str) -> None:
    order = ">u2" if mode == "I;16B" else "<i4" if mode == "I" else "<u2"
    image = Image.frombytes(mode, (SIDE, 1), RAMP.astype(order).tobytes())
    assert np.asarray(as_rgb(image))[0, :, 0].tolist() == RAMP_IN_BYTES


@pytest.mark.parametrize(
    ("kind", "dtype"), [("png", np.uint16), ("tiff", np.uint16), ("tiff", np.int32), ("ppm", np.uint16)]
)
def test_deep_grey_of_files(kind: str, dtype: Any) -> None:
    file = io.BytesIO(encoded(Image.fromarray(RAMP.astype(dtype)[None]), kind))
    assert np.asarray(open_picture(file, "picture"))[0, :, 1].tolist() == RAMP_IN_BYTES


def test_every_value_of_16_bits_becomes_the_nearest_byte() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(np.asarray(as_rgb(Image.fromarray(values)))[..., 0], np.rint(values / 257))


def test_a_tiff_of_12_bits_is_white_at_4095() -> None:
    packed = b"\x00\x0f\xff\x80\x00\x00"  # 0, 4095, 2048 and padding
    fields = [(256, 3), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 5)]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in fields)
    data = struct.pack("<2sHI", b"II", 42, 14) + packed + struct.pack("<H", len(fields)) + entries + b"\0" * 4
    assert np.asarray(open_picture(io.BytesIO(data), "picture"))[0, :, 0].tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, 70000]], np.int32), "picture cannot be read: its grey lies in 0 to 70000, not in 0 to 65535"),
        (np.array([[-1, 7]], np.int32), "its grey lies in -1 to 7, not in 0 to 65535; save it with 8 or 16 bits"),
        (np.array([[0, 1]], np.float32), "its grey is of floats, whose range is unknown; save it with 8 or 16 bits"),
    ],
)
def test_grey_without_a_known_range_is_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_rgb(Image.fromarray(values))


HALF, CLEAR = (255, 0, 0, 128), (0, 255, 0, 0)
ON_WHITE = [[255, 127, 127], [255, 255, 255]]


def _palette(first: int = 0) -> Image.Image:
    image = Image.new("P", (2, 1), first)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    return image


def _with_alpha(mode: str) -> Image.Image:
    image = Image.new("RGBA", (2, 1), HALF)
    image.putpixel((1, 0), CLEAR)
    if mode == "PA":
        image = _palette().convert("PA")
        image.putpixel((0, 0), (0, 128))
        image.putpixel((1, 0), (1, 0))
    return image if mode in ("RGBA", "PA") else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "PA", "RGBa"])
def test_alpha_is_laid_on_white(mode: str) -> None:
    assert np.asarray(as_rgb(_with_alpha(mode)))[0].tolist() == ON_WHITE


def test_a_palette_with_alpha_is_laid_on_white() -> None:
    data = encoded(_palette(), transparency=bytes([128, 0]))
    assert np.asarray(open_picture(io.BytesIO(data), "picture"))[0].tolist() == ON_WHITE


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("mode", "seen", "hidden"), [("RGBA", (9, 9, 9, 255), (9, 9, 9, 0)), ("LA", (9, 255), (9, 0))])
def test_no_door_shows_what_is_transparent(door: Door, mode: str, seen: Any, hidden: Any, tmp_path: Path) -> None:
    image = Image.new(mode, (SIDE, SIDE), hidden)
    image.paste(seen, (0, 0, SIDE // 2, SIDE))
    found = door(encoded(image), tmp_path)
    assert (found[:, : SIDE // 2] == 9).all() and (found[:, SIDE // 2 :] == 255).all()


@pytest.mark.parametrize(
    ("image", "key"),
    [
        (Image.new("L", (2, 1), 7), 7),
        (Image.new("RGB", (2, 1), (1, 2, 3)), (1, 2, 3)),
        (_palette(1), 1),
        (Image.fromarray(np.full((1, 2), 700, np.uint16)), 700),
    ],
)
def test_a_colour_that_stands_for_transparency_is_laid_on_white(image: Image.Image, key: Any) -> None:
    data = encoded(image, transparency=key)
    assert (np.asarray(open_picture(io.BytesIO(data), "picture")) == 255).all()
    assert (np.asarray(open_picture(io.BytesIO(data), "picture", background=BLACK)) == 0).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_other_modes_are_as_pillow_has_them(mode: str) -> None:
    image = Image.new("RGB", (3, 2), (255, 0, 0)).convert(mode)
    assert np.array_equal(np.asarray(as_rgb(image)), np.asarray(image.convert("RGB")))


def _bomb() -> bytes:
    data = bytearray(encoded(Image.new("L", (1, 1))))
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_bomb(), "exceeds limit of"),
        (b"", "cannot identify image file"),
        (encoded(Image.new("RGB", (64, 64)), "jpeg")[:200], "cannot identify|truncated|broken"),
        (encoded(Image.effect_noise((64, 64), 50))[:900], "truncated"),
    ],
)
@pytest.mark.parametrize("door", [through_folder, through_parquet, through_pie_bench])
def test_what_is_no_whole_picture_is_named(door: Door, data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"(?i)a.*(png|parquet).* cannot be read: .*({reason})"):
        door(data, tmp_path)


def test_a_large_picture_is_no_warning_that_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(ValueError, match="picture cannot be read: .*decompression bomb"):
        open_picture(io.BytesIO(encoded(Image.new("L", (8, 8)))), "picture")


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3), (4, 4, 3)])
def test_arrays_are_checked(shape: tuple[int, ...]) -> None:
    array = np.full(shape, 2.0 if shape == (4, 4, 3) else 0.5)
    with pytest.raises(ValueError, match=r"a picture of float64 .* must be \(h w 3\), bytes or floats in \[0, 1\]"):
        as_picture(array)
