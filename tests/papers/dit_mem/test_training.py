"""Training: what the loss is, that the encoder alone learns, resuming, rules and their judge, and the recipe."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade.attach import attach
from saccade.core.catalogue import recipes
from saccade.data.scenes import render_video
from saccade.papers.dit_mem import (
    DiTMem,
    DiTMemRecipe,
    Examples,
    MemoryEncoder,
    MemoryEncoderConfig,
    MemoryLoss,
    MemoryStage,
    MemoryTask,
    VideoIndex,
    train_encoder,
)
from saccade.papers.dit_mem.examples import nearest_rows
from saccade.papers.dit_mem.rules import RULES, TRAVEL, keeps_rule, rule_video, vague_caption, way_error, way_of
from saccade.papers.dit_mem.training import shifted_times, time_weights
from saccade.train.loop import Fit
from tests.tiny_videos import tiny_wan

pytestmark = pytest.mark.host
CONFIG = MemoryEncoderConfig(
    dim=32, latent=(2, 8, 8), channels=4, widths=(4, 6), heads=2, length=3, stride=(1, 2, 2),
    pools=((1, 2, 2), (2, 1, 1)),
)  # fmt: skip


def examples(n: int = 4) -> Examples:
    rng = torch.Generator().manual_seed(0)
    return Examples(
        latents=torch.randn(n, 4, 2, 8, 8, generator=rng), words=torch.randn(n, 5, 32, generator=rng),
        bank=torch.randn(6, 4, 2, 8, 8, generator=rng), nearest=torch.randint(6, (n, 2), generator=rng),
    )  # fmt: skip


def stage(steps: int = 2, **options: Any) -> MemoryStage:
    length = Fit(steps=steps, precision="no", save_every=1, sheet_every=10**6)
    return MemoryStage(fit=length, batch=3, **options)


def test_times_and_weights_are_those_of_the_paper() -> None:
    times = shifted_times(5.0)
    assert len(times) == 1000 and times[0] == 1 and times[-1] == pytest.approx(0.005 / 1.004)
    even = torch.arange(1000, 0, -1).double() / 1000
    torch.testing.assert_close(times, 5 * even / (1 + 4 * even))
    weights = time_weights(times)
    assert (
        weights.mean() == pytest.approx(1)
        and weights.min() == 0
        and times[weights.argmax()] == pytest.approx(0.5, abs=2e-3)
    )
    t = 1000 * times
    plain = torch.exp(-2 * ((t - 500) / 1000) ** 2)
    torch.testing.assert_close(weights, (plain - plain.min()) * 1000 / (plain - plain.min()).sum())


def test_the_loss_is_what_is_written() -> None:
    transformer, known = tiny_wan().transformer, examples()
    torch.manual_seed(0)
    loss = MemoryLoss(transformer, MemoryEncoder(CONFIG).eval())
    batch = MemoryTask(loss, known, stage(shift=2.0)).batch(np.random.default_rng(0))
    with attach(transformer, DiTMem(memory=loss.held)), torch.no_grad():
        found = loss(batch)
    memory, s = loss.encoder(batch["memory"]), batch["s"].reshape(-1, 1, 1, 1, 1)
    given = {
        "hidden_states": (1 - s) * batch["latents"] + s * batch["noise"], "timestep": 1000 * batch["s"],
        "encoder_hidden_states": batch["words"], "return_dict": False,
    }  # fmt: skip
    with attach(transformer, DiTMem(memory=memory.detach())), torch.no_grad():
        error = (transformer(**given)[0] - (batch["noise"] - batch["latents"])).square().mean((1, 2, 3, 4))
    torch.testing.assert_close(found["plain"], error.mean())
    torch.testing.assert_close(found["loss"], (batch["weight"] * error).mean())
    with torch.no_grad():
        assert not torch.equal(loss(batch)["plain"], found["plain"])  # detached: without memory
    assert loss.held.tokens is None


def test_the_encoder_alone_is_trained_and_filters_stay_as_they_were_drawn(tmp_path: Path) -> None:
    transformer = tiny_wan().transformer
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    torch.manual_seed(0)
    fresh = MemoryEncoder(CONFIG).state_dict()
    made = train_encoder(transformer, examples(), CONFIG, stage(), tmp_path / "a", cpu=True)
    assert all(torch.equal(before[name], value) for name, value in transformer.state_dict().items())
    assert all(p.grad is None for p in transformer.parameters())
    moved = {name for name, value in made.state_dict().items() if not torch.equal(value, fresh[name])}
    assert {name for name in fresh if "filter.weight" in name or "unused" in name}.isdisjoint(moved)
    assert {"branches.high.block1.conv.weight", "branches.low.proj.weight", "attention.v.weight"} <= moved
    again = train_encoder(transformer, examples(), CONFIG, stage(), tmp_path / "a", cpu=True)  # taken from the folder
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), again.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match="holds runs of other settings"):
        train_encoder(transformer, examples(), CONFIG, stage(shift=1.0), tmp_path / "a", cpu=True)


def test_a_training_that_goes_on_ends_with_the_same_weights(tmp_path: Path) -> None:
    transformer, known = tiny_wan().transformer, examples()
    even = replace(stage().fit.optim, warmup=0, cooldown=0)
    at = {steps: replace(stage(), fit=replace(stage().fit, steps=steps, optim=even)) for steps in (1, 3)}
    train_encoder(transformer, known, CONFIG, at[1], tmp_path / "a", cpu=True)
    on = train_encoder(transformer, known, CONFIG, at[3], tmp_path / "a", cpu=True)
    once = train_encoder(transformer, known, CONFIG, at[3], tmp_path / "b", cpu=True)
    assert all(torch.equal(a, b) for a, b in zip(on.state_dict().values(), once.state_dict().values(), strict=True))


@pytest.mark.slow
def test_memory_that_tells_the_video_lowers_the_loss(tmp_path: Path) -> None:
    """Two videos under one caption; each is shown itself."""
    transformer, known = tiny_wan().transformer, examples(2)
    known = replace(
        known, words=known.words[:1].expand(2, -1, -1), bank=known.latents, nearest=torch.tensor([[0], [1]])
    )
    length = Fit(steps=150, precision="no", save_every=10**3, sheet_every=10**6, decay=0.9)
    long = MemoryStage(fit=length, batch=4)
    made = train_encoder(transformer, known, replace(CONFIG, dropout=0.0), long, tmp_path, cpu=True)
    loss = MemoryLoss(transformer, made)
    batch = MemoryTask(loss, known, replace(long, batch=64)).batch(np.random.default_rng(9))
    with attach(transformer, DiTMem(memory=loss.held)), torch.no_grad():
        own, other = loss(batch)["loss"], loss(batch | {"memory": batch["memory"].roll(1, 0)})["loss"]
    assert own < other


def test_neighbours_leave_out_the_very_video() -> None:
    index = VideoIndex(np.eye(3) + 0.1, ["a", "b", "c"])
    rows = {"a": 2, "b": 0, "c": 1}
    found = nearest_rows(index, np.eye(3), 2, rows=rows, own=["a", "b", "c"])
    assert found.tolist()[0] in ([0, 1], [1, 0]) and nearest_rows(index, np.eye(3), 1, rows=rows).tolist() == [
        [2], [0], [1],
    ]  # fmt: skip
    with pytest.raises(ValueError, match="caption 0 has 2 neighbours; give a larger bank, or k below 3"):
        nearest_rows(index, np.eye(3), 3, rows=rows, own=["a", "b", "c"])
    with pytest.raises(ValueError, match="is in the index and has no row"):
        nearest_rows(index, np.eye(3), 3, rows={"a": 0})


@pytest.mark.parametrize("shape", RULES)
def test_a_rendered_video_keeps_its_rule_and_another_does_not(shape: str) -> None:
    rng = np.random.default_rng(0)
    video = rule_video(rng, shape=shape, colour="red")
    assert vague_caption(video) == f"a red {shape} moving"
    kept = keeps_rule([*render_video(video, 48)], video)
    assert kept.error < 0.02 and kept.right == 1 and kept.colour == "red" and kept.seen == 1
    other = rule_video(rng, shape=next(each for each in RULES if each != shape), colour="blue")
    broken = keeps_rule([*render_video(other, 48)], video)
    assert broken.error > TRAVEL / 3 and broken.right == 0 and broken.colour == "blue"
    still = keeps_rule([render_video(video, 48)[0]] * 9, video)
    assert still.error == pytest.approx(TRAVEL / 2) and still.right == 0
    assert keeps_rule([np.zeros((48, 48, 3), np.uint8)] * 9, video).seen == 0


def test_frames_that_show_nothing_keep_the_place_before() -> None:
    way = way_of([None, (0.2, 0.5), None, (0.2 + TRAVEL, 0.5)])
    assert way.tolist() == [[0, 0], [0, 0], [0, 0], [pytest.approx(TRAVEL), 0]]
    assert way_error(way, "right") == pytest.approx(TRAVEL * (1 / 3 + 2 / 3) / 4)


@pytest.mark.bad_input
def test_examples_and_stages_that_do_not_fit_are_named() -> None:
    known = examples()
    with pytest.raises(ValueError, match="examples differ in number: latents 4, words 3, nearest 4"):
        replace(known, words=known.words[:3])
    with pytest.raises(ValueError, match="of a bank of 1 videos"):
        replace(known, bank=known.bank[:1])
    with pytest.raises(ValueError, match="batch=0 videos must be at least 1"):
        MemoryStage(batch=0)
    with pytest.raises(ValueError, match="shift=0 must be positive"):
        MemoryStage(shift=0)
    with pytest.raises(ValueError, match="shown=0 must be a whole number of at least 1"):
        DiTMemRecipe(shown=0)
    transformer = tiny_wan().transformer
    loss = MemoryLoss(transformer, MemoryEncoder(CONFIG, dim=16))
    batch = MemoryTask(loss, known, stage()).batch(np.random.default_rng(0))
    with attach(transformer, DiTMem(memory=loss.held)), pytest.raises(ValueError, match="make the encoder with dim=32"):
        loss(batch)


@pytest.mark.slow
def test_the_recipe_stores_an_encoder_that_loads(tmp_path: Path) -> None:
    short = DiTMemRecipe(bank=28, count=4, shown=2, train=stage(1))
    place = short.run(tmp_path)
    made = MemoryEncoder.from_pretrained(place)
    assert made.config == short.encoder and short.run(tmp_path) == place
    with pytest.raises(ValueError, match="holds runs of other settings"):
        replace(short, shown=1).run(tmp_path)
    assert recipes()["dit-mem"].module == "saccade.papers.dit_mem.recipe"
