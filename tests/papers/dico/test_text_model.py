"""DiCo conditioned on words: neutral at first, equal to DiCo where captions write nothing, and read where they do."""

from pathlib import Path

import pytest
import torch
from torch import nn

from saccade.models import Architecture
from saccade.papers import DiCo
from saccade.papers.dico.model import DiCoConfig
from saccade.papers.dico.text_model import DiCoText, DiCoTextConfig

TINY = DiCoTextConfig(width=8, depths=(1, 1, 1, 1, 1), channels=3, words=6, kernel=3)
READERS = ("conv", "attention")


def _batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(2, 3, 8, 12).double(), torch.tensor([3.0, 700.0]).double(), torch.randn(2, 7, 6).double()


def _stirred(model: DiCo) -> DiCo:
    torch.manual_seed(0)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model.double()


@pytest.mark.parametrize("reader", READERS)
def test_fresh_model_answers_zero_and_blocks_pass(reader: str) -> None:
    model, batch = DiCoText(TINY, reader=reader).double(), _batch()
    seen: list[bool] = []
    for block in (*model.encoder2.children(), *model.decoder1.children()):
        block.register_forward_hook(lambda _, given, part: seen.append(torch.equal(given[0], part.out)))
    out, losses = model(*batch)
    assert out.shape == (2, 6, 8, 12) and not out.any() and losses == {} and seen == [True, True]


@pytest.mark.parametrize("reader", READERS)
def test_equals_dico_where_captions_say_nothing(reader: str) -> None:
    model, (x, t, words) = _stirred(DiCoText(TINY, reader=reader)), _batch()
    last = "reader.outer." if reader == "conv" else "reader.out."
    for weight in (weight for name, weight in model.named_parameters() if last in name):
        nn.init.zeros_(weight)
    config = DiCoConfig(width=8, depths=TINY.depths, channels=3, classes=1)
    plain = _stirred(DiCo(config))
    known = {name: w for name, w in model.state_dict().items() if "reader" not in name and "label" not in name}
    plain.load_state_dict(known, strict=False)
    for table, label in zip(plain.label, model.label, strict=True):
        table.table.weight.data.copy_(label(words.mean(1)))
    torch.testing.assert_close(model(x, t, words).out, plain(x, t, torch.arange(2)).out)


@pytest.mark.parametrize("reader", READERS)
def test_each_picture_reads_its_own_caption(reader: str) -> None:
    model, (x, t, words) = _stirred(DiCoText(TINY, reader=reader)), _batch()
    out = model(x, t, words).out
    torch.testing.assert_close(out[:1], model(x[:1], t[:1], words[:1]).out)
    turned, spread = words.clone(), words.clone()
    turned[1] = words[1].flip(0)
    spread[1] = 2 * words[1] - words[1].mean(0)  # the same mean
    other, third = model(x, t, turned).out, model(x, t, spread).out
    torch.testing.assert_close(other[0], out[0])
    assert not torch.allclose(third[1], out[1])
    assert torch.allclose(other[1], out[1]) == (reader == "attention")  # only kernels know the order of words


@pytest.mark.parametrize("reader", READERS)
def test_every_weight_learns_and_is_stored(tmp_path: Path, reader: str) -> None:
    model, batch = _stirred(DiCoText(TINY, reader=reader)), _batch()
    out = model(*batch).out
    out.square().sum().backward()
    learning = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    shifts = {name for name in model.state_dict() if name.endswith("reader.k.bias")}  # of all scores alike: no effect
    assert learning | shifts == set(model.state_dict())
    model.float().save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path)
    single = [value.float() for value in batch]
    assert again.config == model.config and torch.equal(again(*single).out, model(*single).out)


def test_sizes_are_those_of_dico() -> None:
    extra = DiCoText.parameters_of(DiCoText.sizes["S"]) - DiCo.parameters_of(DiCo.sizes["S"])
    widths = [128] * 5 + [256] * 4 + [512] * 4 + [256] * 8
    readers = sum((768 + 1) * d + (d + 1) * d for d in widths)
    assert extra == readers + sum((768 + 1) * d - 1001 * d for d in (128, 256, 512))


def test_bad_input() -> None:
    x, t, words = _batch()
    with pytest.raises(ValueError, match=r"words of shape \(2, 14, 6\) must be 1 to 9 to a caption"):
        DiCoText(TINY).double()(x, t, torch.cat((words, words), dim=1))
    with pytest.raises(ValueError, match="words=0 must be at least 1"):
        DiCoText(TINY, words=0)
    with pytest.raises(ValueError, match="kernel=4 must be odd"):
        DiCoText(TINY, kernel=4)
    with pytest.raises(ValueError, match="reader='mlp' is unknown; choose one of conv, attention"):
        DiCoText(TINY, reader="mlp")
