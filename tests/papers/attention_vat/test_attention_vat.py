"""Attention VAT and iVAT: what the direction is, that no label is read, and when two forms are one."""

from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.nn.adversarial import adversarial, make_basis, unit
from saccade.nn.classification import log_probabilities
from saccade.nn.perturbable import Perturbable
from saccade.papers import AttentionVAT
from saccade.papers.attention_vat import divergence
from saccade.papers.attention_vat.kl import entropy_of
from saccade.papers.attention_vat.method import Kind, power_iterations
from tests.small_text import LENGTHS, batch, classifier, loss_of

KINDS: tuple[Any, ...] = get_args(Kind)
EXACT = {"atol": 1e-12, "rtol": 0}


def read(seed: int = 0, *, classes: int = 1, level: Any = "scores", **more: Any) -> Perturbable:
    return classifier(seed, classes=classes).perturbable(batch(seed, **more), level=level)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(p: Tensor, q: Tensor) -> Tensor:
    """sum p log(p / q) of probabilities."""
    p, q = (log_probabilities(x).exp() for x in (p, q))
    return (p * (p / q).log()).sum(-1)


@given(seed=st.integers(0, 10_000), classes=st.integers(1, 4), scale=st.floats(0.01, 20))
@settings(max_examples=30, deadline=None)
def test_the_divergence_is_the_textbook_one_with_its_gradient(seed: int, classes: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    p, q = (scale * torch.randn(3, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    found, wanted = [], []
    for measure, into in ((divergence, found), (by_hand, wanted)):
        moved = q.clone().requires_grad_()
        value = measure(p, moved)
        into += [value.detach(), *torch.autograd.grad(value.sum(), moved)]
    if all(bool(x.isfinite().all()) for x in wanted):
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-7)
    assert bool((found[0] >= 0).all()) and bool(found[0].isfinite().all())


def test_near_predictions_keep_their_divergence_in_single_precision() -> None:
    p = torch.tensor([[0.3], [-2.0]])
    for small in (1e-2, 1e-4):
        found, wanted = divergence(p, p + small), by_hand(p.double(), p.double() + small)
        torch.testing.assert_close(found.double(), wanted, atol=0, rtol=2e-2)
    assert torch.equal(divergence(p, p), torch.zeros(2))


def test_a_class_that_cannot_be_counts_nothing() -> None:
    p, q = torch.tensor([[0.5, -torch.inf, 1.0]]), torch.tensor([[0.1, -torch.inf, 2.0]], requires_grad=True)
    found = divergence(p, q)
    torch.testing.assert_close(found, by_hand(p[:, [0, 2]], q[:, [0, 2]]))
    (g,) = torch.autograd.grad(found.sum(), q)
    assert bool(g.isfinite().all()) and g[0, 1] == 0 and bool(entropy_of(p).isfinite())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [1, 3])
def test_the_loss_is_never_negative_and_nothing_without_a_perturbation(kind: Any, classes: int) -> None:
    level = AttentionVAT(kind=kind).level
    seen = read(classes=classes, level=level)
    found = AttentionVAT(kind=kind, eps=3.0).divergences(seen, drawn())
    assert bool((found >= 0).all()) and float(found.detach().sum()) > 1e-4
    assert not AttentionVAT(kind=kind, eps=0.0).divergences(seen, drawn()).any()


def test_no_label_is_read() -> None:
    seen, losses = read(), []
    for labels in (torch.tensor([1, 0, 1, 1, 0]), torch.tensor([0, 1, 0, 1, 1])):
        losses.append(AttentionVAT().losses(seen, loss_of(labels), generator=drawn())["virtual"])
    assert torch.equal(*losses)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_perturbation_has_norm_eps_and_leaves_padding(steps: int) -> None:
    seen = read(more=2)
    r = AttentionVAT(eps=2.0, steps=steps).perturbation(seen, drawn())
    wanted = torch.tensor([0 if n == 1 else 2.0 for n in LENGTHS], dtype=torch.float64)  # one word: nothing moves
    torch.testing.assert_close(r.norm(dim=1), wanted, atol=1e-9, rtol=0)
    assert bool((r[~seen.keep] == 0).all()) and not r.requires_grad
    torch.testing.assert_close(r.sum(1), torch.zeros(5).double(), atol=1e-9, rtol=0)  # a shift moves no softmax


def test_a_model_that_no_score_moves_has_no_loss() -> None:
    scores, constant = torch.zeros(2, 3).double(), torch.ones(2, 1).double()
    seen = Perturbable(
        values=scores, keep=scores == 0, clean=constant, run=lambda r: constant + 0 * r.sum(1, keepdim=True)
    )
    assert torch.equal(AttentionVAT(eps=5.0).divergences(seen), torch.zeros(2).double())
    assert torch.equal(AttentionVAT(eps=5.0).perturbation(seen), scores)


def jacobian(seen: Perturbable) -> Tensor:
    """Of one logit a row with respect to its scores."""
    r = torch.zeros_like(seen.values).requires_grad_()
    return torch.autograd.grad(seen.run(r).sum(), r)[0]


def test_one_step_is_exact_for_one_logit_whatever_the_start() -> None:
    seen = read()
    slope, rows = jacobian(seen), [0, 1, 3, 4]
    wanted = slope[rows] / slope[rows].norm(dim=1, keepdim=True)
    for seed in range(4):
        found = AttentionVAT(eps=1.0, xi=1e-5).perturbation(seen, drawn(seed))[rows]
        same = (found * wanted).sum(1)
        torch.testing.assert_close(same.abs(), torch.ones(4).double(), atol=1e-4, rtol=0)


def test_for_one_logit_it_is_the_adversarial_direction_up_to_its_sign() -> None:
    seen = read()
    at = adversarial(seen, loss_of(), 1.0, make_basis(seen, "free"))
    vat = AttentionVAT(xi=1e-5).perturbation(seen, drawn())
    torch.testing.assert_close(vat.abs(), at.abs(), atol=1e-4, rtol=0)


def test_the_loss_grows_with_the_square_of_eps_by_half_the_fisher_form() -> None:
    seen = read()
    p = seen.clean[:, 0].sigmoid()
    wanted = 0.5 * p * (1 - p) * jacobian(seen).square().sum(1)
    for eps in (1e-2, 1e-3):
        found = AttentionVAT(eps=eps, xi=1e-5).divergences(seen, drawn()) / eps**2
        torch.testing.assert_close(found, wanted, atol=0, rtol=30 * eps)


def fisher(seen: Perturbable, row: int) -> Tensor:
    """J^T (diag p - p p^T) J of one row with several logits."""
    slope = torch.autograd.functional.jacobian(lambda r: seen.run(r)[row], torch.zeros_like(seen.values))[:, row]
    p = seen.clean[row].softmax(-1).detach()
    return slope.T @ (p.diag() - p[:, None] * p) @ slope


def test_with_several_classes_steps_lead_to_the_leading_eigenvector() -> None:
    seen, row = read(classes=4), 1
    values, vectors = torch.linalg.eigh(fisher(seen, row))
    ratio, top = float(values[-2] / values[-1]), vectors[:, -1]
    assert int((values > 1e-9 * values[-1]).sum()) <= 3  # classes - 1
    missed = []
    for steps in (1, 2, 12):
        found = AttentionVAT(steps=steps, xi=1e-6).perturbation(seen, drawn(2))[row]
        missed.append(float(1 - (found @ top).abs()))
    assert missed[0] > missed[1] > missed[2] and missed[2] < max(1e-4, ratio**12)


def test_it_moves_predictions_more_than_random_directions_do() -> None:
    seen, eps = read(classes=3), 1e-2
    worst = AttentionVAT(eps=eps, steps=3, xi=1e-5).divergences(seen, drawn())
    generator, found = drawn(1), []
    for _ in range(50):
        u = torch.randn(seen.values.shape, generator=generator, dtype=torch.float64) * seen.keep
        found.append(divergence(seen.clean, seen.run(eps * u / u.norm(dim=1, keepdim=True))))
    assert bool((worst >= torch.stack(found).mean(0)).all())


def test_rows_do_not_know_each_other_given_one_start() -> None:
    model, ids = classifier(), batch()
    seen, method = model.perturbable(ids), AttentionVAT()
    whole = method.perturbation(seen, drawn())
    start = torch.randn(seen.values.shape, generator=drawn(), dtype=torch.float64)
    for row in (0, 1, 3):
        alone = model.perturbable(ids[row : row + 1])
        basis = make_basis(alone, "free")
        own = unit(start[row : row + 1] * alone.keep)
        torch.testing.assert_close(
            power_iterations(alone, basis, own, method.xi), whole[row : row + 1], atol=1e-6, rtol=0
        )


def test_longer_padding_changes_nothing_given_one_start() -> None:
    start = torch.randn(5, 8, generator=drawn(), dtype=torch.float64)
    found = []
    for more in (0, 3):
        seen = read(more=more)
        own = unit(torch.nn.functional.pad(start, (0, more)) * seen.keep)
        found.append(power_iterations(seen, make_basis(seen, "free"), own, 1e-2)[:, :8])
    torch.testing.assert_close(*found, atol=1e-9, rtol=0)


def test_ivat_normed_word_by_word_is_vat_and_by_sentence_is_the_closed_form() -> None:
    seen = read(lengths=(7, 7, 7))
    vat = AttentionVAT(eps=2.0, xi=1e-5).perturbation(seen, drawn())
    word = AttentionVAT(kind="ivat", basis_norm="word", eps=2.0, xi=1e-5).perturbation(seen, drawn())
    torch.testing.assert_close(word, vat, **EXACT)
    found = AttentionVAT(kind="ivat", eps=2.0, xi=1e-5).perturbation(seen, drawn())
    slope = jacobian(seen)
    d = (seen.values[:, :, None] - seen.values[:, None]).square().sum(-1)
    w = d / d.mean(1, keepdim=True)
    wanted = 2 * slope * w / (slope.square() * w).sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(found.abs(), wanted.abs(), atol=1e-4, rtol=0)
    assert not torch.allclose(found.abs(), vat.abs(), atol=1e-2)


def gradients(method: AttentionVAT | None, *, more: Tensor | None = None, seed: int = 0) -> dict[str, Tensor]:
    model = classifier()
    seen, loss = model.perturbable(batch()), loss_of()
    other = None if more is None else model.perturbable(more)
    found = loss(seen.clean) if method is None else method.losses(seen, loss, other, drawn(seed))["loss"]
    found.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def test_without_weight_it_is_supervised_training() -> None:
    plainly = gradients(None)
    for name, grad in gradients(AttentionVAT(lam=0.0)).items():
        torch.testing.assert_close(grad, plainly[name], **EXACT)


def test_gradients_fade_with_eps_and_with_its_square_over_both_signs_of_a_start() -> None:
    """One sign alone leaves p (1 - p) eps (J u) dz/dw, since the clean prediction is a constant."""
    sizes: dict[str, list[float]] = {"one": [], "both": []}
    for eps in (1e-2, 1e-3):
        found = []
        for sign in (1, -1):
            model = classifier()
            seen = model.perturbable(batch())
            r = sign * AttentionVAT(eps=eps).perturbation(seen, drawn())
            divergence(seen.clean.detach(), seen.run(r)).mean().backward()
            found.append(torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None]))
        sizes["one"].append(float(found[0].norm()))
        sizes["both"].append(float((found[0] + found[1]).norm()))
    assert 9 < sizes["one"][0] / sizes["one"][1] < 11 and 90 < sizes["both"][0] / sizes["both"][1] < 110


def test_unlabelled_sentences_count_as_many_as_they_are_and_none_is_the_labelled_alone() -> None:
    model, loss = classifier(), loss_of()
    seen, other = model.perturbable(batch()), model.perturbable(batch(1, lengths=(5, 7)))
    method, generator = AttentionVAT(), drawn()
    both = method.losses(seen, loss, other, drawn())["virtual"]
    rows = [method.divergences(each, generator) for each in (seen, other)]
    torch.testing.assert_close(both, torch.cat(rows).mean(), **EXACT)
    torch.testing.assert_close(method.losses(seen, loss, None, drawn())["virtual"], rows[0].mean(), **EXACT)


def test_gradient_flows_through_the_perturbed_prediction_alone() -> None:
    model, method = classifier(), AttentionVAT(eps=2.0)
    seen = model.perturbable(batch())
    r = method.perturbation(seen, drawn())
    divergence(seen.clean.detach(), seen.run(r)).mean().backward()
    wanted = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    method.divergences(model.perturbable(batch()), drawn()).mean().backward()
    for name, grad in wanted.items():
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, grad, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_the_power_iteration_leaves_gradients_alone_and_a_generator_decides(kind: Any) -> None:
    method = AttentionVAT(kind=kind, steps=2)
    model = classifier()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    seen = model.perturbable(batch(), level=method.level)
    first, again, other = (method.perturbation(seen, drawn(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert bool((model.head.weight.grad == 1).all()) and model.embed.table.weight.grad is None


def test_entropy_is_added_where_asked() -> None:
    seen, loss = read(), loss_of()
    plain, sure = (AttentionVAT(entmin=w).losses(seen, loss, generator=drawn()) for w in (0.0, 0.5))
    torch.testing.assert_close(sure["loss"], plain["loss"] + 0.5 * entropy_of(seen.clean).mean(), **EXACT)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "kind": ({"kind": "at"}, "kind='at' is unknown; choose one of vat, ivat, word_vat, word_ivat"),
    "eps": ({"eps": -1.0}, "eps=-1.0 must be a finite number of at least 0"),
    "lam": ({"lam": -1.0}, "lam=-1.0 must be a finite number of at least 0"),
    "xi": ({"xi": 0.0}, "xi=0.0 must be a finite number above 0; 0.01 suits single precision"),
    "negative xi": ({"xi": -1e-3}, "xi=-0.001 must be a finite number above 0"),
    "steps": ({"steps": 0}, "steps=0 must be a whole number of at least 1"),
    "basis": ({"basis_norm": "none"}, "basis_norm='none' is unknown"),
    "entmin": ({"entmin": -0.1}, "entmin=-0.1 must be"),
}


@pytest.mark.parametrize("case", BAD)
def test_options_out_of_range_are_refused(case: str) -> None:
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        AttentionVAT(**options)


def test_half_precision_needs_a_step_that_can_be_seen() -> None:
    scores = torch.zeros(2, 3, dtype=torch.bfloat16)
    seen = Perturbable(values=scores, keep=scores == 0, clean=scores[:, :1], run=lambda r: r.sum(1, keepdim=True))
    with pytest.raises(ValueError, match=r"xi=0.0001 is too small for torch.bfloat16.*at least 0.001"):
        AttentionVAT(xi=1e-4).perturbation(seen)
    AttentionVAT(xi=1e-2).perturbation(seen)


@pytest.mark.bad_input
def test_logits_of_another_shape_are_refused() -> None:
    scores = torch.zeros(2, 3).double()
    seen = Perturbable(values=scores, keep=scores == 0, clean=torch.zeros(2, 3, 4), run=lambda r: r)
    with pytest.raises(ValueError, match=r"logits \(2, 3, 4\) must be \(b\), \(b, 1\) or \(b, classes\)"):
        AttentionVAT().perturbation(seen)
    with pytest.raises(ValueError, match=r"logits \(2, 3\) and \(2, 4\) are of two shapes"):
        divergence(torch.zeros(2, 3), torch.zeros(2, 4))
