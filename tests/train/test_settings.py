"""Resuming a run needs its settings, or is refused by those that differ; what may change may, the length above all."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file

from saccade.data.labelled import open_source
from saccade.models import DiT
from saccade.models.dit import DiTConfig
from saccade.models.shakespeare_lm import ShakespeareLM
from saccade.papers.dc_dit.multi_budget import BudgetTask, MultiBudget
from saccade.train.architecture import STAGES, ArchitectureRecipe
from saccade.train.checkpoint import load_state, result_length, trained
from saccade.train.classifier import ClassifierRecipe, ClassifierStage
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import Evaluation
from saccade.train.latent_cache import make_latent_cache
from saccade.train.loop import Fit, finished, fit
from saccade.train.masked import MaskedStage
from saccade.train.objectives import Ddpm, RectifiedFlow
from saccade.train.optimisers import Optim
from saccade.train.scenes_flux import ScenesFluxRecipe
from saccade.train.settings import check_settings, flat, keep_settings
from saccade.train.shakespeare import ShakespeareRecipe
from tests.train.test_loop import FIT, LineTask
from tests.train.tiny import MODEL

SHORT = replace(FIT, steps=4, log_every=1, save_every=2)
SCENES = {"label": "shape", "count": 64, "held": 16}
DENOISER = ArchitectureRecipe(
    options=SCENES,
    model=DiTConfig(depth=1, width=16, heads=2, patch=8, learned_variance=False),
    train=ArchitectureStage(fit=Fit(steps=2, precision="no", log_every=1), batch=4),
    evaluation=Evaluation(pictures=16, samples=8, steps=2),
)
LANGUAGE = ShakespeareRecipe(
    source="captions",
    model=ShakespeareLM(hidden=16, heads=2, layers=1, inner=16, context=16),
    train=MaskedStage(fit=Fit(steps=2, precision="no"), lengths=(16,), tokens=32, compile=False),
)
JUDGE = ClassifierRecipe(
    side=16, width=8, count=64, held=16, judged=16,
    train=ClassifierStage(fit=Fit(steps=2, precision="no"), batch=4),
)  # fmt: skip


def log_of(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "loss.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim": Optim(lr=2e-2)}, r"\(fit.optim.lr: 0.01 there, 0.02 here\); name another folder, or give the"),
        ({"seed": 1}, r"fit.seed: 0 there, 1 here"),
        ({"decay": 0.5}, r"fit.decay: 0.9 there, 0.5 here"),
        ({"precision": "bf16"}, r"fit.precision: no there, bf16 here"),
        ({"accumulate": 2, "seed": 3}, r"fit.seed: 0 there, 3 here; fit.accumulate: 1 there, 2 here"),
    ],
)
def test_other_settings_are_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    fit(LineTask(), SHORT, tmp_path, cpu=True)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match=message):
        fit(LineTask(), replace(SHORT, steps=8, **changes), tmp_path, cpu=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_what_is_free_may_change(tmp_path: Path) -> None:
    fit(LineTask(), SHORT, tmp_path, cpu=True)
    free = {"log_every": 2, "save_every": 3, "sheet_every": 5, "find_unused": True, "minutes": 60.0}
    fit(LineTask(), replace(SHORT, steps=6, **free), tmp_path, cpu=True)
    assert log_of(tmp_path) == [1, 2, 3, 4, 6]


def test_a_finished_run_goes_on_to_a_greater_length(tmp_path: Path) -> None:
    """It ends with the bits of a run that was killed at that step and then given the length."""
    fit(LineTask(), SHORT, tmp_path, cpu=True)
    assert finished(SHORT, tmp_path) and finished(replace(SHORT, steps=3), tmp_path)
    assert result_length(tmp_path)[0] == 4  # type: ignore[index]
    longer = replace(SHORT, steps=8)
    assert not finished(longer, tmp_path) and not finished(replace(SHORT, steps=None, minutes=5), tmp_path)
    found = fit(LineTask(), longer, tmp_path, cpu=True)
    assert finished(longer, tmp_path) and result_length(tmp_path)[0] == 8  # type: ignore[index]
    assert log_of(tmp_path) == list(range(1, 9))
    stored = load_file(tmp_path / "average.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in found.items())


def test_a_run_that_is_lengthened_and_killed_has_no_result_of_the_shorter_one(tmp_path: Path) -> None:
    fit(LineTask(), SHORT, tmp_path, cpu=True)

    class Mortal(LineTask):
        drawn = 0

        def batch(self, rng: Any) -> Any:
            self.drawn += 1
            if self.drawn > 3:
                raise KeyboardInterrupt
            return super().batch(rng)

    with pytest.raises(KeyboardInterrupt):
        fit(Mortal(), replace(SHORT, steps=20), tmp_path, cpu=True)
    assert not (tmp_path / "average.safetensors").exists()
    assert load_state(tmp_path / "checkpoint.pt")["step"] == 6  # type: ignore[index]
    assert all(torch.equal(a, b) for a, b in zip(trained(tmp_path).values(),
               load_state(tmp_path / "checkpoint.pt")["average"].values(), strict=True))  # type: ignore[index]  # fmt: skip


def test_a_result_alone_cannot_be_gone_on_with(tmp_path: Path) -> None:
    fit(LineTask(), SHORT, tmp_path, cpu=True)
    (tmp_path / "checkpoint.pt").unlink()
    assert finished(SHORT, tmp_path)
    with pytest.raises(ValueError, match=r"holds average.safetensors without checkpoint.pt, from which alone"):
        fit(LineTask(), replace(SHORT, steps=8), tmp_path, cpu=True)


def test_a_run_that_stored_nothing_binds_nobody(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be shared out evenly"):
        fit(LineTask(), replace(SHORT, accumulate=3), tmp_path, cpu=True)
    fit(LineTask(), SHORT, tmp_path, cpu=True)


def test_a_run_of_unknown_settings_is_taken_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(LineTask(), SHORT, tmp_path, cpu=True)
    (tmp_path / "settings.json").unlink()
    with caplog.at_level(logging.WARNING):
        fit(LineTask(), replace(SHORT, steps=5), tmp_path, cpu=True)
    assert "does not tell its settings, so they are taken to be these" in caplog.text
    assert "fit.optim.lr" in (tmp_path / "settings.json").read_text()


class WideTask(LineTask):
    def __init__(self) -> None:
        super().__init__()
        self.module.hidden = torch.nn.Linear(4, 9)


def test_the_checkpoint_of_another_model_is_told(tmp_path: Path) -> None:
    fit(LineTask(), SHORT, tmp_path, cpu=True)
    with pytest.raises(ValueError, match=r"checkpoint.pt is not of this Line and its optimisers: .*size mismatch"):
        fit(WideTask(), SHORT, tmp_path, cpu=True)


SPOILT: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "short": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "pointer": lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "text": lambda file: file.write_text("nothing of the kind"),
    "other": lambda file: torch.save({"step": 3}, file),
    "tensor": lambda file: torch.save(torch.zeros(3), file),
    "pickle": lambda file: torch.save(SHORT, file),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_checkpoint_is_refused_by_name(how: str, tmp_path: Path) -> None:
    fit(LineTask(), SHORT, tmp_path, cpu=True)
    (tmp_path / "average.safetensors").unlink()
    SPOILT[how](tmp_path / "checkpoint.pt")
    message = r"checkpoint.pt \(\d+ bytes\) is no whole checkpoint: .*; put a whole copy there, or remove it to begin"
    for use in (lambda: fit(LineTask(), SHORT, tmp_path, cpu=True), lambda: trained(tmp_path)):
        with pytest.raises(ValueError, match=message):
            use()


@pytest.mark.parametrize("how", ["empty", "cut", "pointer", "text"])
def test_a_spoilt_result_is_refused_by_name(how: str, tmp_path: Path) -> None:
    fit(LineTask(), SHORT, tmp_path, cpu=True)
    SPOILT[how](tmp_path / "average.safetensors")
    for use in (lambda: finished(SHORT, tmp_path), lambda: trained(tmp_path)):
        with pytest.raises(ValueError, match=r"average.safetensors .*(is no whole safetensors file|Git LFS pointer)"):
            use()


def test_a_result_that_tells_no_length_has_that_of_its_checkpoint(tmp_path: Path) -> None:
    average = fit(LineTask(), SHORT, tmp_path, cpu=True)
    save_file(average, tmp_path / "average.safetensors")
    assert result_length(tmp_path)[0] == 4  # type: ignore[index]
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match="average.safetensors does not tell how long it was trained; remove it"):
        finished(SHORT, tmp_path)


def task(kind: type[ArchitectureTask] = ArchitectureTask, objective: Any = None, **options: Any) -> ArchitectureTask:
    """A denoiser's, as a library's user makes it."""
    model = DiT(depth=1, width=16, heads=2, patch=8, side=32, channels=3, classes=4, learned_variance=False)
    source, evaluation = open_source("scenes", 32, **SCENES), Evaluation(samples=8, steps=1)
    return kind(model, objective or RectifiedFlow(), source, evaluation=evaluation, **options)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: task(objective=Ddpm()), r"objective.class: RectifiedFlow there, Ddpm here"),
        (lambda: task(objective=RectifiedFlow(std=2.0)), r"objective.std: 1.0 there, 2.0 here"),
        (lambda: task(stage=ArchitectureStage(batch=8)), r"batch: 4 there, 8 here"),
        (lambda: task(BudgetTask, stage=STAGE, budget=MultiBudget(warmup=1)), r"budget.warmup: nothing there, 1 here"),
    ],
)
def test_a_task_tells_what_it_is(other: Callable[[], ArchitectureTask], message: str, tmp_path: Path) -> None:
    config = Fit(steps=1, precision="no")
    fit(task(stage=STAGE), config, tmp_path, cpu=True)
    with pytest.raises(ValueError, match=message):
        fit(other(), config, tmp_path, cpu=True)


STAGE = ArchitectureStage(batch=4)
TRAIN = DENOISER.train


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "ddpm"}, r"objective: flow there, ddpm here"),
        ({"flow": RectifiedFlow(mean=1.0)}, r"flow.mean: 0.0 there, 1.0 here"),
        ({"model": replace(DENOISER.model, depth=2)}, r"model.depth: 1 there, 2 here"),
        ({"options": SCENES | {"label": "colour"}}, r"options.label: shape there, colour here"),
        ({"seed": 1}, r"seed: 0 there, 1 here"),
        ({"source": "cifar10"}, r"source: scenes there, cifar10 here"),
        ({"train": replace(TRAIN, fit=replace(TRAIN.fit, optim=Optim(lr=1.0)))}, r"train.fit.optim.lr: 0.001 there, 1"),
    ],
)
def test_a_recipe_of_other_settings_is_refused_in_every_stage(
    changes: dict[str, Any], message: str, trained_denoiser: Path
) -> None:
    for stage in STAGES:
        with pytest.raises(ValueError, match=message):
            replace(DENOISER, **changes).run(trained_denoiser, (stage,))


@pytest.fixture(scope="module")
def trained_denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("denoiser")
    DENOISER.run(folder)
    return folder


def test_a_recipe_goes_on_to_more_steps_and_exports_them(tmp_path: Path) -> None:
    DENOISER.run(tmp_path)
    before = load_file(tmp_path / "model" / "model.safetensors")
    free = {"evaluation": Evaluation(pictures=8, samples=8, steps=1), "ddpm": Ddpm(steps=10)}
    longer = replace(DENOISER, train=replace(TRAIN, fit=replace(TRAIN.fit, steps=5)), **free)
    longer.run(tmp_path)
    after, average = (
        load_file(tmp_path / "model" / "model.safetensors"),
        load_file(tmp_path / "train" / "average.safetensors"),
    )
    assert log_of(tmp_path / "train") == [1, 2, 3, 4, 5]
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    assert all(torch.equal(value, average[f"model.{name}"]) for name, value in after.items())


@pytest.mark.host
@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (LANGUAGE, {"train": replace(LANGUAGE.train, prompted=0.5)}, "train.prompted: 0.3 there, 0.5 here"),
        (LANGUAGE, {"model": replace(LANGUAGE.model, inner=8)}, "model.inner: 16 there, 8 here"),
        (JUDGE, {"width": 16}, "width: 8 there, 16 here"),
        (JUDGE, {"label": "colour"}, "label: kind there, colour here"),
    ],
)
def test_every_recipe_refuses(recipe: Any, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    recipe.run(tmp_path, ("train",))
    with pytest.raises(ValueError, match=message):
        replace(recipe, **changes).run(tmp_path, ("train",))
    steps = log_of(tmp_path / "train")
    longer = replace(recipe, train=replace(recipe.train, fit=replace(recipe.train.fit, steps=3)))
    longer.run(tmp_path, ("train",))
    assert log_of(tmp_path / "train") == [*steps, 3]


def test_stages_of_scenes_flux_stand_on_those_before(tmp_path: Path) -> None:
    """What a stage sets out from is part of it, with its length; its own length is free."""
    recipe = ScenesFluxRecipe(model=MODEL)
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "checkpoint.pt").touch()
    keep_settings(tmp_path / "flow" / "settings.json", recipe.settings("flow"))
    own = replace(recipe.flow, fit=replace(recipe.flow.fit, minutes=1))
    assert flat(replace(recipe, flow=own).settings("flow")) == flat(recipe.settings("flow"))
    longer = replace(recipe.autoencoder, fit=replace(recipe.autoencoder.fit, minutes=20))
    for changes, message in (
        ({"autoencoder": longer}, "autoencoder.fit.minutes: 12 there, 20 here"),
        ({"flow": replace(recipe.flow, drop=0.2)}, "flow.drop: 0.05 there, 0.2 here"),
        ({"text": replace(recipe.text, batch=3)}, "text.batch: 128 there, 3 here"),
        ({"seed": 2}, "seed: 0 there, 2 here"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(recipe, **changes).run(tmp_path, ("flow",))  # type: ignore[arg-type]


@pytest.mark.host
def test_latents_of_another_autoencoder_or_seed_are_not_taken(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = MODEL.pipeline().vae
    first = make_latent_cache(vae, tmp_path, 2, side=64, seed=0).latents
    assert len([*tmp_path.glob("*.npy")]) == 1
    assert (make_latent_cache(vae, tmp_path, 2, side=64, seed=0).latents == first).all()
    make_latent_cache(vae, tmp_path, 2, side=64, seed=1)
    vae.encoder.conv_in.weight.data.add_(1)
    assert (make_latent_cache(vae, tmp_path, 2, side=64, seed=0).latents != first).any()
    files = [*tmp_path.glob("*.npy")]
    assert len(files) == 3
    for file in files:
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"is no whole array: .*; remove it, it is made again"):
        make_latent_cache(vae, tmp_path, 2, side=64, seed=0)


@dataclass(frozen=True)
class Options:
    width: int = 1
    every: int = 2
    pair: tuple[int, ...] = (1, 2)
    free: ClassVar[tuple[str, ...]] = ("every",)


def test_settings_are_flat_and_differences_few(tmp_path: Path) -> None:
    assert flat({"a": Options(), "b": {}}) == {"a.width": 1, "a.pair": (1, 2)}
    file = tmp_path / "settings.json"
    keep_settings(file, {"a": Options()})
    check_settings(file, {"a": Options(every=3)})
    with pytest.raises(ValueError, match=r"\(a.width: 1 there, 2 here; .*; and 5 more\)"):
        check_settings(file, {"a": Options(width=2), **{str(i): i for i in range(10)}})
    file.write_text("{")
    with pytest.raises(ValueError, match=r"settings.json is no whole JSON file"):
        check_settings(file, {})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
            "4",
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4 is not heeded; accum",
        ),
        ("ACCELERATE_DYNAMO_BACKEND", "inductor", "ACCELERATE_DYNAMO_BACKEND=inductor is not heeded; compile=False"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "ACCELERATE_MIXED_PRECISION=fp16 is not heeded; precision=no"),
    ],
)
def test_what_a_launcher_left_in_the_environment_changes_nothing(
    variable: str,
    value: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By plain gradient descent, whose step has the gradients' scale: AdamW's hardly minds it."""
    seen: list[torch.Tensor] = []

    class Seeing(LineTask):
        def __init__(self) -> None:
            super().__init__()
            self.module.out.weight.register_hook(lambda gradient: seen.append(gradient.clone()))

    fit(Seeing(), SHORT, tmp_path / "plain", cpu=True)
    monkeypatch.setenv(variable, value)
    with caplog.at_level(logging.WARNING):
        fit(Seeing(), SHORT, tmp_path / "left", cpu=True)
    assert message in caplog.text
    assert len(seen) == 8 and all(torch.equal(a, b) for a, b in zip(seen[:4], seen[4:], strict=True))


def test_another_way_to_share_out_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.train.launching.Accelerator.distributed_type", DistributedType.FSDP)
    with pytest.raises(ValueError, match="launched with FSDP, which this loop does not use; launch it without"):
        fit(LineTask(), SHORT, tmp_path, cpu=True)
