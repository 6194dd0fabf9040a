"""Scores of transformers' own classifiers, recorded and shifted through the seam."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from saccade.attach import attach
from saccade.core.errors import StateError
from saccade.core.site import at
from saccade.nn.adversarial import adversarial, gradient, make_basis
from saccade.nn.classification import classification_loss
from saccade.papers import AttentionAT, AttentionVAT
from saccade.systems.score_shift import AttachedClassifier, ScoreShift

pytestmark = pytest.mark.host
LABELS = torch.tensor([1, 0, 1])
LOSS = partial(classification_loss, labels=LABELS)


def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 40, (3, 7), generator=generator)
    keep = (torch.arange(7) < torch.tensor([7, 5, 3])[:, None]).long()
    return {"input_ids": ids * keep, "attention_mask": keep}


SIZES = {"vocab_size": 40, "num_labels": 2, "pad_token_id": 0, "initializer_range": 0.4}
WIDE = SIZES | {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def bert(**changes: Any) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**{**WIDE, **QUIET, **changes}))


def distilbert() -> Any:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "dropout": 0.0, "attention_dropout": 0.0}
    return DistilBertForSequenceClassification(DistilBertConfig(**SIZES, **sizes))


def modern_bert() -> Any:
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    torch.manual_seed(0)
    marks = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    config = ModernBertConfig(**WIDE, **marks, reference_compile=False, attn_implementation="sdpa")
    return ModernBertForSequenceClassification(config)


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    return LlamaForSequenceClassification(LlamaConfig(**WIDE, num_key_value_heads=1))


HOSTS = {"bert": bert, "distilbert": distilbert, "modern_bert": modern_bert, "llama": llama}


@pytest.mark.parametrize("host", HOSTS)
def test_nothing_added_gives_the_hosts_own_logits_and_something_changes_them(host: str) -> None:
    model = HOSTS[host]().eval()
    given = inputs()
    plain = model(**given).logits
    with attach(model, shift := ScoreShift()):
        assert torch.equal(model(**given).logits, plain)  # nothing is planned
        seen = shift.perturbable(model, **given)
        torch.testing.assert_close(seen.clean, plain, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(seen.run(torch.zeros_like(seen.values)), plain, atol=1e-6, rtol=1e-5)
        g = gradient(seen, LOSS)
        assert not torch.allclose(seen.run(50 * torch.randn_like(seen.values)), plain, atol=1e-4)
        assert torch.equal(model(**given).logits, plain)
    assert bool((g.flatten(1).norm(dim=1) > 0).all()) and g.shape == (3, 2, 2, 7, 7)
    assert bool((g.sum(-1).abs() < 1e-6).all())  # a shift of a row moves no softmax


def test_scores_and_what_counts_are_the_hosts() -> None:
    model = bert(num_hidden_layers=1, attn_implementation="eager").eval()
    given = inputs()
    maps = model(**given, output_attentions=True).attentions[0]
    with attach(model, shift := ScoreShift()):
        seen = shift.perturbable(model, **given)
    weights = seen.values[:, 0].masked_fill(~seen.keep[:, 0].any(2, keepdim=True), -torch.inf).softmax(-1)
    there = given["attention_mask"].bool()[:, None, :, None].expand_as(maps)
    torch.testing.assert_close(weights[there], maps[there], atol=1e-6, rtol=1e-5)
    keep = given["attention_mask"].bool()
    assert torch.equal(seen.keep[:, 0, 0], keep[:, :, None] & keep[:, None])


def test_causal_scores_ahead_do_not_count() -> None:
    model = llama().eval()
    given = {"input_ids": inputs()["input_ids"].clamp(min=3)}
    with attach(model, shift := ScoreShift()):
        seen = shift.perturbable(model, **given)
    assert torch.equal(seen.keep[0, 0, 0], torch.ones(7, 7, dtype=torch.bool).tril())


def test_what_is_added_is_what_the_host_adds_as_a_mask() -> None:
    """A map of numbers is a mask to BERT, the same for all heads."""
    model = bert().eval()
    ids = inputs()["input_ids"].clamp(min=3)
    r = torch.randn(3, 1, 7, 7, generator=torch.Generator().manual_seed(1))
    wanted = model(input_ids=ids, attention_mask=r).logits
    with attach(model, shift := ScoreShift()):
        seen = shift.perturbable(model, input_ids=ids)
        found = seen.run(r[:, None].expand_as(seen.values))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["at", "iat", "rp", "released_iat"])
def test_the_norm_is_over_all_heads_and_layers_of_a_sample(kind: Any) -> None:
    model, method = bert().eval(), AttentionAT(kind=kind, eps=2.0, renorm=True)
    with attach(model, method):
        seen = method.perturbable(model, **inputs())
        r = method.perturbation(seen, LOSS)
        assert bool((r[~seen.keep] == 0).all())
        torch.testing.assert_close(r.flatten(1).norm(dim=1), torch.full((3,), 2.0))
        losses = method.losses(seen, LOSS)
        losses["loss"].backward()
    up = losses["adversarial"] > losses["clean"]
    assert bool(up) is (kind in ("at", "iat")) or kind == "rp"
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.classifier.parameters())


def test_the_first_order_gain_is_the_norm_of_the_gradient() -> None:
    model = bert().double().eval()
    with attach(model, shift := ScoreShift()):
        seen = shift.perturbable(model, **inputs())
        r = adversarial(seen, lambda z: LOSS(z) * 3, 1e-5, make_basis(seen, "free"))
        gain = (LOSS(seen.run(r)) - LOSS(seen.clean)) * 3 / 1e-5
        norm = gradient(seen, lambda z: LOSS(z) * 3).flatten(1).norm(dim=1).sum()
    torch.testing.assert_close(gain, norm, atol=0, rtol=1e-3)


def test_the_virtual_form_reads_no_label_on_a_host() -> None:
    model, method = bert().eval(), AttentionVAT(eps=5.0, where=at(depth=(0.5, 1.0)))
    with attach(model, method):
        seen = method.perturbable(model, **inputs())
        found = method.divergences(seen, torch.Generator().manual_seed(0))
        assert seen.values.shape == (3, 1, 2, 7, 7) and bool((found > 0).all())
        found.mean().backward()
    assert model.bert.encoder.layer[0].attention.self.query.weight.grad.abs().sum() > 0


def test_passes_share_the_hosts_dropout() -> None:
    model = bert(hidden_dropout_prob=0.3).train()
    with attach(model, shift := ScoreShift()):
        shared, apart = (shift.perturbable(model, share_dropout=share, **inputs()) for share in (True, False))
        nothing = torch.zeros_like(shared.values)
        torch.testing.assert_close(shared.run(nothing), shared.clean, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(apart.run(nothing), apart.clean, atol=1e-3)


def test_checkpointed_parts_run_again_under_the_numbers_of_their_own_pass() -> None:
    grads = []
    for checkpointed in (False, True):
        model, method = bert().train(), AttentionAT(eps=5.0)
        if checkpointed:
            for layer in model.bert.encoder.layer:
                layer.gradient_checkpointing = True
                layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        with attach(model, method):
            method.losses(method.perturbable(model, **inputs()), LOSS)["loss"].backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*grads, atol=1e-6, rtol=1e-4)


def test_a_wrapped_host_reads_padded_numbers() -> None:
    model = bert().eval()
    ids = inputs()["input_ids"]
    with attach(model, shift := ScoreShift()):
        whole = AttachedClassifier(model, shift)
        torch.testing.assert_close(whole(ids), model(**inputs()).logits)
        seen = whole.perturbable(ids)
        assert torch.equal(seen.keep[:, 0, 0, 0], inputs()["attention_mask"].bool())
        with pytest.raises(ValueError, match="level='words' is not to be had of a host; perturb its scores"):
            whole.perturbable(ids, level="words")


def test_sites_unlike_each_other_and_models_without_sites_are_refused() -> None:
    model = bert().eval()
    with pytest.raises(StateError, match="no site recorded its scores; attach this system to the model first"):
        ScoreShift().perturbable(model, **inputs())
    from saccade.mechanisms.shifted_scores import Scores
    from saccade.systems.score_shift import stacked

    found = {name: Scores(torch.zeros(1, h, 3, 3), torch.ones(1, h, 3, 3).bool()) for name, h in (("a", 2), ("b", 4))}
    with pytest.raises(ValueError, match=r"'a' \(1, 2, 3, 3\) and 'b' \(1, 4, 3, 3\) differ in shape"):
        stacked(found, None)
