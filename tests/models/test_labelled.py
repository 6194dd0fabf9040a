"""Labels and numbers of words given to a model as embedded words."""

import pytest
import torch

from saccade.models.labelled import LabelWords, TokenWords
from saccade.papers import EMMDiT
from saccade.papers.e_mmdit.config import EMMDiTConfig

TINY = EMMDiTConfig(groups=(1, 1, 1), width=32, heads=2, side=16, channels=3, words_width=24)


def _labelled(tokens: int = 16) -> LabelWords:
    torch.manual_seed(0)
    return LabelWords(EMMDiT(TINY), 5, tokens=tokens, width=24)


def test_each_label_has_words_of_its_own_and_none_too() -> None:
    model, x, t = _labelled(), torch.randn(1, 3, 16, 16), torch.rand(1)
    outs = [model(x, t, torch.tensor([label])).out for label in range(6)]
    assert all(out.shape == x.shape for out in outs)
    assert not any(torch.equal(a, b) for i, a in enumerate(outs) for b in outs[:i])
    words = model.label.table.weight[2].view(1, 16, 24)
    assert torch.equal(outs[2], model.model(x, t, words).out)


def test_words_learn() -> None:
    model = _labelled()
    model(torch.randn(2, 3, 16, 16), torch.rand(2), torch.tensor([1, 5])).out.square().sum().backward()
    grad = model.label.table.weight.grad
    assert grad is not None and grad[[1, 5]].any(1).all() and not grad[[0, 2, 3, 4]].any()


def test_captions_are_embedded_word_by_word() -> None:
    model, x, t = TokenWords(EMMDiT(TINY), 9, tokens=16, width=24), torch.randn(2, 3, 16, 16), torch.rand(2)
    ids = torch.tensor([[3, 1] + [9] * 14, [1, 3] + [9] * 14])
    words = model.words.word.table.weight[ids] + model.words.place
    assert torch.equal(model(x, t, ids).out, model.model(x, t, words).out)
    assert not torch.equal(model(x, t, ids).out, model(x, t, ids.flip(0)).out)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="tokens=0 and width=24 of the words must be at least 1"):
        _labelled(0)
    with pytest.raises(ValueError, match="label 6 is outside 0 to 5; 5 means no class"):
        _labelled()(torch.randn(1, 3, 16, 16), torch.rand(1), torch.tensor([6]))
    with pytest.raises(ValueError, match=r"ids of shape \(1, 3\) must have tokens=16 a row; pad with the last"):
        TokenWords(EMMDiT(TINY), 9, width=24)(torch.randn(1, 3, 16, 16), torch.rand(1), torch.tensor([[1, 2, 3]]))
