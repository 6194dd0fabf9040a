"""Attention AT and iAT: what a perturbation is, what it leaves alone, and when they are one."""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.nn.adversarial import gradient
from saccade.nn.perturbable import Perturbable
from saccade.papers import AttentionAT
from saccade.papers.attention_at.method import KINDS
from tests.papers.attention_at import plain
from tests.small_text import LABELS, LENGTHS, batch, classifier, loss_of

SCORES = ("at", "iat", "rp", "released_iat")
EXACT = {"atol": 1e-12, "rtol": 0}


def read(seed: int = 0, **more: Any) -> Perturbable:
    return classifier(seed).perturbable(batch(seed, **more))


def direct(scores: Tensor, keep: Tensor | None = None) -> Perturbable:
    """Scores of one sentence that are weighed by a fixed vector: the loss is known in closed form."""
    keep = torch.ones_like(scores, dtype=torch.bool) if keep is None else keep
    values = torch.arange(1.0, scores.shape[1] + 1, dtype=scores.dtype).square()

    def run(r: Tensor) -> Tensor:
        return ((scores + r).masked_fill(~keep, -torch.inf).softmax(-1) * values).sum(-1)

    return Perturbable(values=scores, keep=keep, clean=run(torch.zeros_like(scores)), run=run)


@given(seed=st.integers(0, 50), eps=st.floats(0.01, 10))
@settings(max_examples=10, deadline=None)
def test_at_is_the_plain_rewrite_and_of_norm_eps(seed: int, eps: float) -> None:
    seen, loss = read(seed), loss_of()
    r = AttentionAT(eps=eps).perturbation(seen, loss)
    torch.testing.assert_close(r, plain.at(seen, loss, eps), **EXACT)
    wanted = torch.tensor([0 if n == 1 else eps for n in LENGTHS], dtype=torch.float64)  # one word: nothing to gain
    torch.testing.assert_close(r.norm(dim=1), wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["word", "sentence", "batch"])
@given(seed=st.integers(0, 50))
@settings(max_examples=5, deadline=None)
def test_iat_in_closed_form_is_alpha_written_out(name: Any, seed: int) -> None:
    seen, loss = read(seed), loss_of()
    r = AttentionAT(kind="iat", basis_norm=name, eps=1.5).perturbation(seen, loss)
    torch.testing.assert_close(r, plain.iat(seen, loss, 1.5, name), atol=1e-9, rtol=0)


def test_differences_normed_word_by_word_leave_at() -> None:
    seen, loss = read(lengths=(7, 7, 7)), loss_of(LABELS[:3])
    at = AttentionAT(eps=2.0).perturbation(seen, loss)
    for name in ("word", "batch"):
        same = AttentionAT(kind="iat", basis_norm=name, eps=2.0).perturbation(seen, loss)
        torch.testing.assert_close(same, at, atol=1e-6, rtol=0)
    assert not torch.allclose(AttentionAT(kind="iat", eps=2.0).perturbation(seen, loss), at, atol=1e-2)


def test_scores_all_alike_have_no_differences_but_a_gradient() -> None:
    seen = direct(torch.full((1, 5), 0.3).double())
    for name in ("word", "sentence"):
        r = AttentionAT(kind="iat", basis_norm=name).perturbation(seen, torch.sum)
        assert torch.equal(r, torch.zeros_like(r))
    assert AttentionAT().perturbation(seen, torch.sum).norm() > 0.99


def test_iat_moves_most_what_differs_most_and_may_be_stretched_to_eps() -> None:
    scores = torch.tensor([[0.0, 0.1, 0.2, 3.0]]).double()
    seen = direct(scores)
    at, iat = (AttentionAT(kind=kind).perturbation(seen, torch.sum) for kind in ("at", "iat"))
    assert (iat / at)[0].argmax() == 3
    stretched = AttentionAT(kind="iat", renorm=True, eps=2.0).perturbation(seen, torch.sum)
    torch.testing.assert_close(stretched, 2 * iat / iat.norm(), **EXACT)
    assert abs(float(iat.norm()) - 1) > 0.05


@pytest.mark.parametrize("kind", SCORES)
def test_padding_is_not_moved_and_its_length_changes_nothing(kind: Any) -> None:
    model, method, loss = classifier(), AttentionAT(kind=kind, eps=3.0), loss_of()
    seen, longer = (model.perturbable(batch(more=more)) for more in (0, 3))
    r = method.perturbation(seen, loss, torch.Generator().manual_seed(0))
    assert bool((r[~seen.keep] == 0).all())
    if kind != "rp":  # numbers are drawn for all places
        more = method.perturbation(longer, loss)
        torch.testing.assert_close(more[:, : r.shape[1]], r, **EXACT)
        assert bool((more[:, r.shape[1] :] == 0).all())
        for name, value in method.losses(seen, loss).items():
            torch.testing.assert_close(value, method.losses(longer, loss)[name], **EXACT)


def test_a_model_that_reads_padding_does_not_have_it_moved() -> None:
    scores, keep = torch.randn(1, 4).double(), torch.tensor([[True, True, True, False]])
    seen = Perturbable(values=scores, keep=keep, clean=scores.sum(1), run=lambda r: (scores + r).square().sum(1))
    assert gradient(seen, torch.sum)[0, 3] == 0
    for kind in SCORES:
        assert AttentionAT(kind=kind).perturbation(seen, torch.sum)[0, 3] == 0


def test_to_first_order_no_other_direction_of_that_norm_costs_as_much() -> None:
    seen, loss = read(), loss_of()
    zero = torch.zeros_like(seen.values).requires_grad_()
    (g,) = torch.autograd.grad(loss(seen.run(zero)), zero)
    eps, before = 1e-5, loss(seen.clean)
    gain = {}
    for kind in ("at", "rp", "iat"):
        r = AttentionAT(kind=kind, eps=eps, renorm=True).perturbation(seen, loss, torch.Generator().manual_seed(1))
        gain[kind] = float((loss(seen.run(r)) - before).detach() / eps)
    assert gain["at"] > 0 and gain["at"] > gain["rp"] and gain["at"] > gain["iat"] > 0
    torch.testing.assert_close(gain["at"], float(g.norm(dim=1).sum()), atol=1e-5, rtol=1e-4)


def test_the_loss_rises_under_at_and_falls_under_the_released_step() -> None:
    seen, loss = read(), loss_of()
    before = float(loss(seen.clean.detach()))
    up, down = (AttentionAT(kind=kind, eps=0.1).losses(seen, loss)["adversarial"] for kind in ("at", "released_iat"))
    assert float(up.detach()) > before > float(down.detach())


def test_a_constant_on_all_scores_changes_nothing_and_at_adds_none() -> None:
    scores = torch.randn(1, 6, generator=torch.Generator().manual_seed(3)).double()
    for kind in ("at", "iat"):
        found = [AttentionAT(kind=kind).perturbation(direct(scores + shift), torch.sum) for shift in (0.0, 5.0)]
        torch.testing.assert_close(*found, atol=1e-9, rtol=0)
    sums = [AttentionAT(kind=kind).perturbation(direct(scores), torch.sum).sum() for kind in ("at", "iat")]
    assert abs(float(sums[0])) < 1e-9 < 1e-3 < abs(float(sums[1]))


def test_a_sentence_is_moved_alike_in_any_batch() -> None:
    model, ids = classifier(), batch()
    whole = AttentionAT().perturbation(model.perturbable(ids), loss_of())
    for row in (0, 1, 3):
        alone = AttentionAT().perturbation(model.perturbable(ids[row : row + 1]), loss_of(LABELS[row : row + 1]))
        torch.testing.assert_close(whole[row : row + 1], alone, atol=1e-9, rtol=0)


def gradients(method: AttentionAT | None, **changes: Any) -> dict[str, Tensor]:
    model = classifier(**changes)
    seen = model.perturbable(batch(), level=method.level if method else "scores")
    loss = loss_of()
    (loss(seen.clean) if method is None else method.losses(seen, loss)["loss"]).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_no_perturbation_is_the_clean_loss_once_more_and_no_weight_is_none(kind: Any) -> None:
    plainly = gradients(None)
    for method, times in ((AttentionAT(kind=kind, eps=0.0, lam=0.5), 1.5), (AttentionAT(kind=kind, lam=0.0), 1.0)):
        for name, grad in gradients(method).items():
            torch.testing.assert_close(grad, times * plainly[name], atol=1e-10, rtol=0)


def test_the_official_way_counts_the_clean_gradient_twice() -> None:
    plainly, once, twice = (gradients(m) for m in (None, AttentionAT(), AttentionAT(compat="official")))
    for name, grad in twice.items():
        torch.testing.assert_close(grad, once[name] + plainly[name], **EXACT)
    seen, loss = read(), loss_of()
    ours, theirs = (AttentionAT(compat=compat).losses(seen, loss)["loss"] for compat in (None, "official"))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_looking_for_a_perturbation_leaves_gradients_alone(kind: Any) -> None:
    model, method = classifier(), AttentionAT(kind=kind)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    r = method.perturbation(model.perturbable(batch(), level=method.level), loss_of())
    assert not r.requires_grad
    assert bool((model.head.weight.grad == 1).all()) and model.embed.table.weight.grad is None


def test_no_gradient_flows_through_the_perturbation() -> None:
    method = AttentionAT(eps=2.0)
    model, loss = classifier(), loss_of()
    seen = model.perturbable(batch())
    r = method.perturbation(seen, loss)
    model.zero_grad()
    (loss(seen.clean) + loss(seen.run(r.clone()))).backward()
    wanted = {name: weight.grad for name, weight in model.named_parameters()}
    for name, grad in gradients(method).items():
        torch.testing.assert_close(grad, wanted[name], **EXACT)


def test_passes_share_their_dropout_unless_told_otherwise() -> None:
    model = classifier(dropout=0.5).train()
    loss = loss_of()
    shared, apart = (model.perturbable(batch(), share_dropout=share) for share in (True, False))
    nothing = torch.zeros_like(shared.values)
    assert torch.equal(shared.run(nothing), shared.clean) and torch.equal(shared.run(nothing), shared.clean)
    assert not torch.equal(apart.run(nothing), apart.clean)
    assert torch.equal(AttentionAT(eps=0.0).losses(shared, loss)["adversarial"], loss(shared.clean))


def test_words_are_moved_over_the_whole_sequence_and_towards_their_neighbours() -> None:
    model, loss = classifier(normed=True), loss_of()
    seen = model.perturbable(batch(), level="words")
    free = AttentionAT(kind="word_at", eps=2.0).perturbation(seen, loss)
    torch.testing.assert_close(free.flatten(1).norm(dim=1), torch.full((5,), 2.0).double(), **EXACT)
    assert bool((free[~seen.keep[..., 0]] == 0).all())
    towards = AttentionAT(kind="word_iat", neighbours=1, eps=2.0).perturbation(seen, loss)
    table = model.embed.weight.detach()
    away = torch.cdist(seen.values[0, :1], table)[0]
    away[[0, int(batch()[0, 0])]] = torch.inf  # padding, and the word itself
    near = table[away.argmin()] - seen.values[0, 0]
    cosine = torch.cosine_similarity(towards[0, 0], near, dim=0)
    torch.testing.assert_close(cosine.abs(), torch.ones_like(cosine), atol=1e-9, rtol=0)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "kind": ({"kind": "at2"}, "kind='at2' is unknown; choose one of at, iat"),
    "eps": ({"eps": -1.0}, r"eps=-1.0 must be a finite number of at least 0"),
    "endless eps": ({"eps": float("inf")}, r"eps=inf must be a finite number"),
    "lam": ({"lam": -0.5}, r"lam=-0.5 must be a finite number of at least 0"),
    "basis": ({"basis_norm": "words"}, "basis_norm='words' is unknown; choose one of word, sentence, batch"),
    "neighbours": ({"neighbours": 0}, "neighbours=0 must be a whole number of at least 1"),
    "compat": ({"compat": "paper"}, "compat='paper' must be 'official', or None"),
}


@pytest.mark.parametrize("case", BAD)
def test_options_out_of_range_are_refused(case: str) -> None:
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        AttentionAT(**options)


def test_text_without_labels_is_refused() -> None:
    seen = read()
    with pytest.raises(ValueError, match="unlabelled text has no loss to move against; attention_vat"):
        AttentionAT().losses(seen, loss_of(), seen)


@pytest.mark.bad_input
def test_masks_that_do_not_fit_or_leave_nothing_are_refused() -> None:
    scores = torch.zeros(2, 3).double()
    with pytest.raises(ValueError, match=r"keep \(2, 2\) does not fit values \(2, 3\)"):
        Perturbable(values=scores, keep=torch.ones(2, 2).bool(), clean=scores[:, 0], run=lambda r: r[:, 0])
    with pytest.raises(ValueError, match="keep masks all of row 1; leave rows without a token out"):
        classifier().perturbable(torch.tensor([[1, 2], [0, 0]]))


def test_scores_after_a_softmax_are_warned_of() -> None:
    scores = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).double()
    with pytest.warns(UserWarning, match="values sum to 1 in every row, as after a softmax"):
        direct(scores.softmax(-1)).check_scores()
    direct(scores).check_scores()


@pytest.mark.parametrize("kind", SCORES)
def test_a_perturbation_of_an_answer_among_candidates(kind: Any) -> None:
    from saccade.models.pair_classifier import PairClassifier

    torch.manual_seed(0)
    model = PairClassifier(words=30, width=6, hidden=5, classes=4).double()
    candidates = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]).bool()
    seen = model.perturbable(batch(lengths=(6, 8, 4)), batch(1, lengths=(3, 1, 2)), candidates)
    found = AttentionAT(kind=kind).losses(
        seen, partial(torch.nn.functional.cross_entropy, target=torch.tensor([3, 0, 2]))
    )
    assert all(bool(value.isfinite()) for value in found.values())
    assert bool((seen.clean[~candidates] == -torch.inf).all())
