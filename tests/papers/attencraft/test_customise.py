"""Concepts learned on tiny random pipelines: what changes and what stays, the loss by hand, resuming, loading."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import saccade
from saccade.core.site import Where
from saccade.papers.attencraft import (
    AttenCraft,
    Concept,
    Customisation,
    PriorPictures,
    Weights,
    customise,
    load_concepts,
)
from saccade.papers.attencraft.concept_file import FILE, read_concepts
from saccade.papers.attencraft.customiser import Customiser
from saccade.papers.attencraft.losses import validity
from saccade.papers.attencraft.system import ALL_SITES
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from tests.papers.attencraft.tiny_pipes import PIPES, SIDE, picture, tiny_pixart, tiny_sd
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
TWO = (Concept(token="<new1>", word="red"), Concept(token="<new2>", word="blue", phrase="<new2> square"))
CONSTANT = Optim(kind="adamw", lr=1e-2, betas=(0.9, 0.999), weight_decay=0, warmup=0, cooldown=0)
FIT = Fit(steps=3, seed=2, precision="no", decay=0, save_every=1, log_every=1, optim=CONSTANT)
OPTIONS = Customisation(
    fit=FIT, theta=0.0, prior=PriorPictures(pictures=2, prompt="a green cross", steps=1), text_tokens=12
)
every_pipe = pytest.mark.parametrize("name", sorted(PIPES))


def made(pipe: Any, folder: Path, concepts: tuple[Concept, ...] = TWO, **options: Any) -> Customiser:
    chosen = replace(OPTIONS, **options)
    return Customiser(pipe, picture(), concepts, folder=folder, template="a {}", options=chosen)


def weights(pipe: Any) -> dict[str, Tensor]:
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {f"{n}.{key}": x.clone() for n, part in parts.items() for key, x in part.state_dict().items()}


def drawn(pipe: Any, text: str, *systems: AttenCraft) -> np.ndarray:
    """One picture; a U-Net is attached by itself."""
    target = pipe.unet if hasattr(pipe, "unet") else pipe
    options = {} if hasattr(pipe, "unet") else {"max_sequence_length": 12}
    options |= {"use_resolution_binning": False} if "PixArt" in type(pipe).__name__ else {}
    with saccade.attach(target, *systems, where=ALL_SITES):
        return pipe(
            text, height=SIDE, width=SIDE, num_inference_steps=2, output_type="np",
            generator=torch.Generator().manual_seed(0), **options,
        ).images  # fmt: skip


@every_pipe
def test_only_the_new_rows_change_and_the_terms_beside_the_text(name: str, tmp_path: Path) -> None:
    pipe = PIPES[name]()
    before = weights(pipe)
    learner = made(pipe, tmp_path)
    learner.train()
    after, new = weights(pipe), learner.tokens.ids
    tables = {key for key, x in after.items() if x.shape != before[key].shape}
    assert all(torch.equal(before[key], after[key]) for key in after.keys() - tables)
    assert len(tables) >= len(new)
    for key in tables:
        old = before[key]
        assert torch.equal(after[key][: len(old)], old) and len(after[key]) == len(old) + 2
    rows = {suffix: learner.tokens.rows_of(suffix) for suffix in new}
    for suffix, row in rows.items():
        table = getattr(pipe, f"text_encoder{suffix}").get_input_embeddings().weight
        assert torch.equal(table[new[suffix]], row)
        words = [getattr(pipe, f"tokenizer{suffix}").convert_tokens_to_ids(concept.word) for concept in TWO]
        assert (row - table[words]).abs().amax(1).min() > 0
    kinds = {path for _, path in learner.learner.terms.names}
    assert kinds == ({"add_k_proj", "add_v_proj"} if name in ("flux", "sd3") else {"to_k", "to_v"})
    assert all(bool(up.any()) for up in learner.learner.terms.up.values())


@every_pipe
def test_before_the_first_step_the_model_is_what_it_was(name: str, tmp_path: Path) -> None:
    pipe = PIPES[name]()
    plain = drawn(pipe, "a red square")
    learner = made(pipe, tmp_path)
    assert np.array_equal(drawn(pipe, "a red square", learner.system()), plain)
    known = drawn(pipe, "a <new1> square", learner.system())
    np.testing.assert_allclose(known, plain, atol=1e-5)  # the new word is still the old one


@every_pipe
def test_what_was_learned_is_stored_and_draws_the_same_pictures_elsewhere(name: str, tmp_path: Path) -> None:
    pipe, other = PIPES[name](), PIPES[name]()
    learner = Customiser(pipe, picture(), TWO, folder=tmp_path, template="a {}", options=replace(OPTIONS, rank=2))
    learner.train()
    file = learner.learned().save(tmp_path)
    text = "a <new1> and <new2> square"
    mine = drawn(pipe, text, learner.system())
    assert file == tmp_path / FILE and read_concepts(tmp_path).concepts == TWO
    theirs = drawn(other, text, load_concepts(other, tmp_path))
    np.testing.assert_allclose(theirs, mine, atol=1e-5)
    assert not np.array_equal(drawn(other, text), theirs)


def test_whole_matrices_are_stored_as_changes_and_come_back_to_the_bit(tmp_path: Path) -> None:
    learner = made(tiny_flux(), tmp_path)
    learner.train()
    learner.learned().save(tmp_path / "mine.safetensors")
    found = read_concepts(tmp_path / "mine.safetensors")
    for name in learner.learner.terms.names:
        for one, two in zip(learner.learner.terms.at(name), found.terms.at(name), strict=True):
            assert torch.equal(one, two)
    for suffix, row in found.rows.items():
        assert torch.equal(row, learner.tokens.rows_of(suffix))


def test_as_released_the_first_word_alone_is_trained(tmp_path: Path) -> None:
    learner = made(tiny_flux(), tmp_path, compat="official")
    start = {suffix: learner.tokens.rows_of(suffix).detach().clone() for suffix in learner.tokens.ids}
    learner.train()
    for suffix, row in start.items():
        now = learner.tokens.rows_of(suffix)
        assert torch.equal(now[1], row[1]) and not torch.equal(now[0], row[0])
    assert learner.module.weights.official_broadcast


def test_one_concept_without_masks_is_plain_fine_tuning(tmp_path: Path) -> None:
    pipe = tiny_sd()
    learner = made(pipe, tmp_path, TWO[:1], weights=Weights(masked=False, attention=0.0))
    rng = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(2, 4, 8, 8, generator=rng) for _ in range(2))
    times = torch.tensor([0.2, 0.7])
    batch = {
        **{key: x[:1] for key, x in (("latents", latents), ("noise", noise), ("t", times))},
        **{f"prior_{key}": x[1:] for key, x in (("latents", latents), ("noise", noise), ("t", times))},
        "subset": torch.tensor([0]),
    }
    with saccade.attach(pipe.unet, learner.learner, where=ALL_SITES) as run:
        learner.module.run = run
        losses = learner.module(batch)
    words = pipe.encode_prompt(["a <new1>", "a green cross"], "cpu", 1, do_classifier_free_guidance=False)[0]
    steps = (times * 1000).long()
    noised = pipe.scheduler.add_noise(latents, noise, steps)
    found = pipe.unet(noised, steps, words).sample
    square = (found - noise).square()
    torch.testing.assert_close(losses["reconstruction"], 4 * square[:1, :, 1:-1, 1:-1].mean(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses["prior"], square[1].mean(), rtol=1e-4, atol=1e-6)
    assert losses["loss"] == losses["reconstruction"] + losses["prior"] and "attention" not in losses
    losses["loss"].backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in learner.module.parameters() if p.requires_grad)


def test_masks_of_ones_are_the_loss_without_masks(tmp_path: Path) -> None:
    pipe = tiny_flux()
    learner = made(pipe, tmp_path)
    losses = []
    with saccade.attach(pipe.transformer, learner.learner, where=ALL_SITES) as run:
        learner.module.run = run
        rng = torch.Generator().manual_seed(0)
        batch = {name: torch.randn(1, 4, 8, 8, generator=rng) for name in ("latents", "noise")}
        batch |= {"t": torch.tensor([0.4]), "subset": torch.tensor([1])}
        learner.module.masks = torch.ones(3, 4, 4, dtype=torch.bool)
        for masked in (True, False):
            learner.module.weights = Weights(masked=masked)
            losses.append(learner.module({**batch})["reconstruction"])
    assert torch.equal(*losses)


def test_the_starts_keys_and_values_get_no_gradient(tmp_path: Path) -> None:
    """Against the same forward with a detached start, written by hand into the projections."""
    gradients: list[list[Tensor]] = []
    for by_hand in (False, True):
        pipe = tiny_sd()
        learner = made(pipe, tmp_path / str(by_hand), TWO[:1], weights=Weights(masked=False, attention=0.0))
        assert learner.learner.start == (0,)
        batch = {
            **{name: torch.ones(1, 4, 8, 8) * value for name, value in (("latents", 0.3), ("noise", 0.7))},
            "t": torch.tensor([0.4]), "subset": torch.tensor([0]),
        }  # fmt: skip
        with saccade.attach(pipe.unet, learner.learner, where=ALL_SITES) as run:
            learner.module.run = run
            if by_hand:
                learner.learner.start = ()
                learner.module({**batch})  # from here on terms are added by hooks, and one more may follow them
                for site, path in learner.learner.terms.names:
                    pipe.unet.get_submodule(f"{site}.{path}").register_forward_hook(_detached_start)
            loss = learner.module(batch)["loss"]
        trained = [p for p in learner.module.parameters() if p.requires_grad]
        gradients.append([g.clone() for g in torch.autograd.grad(loss, trained)])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-7, rtol=1e-4)


def _detached_start(module: torch.nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
    return torch.cat((out[:, :1].detach(), out[:, 1:]), dim=1)


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, parted = made(tiny_flux(), tmp_path / "a"), made(tiny_flux(), tmp_path / "b")
    whole.train()
    original: Callable[..., Any] = parted.module.forward

    def killed(batch: Any) -> Any:
        if int(parted.module.step) == 2:
            raise KeyboardInterrupt
        return original(batch)

    parted.module.forward = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        parted.train()
    again = made(tiny_flux(), tmp_path / "b")
    again.train()
    assert int(again.module.step) == 3
    for (name, one), (_, two) in zip(whole.module.state_dict().items(), again.module.state_dict().items(), strict=True):
        assert torch.equal(one, two), name


def test_a_finished_training_is_read_and_other_settings_are_refused(tmp_path: Path) -> None:
    one = made(tiny_flux(), tmp_path)
    one.train()
    two = made(tiny_flux(), tmp_path)
    two.train()
    assert torch.equal(one.tokens.rows_of("_2"), two.tokens.rows_of("_2"))
    with pytest.raises(ValueError, match=r"holds runs of other settings \(theta: 0.0 there, 0.01 here\)"):
        made(tiny_flux(), tmp_path, theta=0.01)


def test_masks_are_made_anew_on_schedule_and_kept_with_the_weights(tmp_path: Path) -> None:
    learner = made(tiny_flux(), tmp_path, every=2, ssim=-1.0)
    seen: list[tuple[int, Tensor]] = []
    refresh = learner.module._refresh

    def watched(maps: Any, step: int) -> None:
        refresh(maps, step)
        seen.append((step, learner.module.masks.clone()))

    learner.module._refresh = watched  # type: ignore[method-assign]
    learner.train()
    assert [step for step, _ in seen] == [0, 2]
    assert "masks" in learner.module.state_dict() and learner.module.masks.dtype == torch.bool
    assert bool((learner.module.attention > 0).all())
    assert (learner.module.masks.sum(0) <= 1).all()


def test_a_batch_may_hold_several_rows_of_the_picture(tmp_path: Path) -> None:
    learner = made(tiny_flux(), tmp_path, batch=2, scheme="reweighted", fit=replace(FIT, seed=3))
    learner.train()
    assert int(learner.module.step) == 3


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_chains_are_noised_as_their_scheduler_says(prediction: str, tmp_path: Path) -> None:
    pipe = tiny_sd(prediction)
    host = made(pipe, tmp_path).host
    latents, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([0.25, 0.9])
    found: dict[str, Tensor] = {}
    pipe.unet.register_forward_pre_hook(lambda module, args: found.update(sample=args[0]))
    with torch.no_grad():
        _, target = host.predict(latents, noise, t, host.encode(["a", "a"]))
    steps = torch.tensor([250, 900])
    torch.testing.assert_close(found["sample"], pipe.scheduler.add_noise(latents, noise, steps))
    wanted = noise if prediction == "epsilon" else pipe.scheduler.get_velocity(latents, noise, steps)
    torch.testing.assert_close(target, wanted)


def test_the_unets_maps_are_a_quarter_and_a_half_of_the_latents(tmp_path: Path) -> None:
    assert made(tiny_sd(), tmp_path).learner.grids == ((2, 2), (4, 4))
    assert made(tiny_pixart(), tmp_path / "b").learner.grids == (None, None)


def test_the_flat_function_does_all_of_it(tmp_path: Path) -> None:
    pipe = tiny_flux()
    system = customise(pipe, picture(), TWO, folder=tmp_path, template="a {}", options=OPTIONS)
    assert isinstance(system, AttenCraft) and (tmp_path / FILE).is_file()
    with saccade.attach(pipe, system) as run:
        assert "attencraft" in run.explain(2)
    stored = AttenCraft(learned=tmp_path, where=Where(kinds=("joint",)))
    with saccade.attach(tiny_flux(), stored):
        pass
    assert validity((8, 8)).sum() == 36


def test_half_precision_is_learned_in_single(tmp_path: Path) -> None:
    pipe = tiny_flux().to(torch.bfloat16)
    learner = made(pipe, tmp_path, fit=replace(FIT, steps=1))
    learner.train()
    trained = [p for p in learner.module.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32} and all(p.isfinite().all() for p in trained)
    assert pipe.text_encoder_2.get_input_embeddings().weight.dtype == torch.bfloat16
    assert np.isfinite(drawn(pipe, "a <new1>", learner.system())).all()
