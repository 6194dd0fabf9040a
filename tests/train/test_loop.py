"""The loop on a task small enough to know its answer."""

import json
import signal
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.train.averaging import Average, decay_at
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim, optimisers, rate_at
from saccade.train.records import DivergedError


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.out = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        error = self.out(self.hidden(batch["x"]).tanh())[:, 0] - batch["x"].sum(1).tanh()
        return {"loss": error.square().mean(), "worst": error.abs().max()}


class LineTask:
    def __init__(self) -> None:
        self.module = Line()

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"x": torch.from_numpy(rng.standard_normal((32, 4), dtype=np.float32))}

    def uses_muon(self, name: str) -> bool:
        return name.startswith("hidden")

    def sheet(self) -> np.ndarray:
        return np.zeros((4, 4, 3), np.uint8)


FIT = Fit(steps=60, precision="no", log_every=5, save_every=1000, sheet_every=30, decay=0.9, optim=Optim(lr=1e-2))


class StoppedTask(LineTask):
    """Ctrl-C is pressed while its seventh batch is made."""

    made = 0

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        self.made += 1
        if self.made == 7:
            signal.raise_signal(signal.SIGINT)
        return super().batch(rng)


def test_ctrl_c_saves_the_step_and_the_same_command_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = fit(LineTask(), FIT, tmp_path / "whole", cpu=True)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(StoppedTask(), FIT, tmp_path / "stopped", cpu=True)
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.load(tmp_path / "stopped" / "checkpoint.pt")["step"] == 7
    again = fit(LineTask(), FIT, tmp_path / "stopped", cpu=True)
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_the_loss_falls_and_the_records_are_written(tmp_path: Path) -> None:
    task = LineTask()
    average = fit(task, FIT, tmp_path, cpu=True)
    rows = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(5, 61, 5))
    assert rows[-1]["loss"] < rows[0]["loss"] / 3
    assert {"worst", "rate", "seconds"} <= rows[0].keys()
    assert {"loss.png", "sheet-000030.png", "average.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    assert all(torch.equal(value, average[name]) for name, value in task.module.state_dict().items())


class DoubleTask(LineTask):
    """The same in float64, and one entry that is not one a row."""

    shared = ("scale",)

    def __init__(self) -> None:
        super().__init__()
        self.module.double()

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"x": super().batch(rng)["x"].double(), "scale": torch.ones(3)}


@pytest.mark.parametrize("parts", [2, 4, 32])
def test_parts_of_a_batch_add_up_to_it(parts: int, tmp_path: Path) -> None:
    config = replace(FIT, steps=10)
    whole = fit(DoubleTask(), config, tmp_path / "whole", cpu=True)
    apart = fit(DoubleTask(), replace(config, accumulate=parts), tmp_path / "parts", cpu=True)
    torch.testing.assert_close(apart, whole, rtol=0, atol=1e-12)
    assert not torch.equal(whole["out.weight"], DoubleTask().module.out.weight)
    losses = [
        json.loads((tmp_path / name / "loss.jsonl").read_text().splitlines()[-1])["loss"] for name in ("whole", "parts")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_batch_that_cannot_be_shared_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="batch of 32 rows cannot be shared out evenly among processes=1 x accumulate=3"
    ):
        fit(LineTask(), replace(FIT, accumulate=3), tmp_path, cpu=True)


class BreakingTask(LineTask):
    """Its losses are no numbers from step 8 on."""

    drawn = 0

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        self.drawn += 1
        return {"x": super().batch(rng)["x"] * (torch.nan if self.drawn >= 8 else 1)}


@pytest.mark.parametrize("every", [{"log_every": 5}, {"log_every": 50, "save_every": 5}])
def test_a_loss_that_is_no_number_stops_the_run_and_is_not_stored(every: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="loss=nan at step 8; lower optim.lr"):
        fit(BreakingTask(), replace(FIT, **every), tmp_path, cpu=True)
    stored = tmp_path / "checkpoint.pt"
    assert stored.exists() == ("save_every" in every)
    if stored.exists():
        assert all(value.isfinite().all() for value in torch.load(stored, weights_only=True)["module"].values())


def events(folder: Path) -> Iterator[bytes]:
    """Records of TensorBoard's files: length, checksum, bytes, checksum."""
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            yield data[12 : 12 + size]
            data = data[16 + size :]


def test_tensorboard_is_told_the_same_as_the_log(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]

    fit(LineTask(), replace(FIT, steps=10, tensorboard=True), tmp_path, cpu=True)
    rows = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    found = [Event.FromString(record) for record in events(tmp_path / "tensorboard")]
    logged = {(each.step, value.tag): value.simple_value for each in found for value in each.summary.value}
    assert {(row["step"], name) for row in rows for name in ("loss", "worst", "rate")} == logged.keys()
    assert all(logged[row["step"], "loss"] == pytest.approx(row["loss"], rel=1e-6) for row in rows)


def test_tensorboard_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.train.records.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="tensorboard=True needs tensorboardX: pip install"):
        fit(LineTask(), replace(FIT, tensorboard=True), tmp_path, cpu=True)


@pytest.mark.compile
@pytest.mark.inductor
@pytest.mark.slow
def test_a_compiled_run_learns_the_same(tmp_path: Path) -> None:
    config = replace(FIT, steps=10)
    plain = fit(DoubleTask(), config, tmp_path / "plain", cpu=True)
    compiled = fit(DoubleTask(), replace(config, compile=True), tmp_path / "compiled", cpu=True)
    torch.testing.assert_close(compiled, plain, rtol=0, atol=1e-10)


def test_the_seed_alone_decides_the_result(tmp_path: Path) -> None:
    config = Fit(steps=5, precision="no", log_every=1)
    first, second = (fit(LineTask(), config, tmp_path / name, cpu=True) for name in "ab")
    other = fit(LineTask(), Fit(steps=5, precision="no", log_every=1, seed=1), tmp_path / "c", cpu=True)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["out.weight"], other["out.weight"])


def test_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="leave no end; give one of them"):
        Fit()


def test_what_cannot_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="shard=True and optim.flatten=True do not go together"):
        Fit(steps=1, shard=True, optim=Optim(flatten=True))
    with pytest.raises(ValueError, match="accumulate=0 must be above 0"):
        Fit(steps=1, accumulate=0)


def test_the_last_steps_are_logged_too(tmp_path: Path) -> None:
    fit(LineTask(), replace(FIT, steps=7), tmp_path, cpu=True)
    assert [json.loads(line)["step"] for line in (tmp_path / "loss.jsonl").read_text().splitlines()] == [5, 7]


def test_the_run_ends_at_whichever_limit_comes_first() -> None:
    config = Fit(steps=100, minutes=1)
    assert config.progress(50, 6) == 0.5
    assert config.progress(50, 45) == 0.75
    assert config.progress(100, 0) == config.progress(0, 90) == 1


def test_the_average_follows_its_recurrence() -> None:
    module = nn.Linear(2, 1, bias=False)
    average = Average(module, 0.8)
    expected = module.weight.detach().clone()
    for step in range(6):
        nn.init.normal_(module.weight)
        average.update_(module, step)
        expected = decay_at(step, 0.8) * expected + (1 - decay_at(step, 0.8)) * module.weight.detach()
    torch.testing.assert_close(average.state["weight"], expected)
    assert [decay_at(step, 0.8) for step in (0, 1000)] == [0.1, 0.8]


def test_the_average_of_constant_weights_is_exactly_them() -> None:
    module = nn.BatchNorm1d(3)
    average = Average(module, 0.99)
    module.num_batches_tracked += 7
    average.update_(module, 100)
    assert torch.equal(average.state["weight"], module.weight.detach())
    assert average.state["num_batches_tracked"] == 7


@given(st.floats(0, 1))
def test_the_rate_stays_within_its_bounds_and_ends_at_zero(progress: float) -> None:
    optim = Optim(warmup=0.1, cooldown=0.5)
    assert 0 <= rate_at(progress, optim) <= 1
    assert rate_at(0.3, optim) == 1
    assert rate_at(1, optim) == 0 == rate_at(0, optim)


def test_muon_gets_the_hidden_matrices_and_nothing_else() -> None:
    module = Line()
    adam, muon = optimisers(module, lambda name: name.startswith("hidden"), Optim())
    assert [p is module.hidden.weight for p in muon.param_groups[0]["params"]] == [True]
    assert {id(p) for p in adam.param_groups[0]["params"]} == {
        id(p) for name, p in module.named_parameters() if name != "hidden.weight"
    }


def test_flat_muon_is_muon_on_every_matrix() -> None:
    torch.manual_seed(0)
    flat = nn.ParameterDict(
        {"hidden_stack": torch.randn(3, 4, 6), "hidden_conv": torch.randn(5, 2, 3, 3), "bias": torch.zeros(2)}
    )
    apart = [nn.Parameter(m.clone()) for m in (*flat["hidden_stack"].detach(), flat["hidden_conv"].detach().flatten(1))]
    own = optimisers(flat, lambda name: True, Optim(flatten=True))[-1]
    plain = torch.optim.Muon(apart, Optim().muon_lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw", ns_steps=5)
    for _ in range(3):
        stack, conv = torch.randn(3, 4, 6), torch.randn(5, 2, 3, 3)
        flat["hidden_stack"].grad, flat["hidden_conv"].grad = stack, conv
        for view, gradient in zip(apart, (*stack, conv.flatten(1)), strict=True):
            view.grad = gradient.clone()
        own.step()
        plain.step()
        own.zero_grad()
        assert flat["hidden_stack"].grad is None
    close = {"atol": 3 * 0.1 * Optim().muon_lr * 0.2 * 18**0.5, "rtol": 0}  # in bfloat16 iterations differ by rounding
    torch.testing.assert_close(flat["hidden_stack"].detach(), torch.stack(apart[:3]).detach(), **close)
    torch.testing.assert_close(flat["hidden_conv"].detach().flatten(1), apart[3].detach(), **close)
    depthwise = nn.ParameterDict({"hidden": torch.randn(5, 1, 3, 3)})
    assert len(optimisers(depthwise, lambda name: True, Optim(flatten=True))) == 1


def test_adamw_alone_gets_everything_at_one_rate() -> None:
    optim = Optim.constant(2e-4)
    (adam,) = optimisers(Line(), lambda name: True, optim)
    assert len(adam.param_groups[0]["params"]) == 4
    assert {rate_at(progress, optim) for progress in (0, 0.3, 1)} == {1.0}
    assert (optim.lr, optim.betas, optim.weight_decay, optim.clip) == (2e-4, (0.9, 0.999), 0, None)


def test_gradients_may_go_unclipped(tmp_path: Path) -> None:
    """AdamW's step hardly minds the scale of gradients, so the test's is large enough to show."""
    optim = Optim(kind="adamw", lr=1e-2, warmup=0)
    loose, tight = (
        fit(LineTask(), replace(FIT, steps=3, optim=replace(optim, clip=clip)), tmp_path / str(clip), cpu=True)
        for clip in (None, 1e-9)
    )
    start = Line().out.weight
    assert (loose["out.weight"] - start).abs().max() > 2 * (tight["out.weight"] - start).abs().max()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "sgd"}, "kind='sgd' must be one of muon, adamw"), ({"clip": 0.0}, "clip=0.0 must be above 0")],
)
def test_a_wrong_optimiser_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Optim(**options)


class SeeingTask(LineTask):
    """Remembers the precision of its module's answers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()
        self.module.hidden.register_forward_hook(lambda module, given, out: self.seen.add(out.dtype))


def test_each_run_of_a_process_chooses_its_precision(tmp_path: Path) -> None:
    for i, (name, dtype) in enumerate((("no", torch.float32), ("bf16", torch.bfloat16), ("no", torch.float32))):
        task = SeeingTask()
        fit(task, replace(FIT, steps=1, precision=name), tmp_path / str(i), cpu=True)
        assert task.seen == {dtype}
