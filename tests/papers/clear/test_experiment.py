"""CLEAR's experiment: its figures are the spec's, its page holds them, its arms cost what they say."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.core.layout import Layout
from saccade.experiments import Figures, Results
from saccade.experiments.page import made
from saccade.papers.clear import costs, zero_shot
from saccade.papers.clear.arms import DENSE, LINEAR, LOSS_ARMS, SAMPLE_ARMS, disc, pooled_only, proportional, windows
from saccade.papers.clear.sections import CLAIMS, SECTIONS
from saccade.pipelines.shared import shared_pipeline

LAYOUT = Layout.joint(text=32, grid=(1, 16, 16))


@pytest.fixture(scope="module")
def pipe() -> Any:
    return shared_pipeline("scenes-flux")


def test_counts_are_the_papers() -> None:
    rows = {(row["side"], row["variant"]): row["pairs"] for row in costs.pairs_by_side((1024, 8192))}
    assert rows[1024, "r=8, d=4"] == 6_215_076
    assert costs.gflop(rows[1024, "dense"]) == pytest.approx(260.92, abs=0.005)
    assert 100 * rows[8192, "r=32"] / rows[8192, "dense"] == pytest.approx(1.544, abs=5e-4)


def test_tiles_touch_fewer_blocks_than_the_raster() -> None:
    small, large = costs.blocks_touched((1024, 2048), (8,))
    assert (small["pairs"], small["raster"]) == pytest.approx((0.243, 0.417), abs=5e-4)
    assert (large["pairs"], large["raster"]) == pytest.approx((0.070, 0.167), abs=5e-4)
    assert small["pairs"] < small["tiles"] < 0.95 * small["raster"]
    assert large["pairs"] < large["tiles"] < 0.75 * large["raster"]


def test_times_are_positive_and_have_a_slope_from_4096_tokens_on() -> None:
    rows = [costs.time_of(side, repeats=1, heads=1) for side in (8, 64)]
    assert [row["image_tokens"] for row in rows] == [64, 4096]
    assert all(row[f"{arm}_{clock}"] > 0 for row in rows for arm in ("disc", "dense") for clock in ("ms", "cpu_ms"))
    assert costs.slope(rows, "disc") is None and costs.slope(rows, "dense") is None  # one size is no line
    rows = [{"image_tokens": n, "disc_cpu_ms": 2.0 * n} for n in (64, 4096, 8192, 16384)]
    assert costs.slope(rows, "disc") == pytest.approx(1)


@pytest.mark.parametrize(
    ("arm", "keys"),
    [(DENSE, 288), (disc(99), 288), (proportional(9), 288), (windows(8), 96), (pooled_only(4), 48), (LINEAR, 0)],
    ids=str,
)
def test_an_arm_says_what_it_costs(arm: Any, keys: int) -> None:
    text, image = LAYOUT.text_n, LAYOUT.image.n
    assert arm.share(LAYOUT) * LAYOUT.n**2 == pytest.approx(text * LAYOUT.n + image * keys)


def test_labels_tell_arms_apart() -> None:
    for losses, samples in zip(LOSS_ARMS, SAMPLE_ARMS, strict=True):
        labels = [arm.label for arm in losses]
        assert len(set(labels)) == len(labels)
        assert {arm.label for arm in samples} <= set(labels)
        assert losses[0] == samples[0] == DENSE  # whose pictures are the reference


@pytest.mark.slow
@pytest.mark.host
def test_a_covering_disc_is_the_teacher_and_losses_grow_as_it_shrinks(pipe: Any) -> None:
    arms = (DENSE, disc(22), disc(8), disc(3), disc(1))
    rows = list(zero_shot.losses(pipe, 16, arms, pictures=2))
    distances = [row["teacher_mse"] for row in rows]
    assert distances[0] == distances[1] == 0
    assert distances == sorted(distances) and distances[-1] > 0.05
    assert rows[0]["extra"] == 0 and math.isclose(rows[0]["flow_loss"], rows[1]["flow_loss"])


@pytest.mark.slow
@pytest.mark.host
def test_pictures_of_the_dense_arm_are_the_reference(pipe: Any) -> None:
    rows = list(zero_shot.samples(pipe, 8, (DENSE, disc(99), disc(1.5)), captions=2, steps=2))
    dense, covering, small = rows
    assert dense["psnr"] is None and dense["ssim"] == 1
    assert covering["psnr"] is None and covering["ssim"] == pytest.approx(1)  # no picture differs in any bit
    assert small["ssim"] < 1 and 0 < small["psnr"] < 60
    assert all(0 <= row["kept"] <= 1 for row in rows)


def results() -> Results:
    row = {"grid": 16, "arm": "disc r=8", "family": "disc", "scaled": False, "pairs": 0.25, "weights": "0123456789ab"}
    extra = {"extra": 0.1, "extra_low": 0.05, "extra_high": 0.15}
    loss = {"flow_loss": 0.5, "teacher_mse": 0.1234, "relative": 0.2, **extra}
    sample = {"psnr": 20.04, "ssim": 0.9, "kept": 0.5, "kept_low": 0.2, "kept_high": 0.8, "colour": 0.75, "shape": None}
    scaled = {"grid": 32, "arm": "dense proportional", "family": "dense", "scaled": True}
    said = {"grids": (16, 32), "pictures": (16, 4), "captions": (12, 3), "steps": 16, "repeats": 1, "model": "any"}
    return Results(
        device="any", date="2026-01-01", versions={"torch": "2"}, settings=said,
        tables={
            "counts": list(costs.pairs_by_side((1024, 8192))),
            "touched": [{"side": 1024, "radius": 8, "pairs": 0.243, "raster": 0.417, "tiles": 0.3}],
            "times": [costs.time_of(side, repeats=1, heads=1) for side in (4, 8)],
            "losses": [row | loss, row | loss | scaled],
            "samples": [row | sample, row | sample | scaled],
        },
    )  # fmt: skip


def test_the_page_holds_every_figure(tmp_path: Path) -> None:
    parts = made(SECTIONS, results(), Figures(folder=tmp_path, name="clear"))
    text = "\n".join(parts.values())
    for value in ("0.1234", "20.0 dB", "0.50 [0.20, 0.80]", "5,166,500", "0.462 %", "0.417", "0.1000 [0.0500, 0.1500]"):
        assert value in text
    pictures = {file.name for file in tmp_path.glob("*.svg")}
    assert pictures == {f"clear-{name}.svg" for name in ("mask", "losses", "times", "blocks")}
    assert all(f"({name})" in text for name in pictures)


def test_claims_are_decided_by_the_interval_of_the_extra_loss() -> None:
    found = results()
    assert [claim.verdict(found) for claim in CLAIMS] == ["confirmed", "refuted"]
    for row in found.rows("losses"):
        row |= {"extra_low": None, "extra_high": None}  # of a single picture
    assert [claim.verdict(found) for claim in CLAIMS] == ["undecided", "undecided"]


def test_the_digest_tells_weights_apart() -> None:
    one, two = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert zero_shot.digest(one) == zero_shot.digest(one.double()) != zero_shot.digest(two)


def test_the_same_noise_and_times_for_every_arm(pipe: Any) -> None:
    one, two = (zero_shot.noised(pipe, 8, 2) for _ in range(2))
    assert torch.equal(one.noise, two.noise) and torch.equal(one.t, two.t)
    assert torch.equal(one.target, one.noise - one.latents)
