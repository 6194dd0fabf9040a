"""Official checkpoints: read whole or refused, whatever wraps them; written whole or refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from saccade.core.errors import SaccadeError
from saccade.models import Architecture, DiT
from saccade.models.checkpoint_names import LoadError
from saccade.models.dit import DiTConfig
from saccade.models.unwrapping import unwrapped
from saccade.papers import DCDiT, DiCo, DiTMoE, DyDiLiT, MoHDiT, RoutedLM
from saccade.papers.dc_dit.model import DCDiTConfig
from saccade.papers.dico.model import DiCoConfig
from saccade.papers.dit_moe.model import DiTMoEConfig

DIT = DiTConfig(depth=2, width=32, heads=2, side=8, channels=3, classes=5)
MOE = DiTMoEConfig(depth=2, width=32, heads=2, side=8, channels=3, classes=5, experts=2)
DICO = DiCoConfig(width=8, depths=(1, 1, 1, 1, 1), channels=3, classes=5)
CHUNKS = DCDiTConfig(layout=("c1", ("D1",), "c1"), width=64, heads=2, narrow=32, side=8, channels=3, classes=5)
NESTED = ("c1", ("c1", ("D1",), "c1"), "c1")


def _stirred(model: Any) -> Any:
    """Weights that are no longer zero anywhere."""
    torch.manual_seed(0)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    return model


def _same(a: nn.Module, b: nn.Module) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


def _fused(state: dict[str, Any]) -> dict[str, Any]:
    """Attention as the official code of XL and G names it."""
    plain = {".attn.qkv.": ".attn.Wqkv.", ".attn.proj.": ".attn.out_proj."}
    for ours, theirs in plain.items():
        state = {name.replace(ours, theirs): value for name, value in state.items()}
    return state


@pytest.mark.parametrize("mixer", ["attention", "attention(qk_norm=True)"])
@pytest.mark.parametrize("fused", [False, True])
def test_both_namings_of_the_attention_of_dit_moe_are_read(mixer: str, fused: bool) -> None:
    model = _stirred(DiTMoE(MOE, mixer=mixer))
    state = model.official_state()
    plain = {name.replace(".Wqkv.", ".qkv.").replace(".out_proj.", ".proj."): value for name, value in state.items()}
    other = DiTMoE(MOE, mixer=mixer)
    assert other.load_official(_fused(plain) if fused else plain).complete and _same(model, other)


def test_dit_moe_is_written_as_the_code_of_its_size_reads_it() -> None:
    """S to L have timm's attention without norms, XL and G the fused one with norms of q and k."""
    plain, fused = (DiTMoE(MOE, mixer=mixer).official_state() for mixer in ("attention", "attention(qk_norm=True)"))
    assert {"blocks.0.attn.qkv.weight", "blocks.1.attn.proj.bias"} <= plain.keys()
    assert {"blocks.0.attn.Wqkv.weight", "blocks.1.attn.out_proj.bias", "blocks.0.attn.k_norm.bias"} <= fused.keys()
    assert not [name for name in fused if ".attn.qkv." in name or ".attn.proj." in name]


def test_a_checkpoint_that_does_not_fit_is_refused_and_nothing_is_loaded() -> None:
    state = DiT(DIT).official_state()
    del state["blocks.1.attn.qkv.weight"]
    state["head.weight"] = torch.zeros(1)
    model = _stirred(DiT(DIT))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        LoadError, match=r"1 missing: blocks.1.mixer.qkv.weight \(in the file blocks.1.attn.qkv.weight\)"
    ):
        model.load_official(state)
    with pytest.raises(ValueError, match=r"does not fit this DiT: .*1 unexpected: head.weight.*strict=False") as raised:
        model.load_official(state)
    assert raised.value.report.missing == ("blocks.1.mixer.qkv.weight",)  # type: ignore[attr-defined]
    assert isinstance(raised.value, SaccadeError)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    report = model.load_official(state, strict=False)
    assert report.unexpected == ("head.weight",) and len(report.loaded) == len(before) - 1


def test_experts_of_unequal_shapes_and_too_many_are_told() -> None:
    state = DiTMoE(MOE).official_state()
    state["blocks.0.moe.experts.1.up_proj.weight"] = torch.zeros(7, 32)
    state["blocks.0.moe.experts.2.up_proj.weight"] = torch.zeros(128, 32)
    report = DiTMoE(MOE).load_official(state, strict=False)
    assert report.mismatched == {"blocks.0.ffn.experts.up.weight": ((2, 7, 32), (2, 128, 32))}
    assert report.unexpected == ("blocks.0.moe.experts.2.up_proj.weight",)


WRAPPED = {
    "ema": lambda model: {"model": DiT(DIT).state_dict(), "ema": model.official_state(), "opt": {}, "args": object()},
    "model": lambda model: {"ema": {}, "model": model.official_state(), "epoch": 3},
    "state_dict": lambda model: {"state_dict": {f"model.{k}": v for k, v in model.official_state().items()}, "step": 1},
    "module": lambda model: {f"module.{k}": v for k, v in model.official_state().items()},
    "compiled": lambda model: {f"_orig_mod.{k}": v for k, v in model.official_state().items()},
    "both": lambda model: {f"module._orig_mod.{k}": v for k, v in model.official_state().items()},
    "blocks": lambda model: {k.replace("s.0.", "s.0._orig_mod."): v for k, v in model.official_state().items()},
    "average": lambda model: {
        "n_averaged": torch.tensor(9), **{f"module.{k}": v for k, v in model.official_state().items()}
    },
}  # fmt: skip


@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize(("kind", "config"), [(DiT, DIT), (DiCo, DICO), (DiTMoE, MOE), (DCDiT, CHUNKS)])
def test_wrapped_checkpoints_are_read(how: str, kind: type[Architecture], config: Any) -> None:
    model, other = _stirred(kind(config)), kind(config)
    assert other.load_official(WRAPPED[how](model)).complete and _same(model, other)


def test_an_average_of_torch_is_read_by_its_names() -> None:
    average = AveragedModel(nn.Linear(2, 3))
    assert unwrapped(average.state_dict(), ("weight", "bias")).keys() == {"weight", "bias"}


def test_names_of_nothing_known_are_told_as_they_are() -> None:
    report = DiT(DIT).load_official({"net.a.weight": torch.zeros(1)}, strict=False)
    assert report.unexpected == ("net.a.weight",) and report.loaded == ()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("dit.pt", r"state is a str, not a dict of tensors; read the file first"),
        (DiT(DIT), r"state is a DiT, not a dict of tensors"),
        (
            {"weights": {"a": torch.zeros(1)}, "step": 1},
            r"no tensors under 'weights', 'step'; .* as state\['weights'\]",
        ),
        ({"ema": {"decay": 0.9, "shadow": [torch.zeros(1)]}}, r"no tensors under 'decay', 'shadow'; give the dict"),
        ({"a.b": torch.zeros(1), "a._orig_mod.b": torch.zeros(1)}, r"'a.b' and 'a._orig_mod.b', two weights of one"),
    ],
)
def test_what_is_no_dict_of_tensors_is_refused_by_name(state: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiT(DIT).load_official(state)


@pytest.mark.parametrize(
    ("model", "nameless"),
    [
        (DCDiT(CHUNKS, layout=NESTED), "stage.inner.encoder"),
        (DCDiT(CHUNKS, router="neighbours"), "stage.router.score.query.weight"),
        (DCDiT(CHUNKS, router="sequence"), "stage.router.score.query.weight"),
        (DCDiT(CHUNKS, condition_norm=True), "stage.encoder.condition_norm.weight"),
        (DiT(DIT, ffn="swiglu"), "blocks.0.ffn.gate.weight"),
        (DiT(DIT, modulation="single"), "shared.linear.weight"),
        (DiTMoE(MOE, moe_every=2), "blocks.0.ffn.gate.weight"),
        (DyDiLiT(depth=1, width=32, heads=2, side=8), "blocks.0.mixer."),
        (MoHDiT(replace(DIT, mixer="linear(local=5)")), "blocks.0.mixer.local"),
        (RoutedLM(depth=1), "words.weight"),
    ],
)  # fmt: skip
def test_a_configuration_without_official_names_is_not_written(model: Architecture, nameless: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{type(model).__name__} have no official name: .*{nameless}.*save_pretrained"
    ):
        model.official_state()


def test_what_has_no_official_name_is_missing(tmp_path: Path) -> None:
    model = DCDiT(CHUNKS, router="neighbours")
    with pytest.raises(LoadError, match=r"stage.router.score.query.weight \(no official name\)"):
        model.load_official(DCDiT(CHUNKS).official_state())
