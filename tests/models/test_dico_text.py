"""DiCo told by words: neutral at first, equal to DiCo where captions write nothing, and read where they do."""

from pathlib import Path

import pytest
import torch
from torch import nn

from saccade.models import Architecture, DiCo
from saccade.models.dico import DiCoConfig
from saccade.models.dico_text import DiCoText, DiCoTextConfig
from saccade.nn.text_conv import TextConv

TINY = DiCoTextConfig(width=8, depths=(1, 1, 1, 1, 1), channels=3, words=6, kernel=3)


def _batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(2, 3, 8, 12).double(), torch.tensor([3.0, 700.0]).double(), torch.randn(2, 7, 6).double()


def _stirred(model: DiCo) -> DiCo:
    torch.manual_seed(0)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model.double()


def test_fresh_model_answers_zero_and_blocks_pass() -> None:
    model, batch = DiCoText(TINY).double(), _batch()
    seen: list[bool] = []
    for block in (*model.encoder2, *model.decoder1):
        block.register_forward_hook(lambda _, given, part: seen.append(torch.equal(given[0], part.out)))
    out, losses = model(*batch)
    assert out.shape == (2, 6, 8, 12) and not out.any() and losses == {} and seen == [True, True]


def test_equals_dico_where_captions_write_nothing() -> None:
    model, (x, t, words) = _stirred(DiCoText(TINY)), _batch()
    for reader in (module for module in model.modules() if isinstance(module, TextConv)):
        nn.init.zeros_(reader.outer.weight)
        nn.init.zeros_(reader.outer.bias)
    config = DiCoConfig(width=8, depths=TINY.depths, channels=3, classes=1)
    plain = _stirred(DiCo(config))
    known = {name: w for name, w in model.state_dict().items() if "reader" not in name and "label" not in name}
    plain.load_state_dict(known, strict=False)
    for table, label in zip(plain.label, model.label, strict=True):
        table.table.weight.data.copy_(label(words.mean(1)))
    torch.testing.assert_close(model(x, t, words).out, plain(x, t, torch.arange(2)).out)


def test_each_picture_reads_its_own_caption_in_order() -> None:
    model, (x, t, words) = _stirred(DiCoText(TINY)), _batch()
    out = model(x, t, words).out
    torch.testing.assert_close(out[:1], model(x[:1], t[:1], words[:1]).out)
    turned = words.clone()
    turned[1] = words[1].flip(0)  # the same mean
    other = model(x, t, turned).out
    torch.testing.assert_close(other[0], out[0])
    assert not torch.allclose(other[1], out[1])


def test_every_weight_learns_and_is_stored(tmp_path: Path) -> None:
    model, batch = _stirred(DiCoText(TINY)), _batch()
    out = model(*batch).out
    out.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    model.float().save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path)
    single = [value.float() for value in batch]
    assert again.config == TINY and torch.equal(again(*single).out, model(*single).out)


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
