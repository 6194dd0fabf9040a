"""Agreement with the official code: attention layers, the classifier's forward and gradients, one adversarial step."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from saccade.models.checkpoint_names import LoadError, load
from saccade.models.text_classifier import TextClassifier
from saccade.nn.additive_attention import AdditiveAttention, masked_softmax
from saccade.nn.classification import classification_loss
from saccade.papers import AttentionAT

FOLDER = Path(__file__).resolve().parents[2] / "goldens" / "attention-at"
CLOSE = {"atol": 1e-6, "rtol": 0}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


@pytest.fixture
def case() -> tuple[TextClassifier, dict[str, Tensor]]:
    tensors = load_file(FOLDER / "case_bc_adversarial.safetensors")
    weights = part(tensors, "weights.")
    words, width = weights["_word_embed.e.weight"].shape
    inner, wide = weights["_attention_layer.attn.0.weight"].shape
    model = TextClassifier(words=words, width=width, hidden=wide // 2, inner=inner)
    assert model.load_official(weights).complete
    return model, tensors


def test_attention_layers_are_those_of_the_official_code() -> None:
    tensors = load_file(FOLDER / "case_attention_layers.safetensors")
    hidden, keep, query = tensors["hidden"], tensors["mask"].bool(), tensors["query"]
    plain = AdditiveAttention(hidden.shape[2], len(tensors["bc_tanh.attn.0.weight"]))
    load(plain, part(tensors, "bc_tanh."), (AdditiveAttention.names,))
    torch.testing.assert_close(masked_softmax(plain(hidden), keep), tensors["bc_tanh_attention"], **CLOSE)
    asking = AdditiveAttention(hidden.shape[2], len(tensors["qa_tanh.attn1p.weight"]), query.shape[1])
    load(asking, part(tensors, "qa_tanh."), (AdditiveAttention.query_names,))
    torch.testing.assert_close(masked_softmax(asking(hidden, query), keep), tensors["qa_tanh_attention"], **CLOSE)


def test_scores_attention_and_logits_are_the_official_ones(case: tuple[TextClassifier, dict[str, Tensor]]) -> None:
    model, tensors = case
    seen = model.perturbable(tensors["tokens"])
    there = seen.keep.to(torch.float32)
    torch.testing.assert_close(seen.values * there, tensors["scores"] * there, **CLOSE)
    torch.testing.assert_close(model.weights(tensors["tokens"]), tensors["attention"], **CLOSE)
    torch.testing.assert_close(seen.clean, tensors["logit"], **CLOSE)
    torch.testing.assert_close(model(tensors["tokens"]), tensors["logit"], **CLOSE)


def test_the_clean_loss_has_the_official_gradients(case: tuple[TextClassifier, dict[str, Tensor]]) -> None:
    model, tensors = case
    loss = classification_loss(model(tensors["tokens"]), tensors["label"], tensors["pos_weight"])
    torch.testing.assert_close(loss, tensors["loss_clean"], **CLOSE)
    loss.backward()
    for ours, theirs in model.names:
        for name, weight in model.named_parameters():
            if name.startswith(ours):
                wanted = tensors["grad_clean." + theirs + name.removeprefix(ours)]
                torch.testing.assert_close(weight.grad, wanted, **CLOSE)


def test_the_perturbation_and_its_losses_are_the_official_ones(
    case: tuple[TextClassifier, dict[str, Tensor]],
) -> None:
    model, tensors = case
    seen = model.perturbable(tensors["tokens"])
    loss = partial(classification_loss, labels=tensors["label"], weight=tensors["pos_weight"])
    method = AttentionAT(eps=2.0, lam=1.0)
    r = method.perturbation(seen, loss)
    torch.testing.assert_close(r, tensors["at_r"], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        masked_softmax(seen.values + r, seen.keep), tensors["at_attention_adv"], atol=1e-5, rtol=0
    )
    found = method.losses(seen, loss)
    torch.testing.assert_close(found["clean"], tensors["loss_clean"], **CLOSE)
    torch.testing.assert_close(found["adversarial"], tensors["at_loss_adv"], **CLOSE)
    torch.testing.assert_close(found["loss"], tensors["at_loss_total"], **CLOSE)


def test_weights_go_both_ways_under_the_official_names(case: tuple[TextClassifier, dict[str, Tensor]]) -> None:
    model, tensors = case
    weights = part(tensors, "weights.")
    stored = model.official_state()
    assert stored.keys() == weights.keys() and all(torch.equal(stored[name], weights[name]) for name in weights)
    with pytest.raises(LoadError, match="1 unexpected: _output.scale"):
        model.load_official(weights | {"_output.scale": torch.ones(1)})
