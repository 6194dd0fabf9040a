"""DiT: sizes, storage, official names, and parts by text."""

from pathlib import Path

import pytest
import torch

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.models import Architecture, DiT
from saccade.models.dit import SIZES, DiTConfig
from saccade.papers import Clear, Dense

TINY = DiTConfig(depth=2, width=32, heads=2, side=8, channels=3, classes=5)


def _batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(3, 3, 8, 8), torch.rand(3), torch.tensor([0, 4, 5])


def _stirred(model: DiT) -> DiT:
    """Weights that are no longer zero anywhere."""
    torch.manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model


@pytest.mark.parametrize(
    ("size", "count"),
    [("S/2", 32_963_360), ("B/2", 130_512_416), ("L/2", 458_102_816), ("XL/2", 675_129_632)],
)
def test_sizes(size: str, count: int) -> None:
    assert DiT.parameters_of(SIZES[size]) == count


def test_fresh_model_answers_zero() -> None:
    out, losses = DiT(TINY)(*_batch())
    assert out.shape == (3, 6, 8, 8) and not out.any() and losses == {}


@pytest.mark.parametrize("modulation", ["zero", "single", "affine"])
@pytest.mark.parametrize("mixer", ["attention(qk_norm=True)", ("attention", "attention(rotary=True)")])
def test_stored_and_read(tmp_path: Path, modulation: str, mixer: str | tuple[str, ...]) -> None:
    model = _stirred(DiT(TINY, modulation=modulation, mixer=mixer, ffn="swiglu(hidden=48)"))
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path)
    batch = _batch()
    assert again.config == model.config
    assert torch.equal(again(*batch).out, model(*batch).out)


def test_official_names_round_trip() -> None:
    model, other = _stirred(DiT(TINY)), DiT(TINY)
    state = model.official_state()
    assert "blocks.1.attn.qkv.weight" in state and "final_layer.adaLN_modulation.1.bias" in state
    assert other.load_official(state).complete
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_report_of_what_did_not_match() -> None:
    state = DiT(TINY).official_state()
    del state["pos_embed"]
    state["head.weight"] = torch.zeros(1)
    state["blocks.0.attn.proj.bias"] = torch.zeros(7)
    report = DiT(TINY).load_official(state, strict=False)
    assert report.missing == ("positions",) and report.unexpected == ("head.weight",) and not report.complete
    assert report.mismatched == {"blocks.0.mixer.out.bias": ((7,), (32,))}
    assert report.official == {"positions": ("pos_embed",), "blocks.0.mixer.out.bias": ("blocks.0.attn.proj.bias",)}
    assert "1 missing: positions (in the file pos_embed)" in str(report) and "(7,) for (32,)" in str(report)


def test_one_image_does_not_see_the_others() -> None:
    model, (x, t, labels) = _stirred(DiT(TINY)), _batch()
    torch.testing.assert_close(model(x, t, labels).out[:1], model(x[:1], t[:1], labels[:1]).out)


def test_every_weight_learns() -> None:
    model = _stirred(DiT(TINY))
    model(*_batch()).out.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 9}, "side=9 must be a multiple of patch=2"),
        ({"heads": 3}, "width=32 must be a multiple of heads=3"),
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"mixer": ("attention",)}, "mixer names 1 parts for depth=2"),
        ({"mixer": "atention"}, "no mixer is named 'atention'"),
        ({"mixer": "attention(norm=1)"}, "mixer 'attention' has no option 'norm'"),
        ({"mixer": "attention(qk_norm=print)"}, "cannot be read"),
        ({"width": 30, "heads": 1}, "must be a multiple of 4"),
    ],
)
def test_bad_configs(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        DiT(TINY, **changes)


def test_bad_input(tmp_path: Path) -> None:
    model, (x, t, labels) = DiT(TINY), _batch()
    with pytest.raises(ValueError, match="label 6 is outside 0 to 5"):
        model(x, t, labels + 1)
    with pytest.raises(ValueError, match=r"must be \(batch, 3, 8, 8\)"):
        model(x[..., :4], t, labels)
    with pytest.raises(ValueError, match="size='M/2' of DiT is unknown"):
        DiT.of("M/2")
    with pytest.raises(FileNotFoundError, match=r"holds no config.json"):
        DiT.from_pretrained(tmp_path)


@pytest.mark.compile  # run-time shape checks would wrap the method that attach looks into
def test_attention_systems_attach_to_it() -> None:
    model, (x, t, labels) = _stirred(DiT(TINY)).eval(), _batch()
    layout = Layout.joint(text=0, grid=(1, 4, 4))
    with torch.no_grad():
        plain = model(x, t, labels).out
        with attach(model, Dense(), layout=layout):
            assert torch.equal(model(x, t, labels).out, plain)
        with attach(model, Clear(radius=1.0), layout=layout) as run:
            assert not torch.allclose(model(x, t, labels).out, plain)
        assert str(run.report()).count("clear") == 2
        assert torch.equal(model(x, t, labels).out, plain)
