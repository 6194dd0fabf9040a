"""Saved sets come back as they were, are adapters for diffusers and peft too, and have the released names."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from saccade.attach import attach
from saccade.models.checkpoint_names import LoadError
from saccade.papers.dreamrelation import DreamRelation, RelationLora
from saccade.papers.dreamrelation.adapter_files import MEND
from tests.papers.dreamrelation.tiny import ALL, build, learned, run

pytestmark = pytest.mark.host


@pytest.mark.parametrize("alpha", [None, 6.0, 1.0])
def test_a_folder_gives_back_what_was_saved(alpha: float | None, tmp_path: Path) -> None:
    model, inputs = build("mochi")
    sets = learned(model, alpha=alpha)
    read = RelationLora.load(sets.save(tmp_path / "relation"))
    assert (read.rank, read.alpha, tuple(read.sets)) == (sets.rank, sets.alpha, tuple(sets.sets))
    for (name, ours), theirs in zip(sets.state_dict().items(), read.state_dict().values(), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=0, msg=name)
    with attach(model, DreamRelation(learned=sets, active=ALL)):
        wanted = run(model, inputs)
    with attach(model, DreamRelation(learned=tmp_path / "relation", active=ALL)):
        torch.testing.assert_close(run(model, inputs), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Already found a .peft_config:UserWarning")
@pytest.mark.parametrize("name", ("mochi", "wan", "flux"))
def test_diffusers_and_peft_apply_the_files_as_we_do(name: str, tmp_path: Path) -> None:
    model, inputs = build(name)
    folder = learned(model).save(tmp_path)
    with attach(model, DreamRelation(learned=folder)):
        wanted = run(model, inputs)
    for own in ("relation", "output"):
        model.load_lora_adapter(load_file(folder / f"{own}.safetensors"), adapter_name=own)
    model.set_adapters(["relation", "output"])
    torch.testing.assert_close(run(model, inputs), wanted, rtol=1e-4, atol=1e-5)


def test_the_relation_alone_needs_two_files(tmp_path: Path) -> None:
    model, inputs = build("wan")
    sets = learned(model)
    folder = sets.save(tmp_path)
    for own in ALL[1:]:
        (folder / f"{own}.safetensors").unlink()
    outs = []
    for given in (sets, folder):
        with attach(model, DreamRelation(learned=given)):
            outs.append(run(model, inputs))
    torch.testing.assert_close(*outs, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"names 'subject1', which was not trained; there are relation, and 'output'"):
        assert DreamRelation(learned=folder, active=("subject1",)).sets


def test_released_names_go_both_ways() -> None:
    model, _ = build("mochi")
    one, two = learned(model), learned(model, zero=True)
    state = one.official()
    layers = len(model.transformer_blocks)
    assert len(state) == 2 * (10 * layers - 1)  # the last block has no output of the text
    down, up = one.low("subject2").at(("transformer_blocks.1.attn1", "add_v_proj"))
    assert torch.equal(state["blocks.1.attn.to_v_y.lora_A.subject2"], down)
    assert torch.equal(state["blocks.1.attn.to_v_y.lora_B.subject2"], up)
    assert {"blocks.0.attn.proj_x.lora_A", "blocks.0.attn.proj_y.lora_B"} <= state.keys()
    two.load_official({"state_dict": state})  # as the released files wrap it
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_unknown_and_missing_released_names_are_refused() -> None:
    model, _ = build("mochi")
    sets = learned(model)
    state, before = sets.official(), {k: v.clone() for k, v in sets.state_dict().items()}
    for wrong in (
        {**state, "blocks.0.attn.to_q_x.lora_A.mood": torch.zeros(3, 4)},
        {k: v + 1 for k, v in state.items() if k != "blocks.0.attn.to_q_x.lora_A.relation"},
        {k: torch.zeros(1, 1) for k in state},
    ):
        with pytest.raises(LoadError, match=r"to_q_x\.lora_A"):
            sets.load_official(wrong)
    assert all(torch.equal(v, before[k]) for k, v in sets.state_dict().items())
    with pytest.raises(ValueError, match="have no official name"):
        learned(build("wan")[0]).official()


def test_folders_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"holds none of relation.safetensors, .*; {MEND}"):
        RelationLora.load(tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "relation.safetensors")
    with pytest.raises(ValueError, match="of another kind"):
        RelationLora.load(tmp_path)
    model, _ = build("wan")
    learned(model).save(tmp_path)
    learned(model, rank=2).save(tmp_path / "other")
    (tmp_path / "other" / "output.safetensors").replace(tmp_path / "output.safetensors")
    with pytest.raises(ValueError, match="files of several trainings"):
        RelationLora.load(tmp_path)
