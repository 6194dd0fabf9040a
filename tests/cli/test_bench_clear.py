"""`saccade bench clear`: its figures are the spec's, its page holds them, its arms cost what they say."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.cli import bench_clear, clear_counts, clear_model
from saccade.cli.clear_arms import DENSE, LINEAR, disc, pooled_only, proportional, windows
from saccade.cli.clear_page import write_page
from saccade.core.layout import Layout

LAYOUT = Layout.joint(text=32, grid=(1, 16, 16))


@pytest.fixture(scope="module")
def pipe() -> Any:
    return bench_clear._pipeline("scenes-flux")


@pytest.mark.slow
def test_counts_are_the_papers() -> None:
    rows = {(row["side"], row["variant"]): row for row in clear_counts.counts((1024, 8192))}
    assert rows[1024, "r=8, d=4"]["pairs"] == 6_215_076
    assert rows[1024, "dense"]["gflop"] == pytest.approx(260.92, abs=0.005)
    assert 100 * rows[8192, "r=32"]["share"] == pytest.approx(1.544, abs=5e-4)


@pytest.mark.slow
def test_tiles_touch_fewer_blocks_than_the_raster() -> None:
    small, large = clear_counts.touched((1024, 2048), (8,))
    assert (small["pairs"], small["raster"]) == pytest.approx((0.243, 0.417), abs=5e-4)
    assert (large["pairs"], large["raster"]) == pytest.approx((0.070, 0.167), abs=5e-4)
    assert small["pairs"] < small["tiles"] < 0.95 * small["raster"]
    assert large["pairs"] < large["tiles"] < 0.75 * large["raster"]


@pytest.mark.slow
def test_times_are_positive_and_have_a_slope_from_4096_tokens_on() -> None:
    found = clear_counts.times((8, 64), heads=1, repeats=1)
    assert [row["image_tokens"] for row in found["rows"]] == [64, 4096]
    assert all(
        row[f"{arm}_{clock}"] > 0 for row in found["rows"] for arm in ("disc", "dense") for clock in ("ms", "cpu_ms")
    )
    assert found["slope"] == {"disc": None, "dense": None}  # one size is no line
    rows = [{"image_tokens": n, "disc_cpu_ms": 2.0 * n} for n in (4096, 8192, 16384)]
    assert clear_counts._slope(rows, "disc") == pytest.approx(1)


@pytest.mark.parametrize(
    ("arm", "keys"),
    [(DENSE, 288), (disc(99), 288), (proportional(9), 288), (windows(8), 96), (pooled_only(4), 48), (LINEAR, 0)],
    ids=str,
)
def test_an_arm_says_what_it_costs(arm: Any, keys: int) -> None:
    text, image = LAYOUT.text_n, LAYOUT.image.n
    assert arm.share(LAYOUT) * LAYOUT.n**2 == pytest.approx(text * LAYOUT.n + image * keys)


def test_labels_tell_arms_apart() -> None:
    for grid in (bench_clear.SMALL, bench_clear.LARGE):
        labels = [arm.label for arm in bench_clear.arms(grid)]
        assert len(set(labels)) == len(labels)
        assert {arm.label for arm in bench_clear.drawn(grid)} <= set(labels)


@pytest.mark.slow
@pytest.mark.host
def test_a_covering_disc_is_the_teacher_and_losses_grow_as_it_shrinks(pipe: Any) -> None:
    arms = (DENSE, disc(22), disc(8), disc(3), disc(1))
    rows = clear_model.losses(pipe, 16, arms, pictures=2, say=lambda what: None)
    distances = [row["teacher_mse"] for row in rows]
    assert distances[0] == distances[1] == 0
    assert distances == sorted(distances) and distances[-1] > 0.05
    assert rows[0]["extra_loss"]["mid"] == 0 and math.isclose(rows[0]["flow_loss"], rows[1]["flow_loss"])


@pytest.mark.slow
@pytest.mark.host
def test_pictures_of_the_dense_arm_are_the_reference(pipe: Any) -> None:
    rows = clear_model.samples(pipe, 8, (DENSE, disc(99), disc(1.5)), captions=2, steps=2, say=lambda what: None)
    dense, covering, small = rows
    assert dense["psnr"] is None and dense["ssim"] == 1
    assert covering["psnr"] is None and covering["ssim"] == pytest.approx(1)  # no picture differs in any bit
    assert small["ssim"] < 1 and 0 < small["psnr"] < 60
    assert all(0 <= row["kept"]["mid"] <= 1 for row in rows)


@pytest.mark.slow
def test_the_page_holds_every_figure(tmp_path: Path) -> None:
    row = {"arm": "disc r=3", "family": "disc", "reach": 3, "scaled": False, "pairs": 0.25}
    loss = {"flow_loss": 0.5, "teacher_mse": 0.1234, "relative_teacher_mse": 0.2,
            "extra_loss": {"mid": 0.1, "low": 0.05, "high": 0.15}}  # fmt: skip
    drawn = {"psnr": 20.04, "ssim": 0.9, "kept": {"mid": 0.5, "low": 0.2, "high": 0.8}, "attributes": {"colour": 0.75}}
    figures = {
        **bench_clear.run(parts=("counts",)),
        "touched": [{"side": 1024, "radius": 8, "pairs": 0.243, "raster": 0.417, "tiles": 0.3}],
        "times": clear_counts.times((4, 64), heads=1, repeats=1),
        "losses": [{"grid": 16, "pictures": 2, "weights": "0123456789ab", "rows": [row | loss]}],
        "samples": [{"grid": 16, "captions": 2, "steps": 3, "weights": "0123456789ab", "rows": [row | drawn]}],
    }
    json.dumps(figures, allow_nan=False)
    write_page(figures, tmp_path / "results" / "clear.md")
    text = (tmp_path / "results" / "clear.md").read_text()
    for value in ("0.1234", "20.0 dB", "0.50 [0.20, 0.80]", "5,166,500", "0.462 %", "0.417", "0.1000 [0.0500, 0.1500]"):
        assert value in text
    pictures = {file.name for file in (tmp_path / "results").glob("*.svg")}
    assert pictures == {f"clear-{name}.svg" for name in ("mask", "losses", "times", "blocks")}
    assert all(f"({name})" in text for name in pictures - {"clear-mask.svg"})


def test_the_digest_tells_weights_apart() -> None:
    one, two = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert clear_model.digest(one) == clear_model.digest(one.double()) != clear_model.digest(two)


@pytest.mark.bad_input
def test_unknown_parts_and_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"parts=speed must be among counts, touched, times, losses, samples"):
        bench_clear.run(parts=("speed",))
    with pytest.raises(ValueError, match=r"pictures=24 must be two numbers of at least 1, as 24,8"):
        bench_clear._two("24", "pictures")


def test_the_same_noise_and_times_for_every_arm(pipe: Any) -> None:
    one, two = (clear_model.noised(pipe, 8, 2) for _ in range(2))
    assert torch.equal(one.noise, two.noise) and torch.equal(one.t, two.t)
    assert torch.equal(one.target, one.noise - one.latents)
