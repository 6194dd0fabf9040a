"""The small language model that routers are compared on."""

from pathlib import Path

import pytest
import torch

from saccade.nn.routing import record_routing
from saccade.papers.graph_moe import RoutedLM

SIZES = {"words": 11, "depth": 2, "width": 16, "heads": 2}
FFNS = ("moe(experts=4, top=2, shared=0)", "similar_moe(experts=4, top=2)", "attention_moe(experts=4, top=2, heads=0)")


def _lm(ffn: str) -> RoutedLM:
    torch.manual_seed(0)
    return RoutedLM(**SIZES, ffn=ffn, mixer="attention(rotary=True, return_trace=True)")


@pytest.mark.parametrize("ffn", FFNS)
def test_words_do_not_look_ahead(ffn: str) -> None:
    model, ids = _lm(ffn).eval(), torch.randint(11, (2, 9))
    other = ids.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 11
    a, b = model(ids).out, model(other).out
    torch.testing.assert_close(a[:, :5], b[:, :5])
    assert not torch.allclose(a[:, 5:], b[:, 5:])


@pytest.mark.parametrize("ffn", FFNS)
def test_padding_at_the_end_changes_nothing(ffn: str) -> None:
    model, ids = _lm(ffn).eval(), torch.randint(11, (2, 9))
    keep = torch.arange(9).expand(2, 9) < 6
    torch.testing.assert_close(model(ids, keep).out[:, :6], model(ids[:, :6]).out)


@pytest.mark.parametrize("ffn", FFNS)
def test_it_learns_tells_its_losses_and_routes_in_every_block(ffn: str) -> None:
    model, ids = _lm(ffn).train(), torch.randint(11, (2, 9))
    with record_routing(model) as found:
        out, losses = model(ids)
    (out.square().mean() + losses["balance"]).backward()
    assert len(found) == 2 and all(w.grad is not None for w in model.parameters())


def test_stored_and_read(tmp_path: Path) -> None:
    model, ids = _lm(FFNS[1]).eval(), torch.randint(11, (1, 5))
    model.save_pretrained(tmp_path)
    assert torch.equal(RoutedLM.from_pretrained(tmp_path).eval()(ids).out, model(ids).out)
