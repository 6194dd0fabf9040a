"""Which classes are read: by name, by the blocks they are made of, or not at all, each with its reason."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.attach import attach
from saccade.cli import main
from saccade.cli.hosts import counted
from saccade.families import FAMILIES, HostClass, hosts
from saccade.families.refused import REFUSED
from saccade.run.attached_model import family_of
from tests.hosts.stand_ins import Masked
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host


def test_every_class_is_read_or_has_a_reason() -> None:
    found = hosts()
    names = {host.name for host in found}
    assert len(names) == len(found) and names >= {"FluxTransformer2DModel", "UNet2DConditionModel", "ControlNetModel"}
    for host in found:
        assert (host.family is None) == bool(host.reason)
        assert host.unknown or host.family in {family.name for family in FAMILIES} or host.reason == REFUSED[host.name]
    assert {host.kind for host in found} == {"transformer", "U-Net", "control-net"}


def test_a_class_both_read_and_refused_would_be_said_as_read() -> None:
    assert not {name for family in FAMILIES for name in family.classes} & set(REFUSED)


def test_the_command_prints_a_table_with_counts_last_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["hosts"])
    assert not stop.value.code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == counted(hosts()) and any(line.startswith("FluxTransformer2DModel ") for line in lines)
    with pytest.raises(SystemExit):
        main(["hosts", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown[0].keys() == {"name", "kind", "family", "reason"} and len(shown) == len(hosts())


def test_counts_add_up() -> None:
    found = (
        HostClass(name="A", kind="U-Net", family="B"),
        HostClass(name="C", kind="U-Net", reason="holds several models"),
        HostClass(name="D", kind="U-Net", reason="unknown: run `saccade hosts probe D`"),
    )
    assert counted(found) == "3 classes: 1 read, 1 refused, 1 unknown"


def test_another_library_is_not_listed() -> None:
    with pytest.raises(ValueError, match="library='timm' is not listed; diffusers is"):
        hosts("timm")


def test_a_refused_class_says_why() -> None:
    from diffusers import FluxMultiControlNetModel

    with pytest.raises(ValueError, match="FluxMultiControlNetModel is no host: holds several models"):
        attach(FluxMultiControlNetModel([]))


class Mine(nn.Module):
    """A model of one's own, made of FLUX's blocks."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.transformer_blocks = model.transformer_blocks
        self.single_transformer_blocks = model.single_transformer_blocks
        self.pos_embed, self.within = model.pos_embed, [model]

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, img_ids: Tensor, txt_ids: Tensor, **rest: Any
    ) -> Any:
        return self.within[0](hidden_states, encoder_hidden_states, img_ids=img_ids, txt_ids=txt_ids, **rest)


class OtherNames(Mine):
    """The same, called otherwise."""

    def forward(self, x: Tensor, **rest: Any) -> Any:  # type: ignore[override]
        return x


class OwnBlock(nn.Module):
    """A block of one's own around an attention of FLUX."""

    def __init__(self, attn: nn.Module) -> None:
        super().__init__()
        self.attn = attn


def test_a_class_of_a_known_classs_blocks_is_read_as_that_class() -> None:
    model, inputs = BY_NAME["flux"].build()
    with attach(model, Masked()):
        wanted = output(model, inputs)
    mine = Mine(model)
    with pytest.warns(UserWarning, match="Mine is no class that saccade names; it is read as FLUX, since its blocks"):
        run = attach(mine, Masked())
    with run:
        assert torch.equal(output(mine, inputs), wanted)
        assert str(run.report()).startswith("FLUX (by its blocks): 1 forwards")


@pytest.mark.parametrize("change", ["arguments", "blocks", "names"])
def test_where_it_is_unsure_the_class_stays_unknown(change: str) -> None:
    model, _ = BY_NAME["flux"].build()
    mine = (OtherNames if change == "arguments" else Mine)(model)
    if change == "blocks":
        mine.transformer_blocks = nn.ModuleList(OwnBlock(block.attn) for block in model.transformer_blocks)
    if change == "names":
        mine.more = nn.ModuleList(model.transformer_blocks)
        del mine.transformer_blocks
    with pytest.raises(ValueError, match="no host family knows"):
        family_of(mine)


def test_blocks_that_several_classes_share_say_nothing() -> None:
    """PixArt and DiT, among others, are made of one class of blocks."""
    model, _ = BY_NAME["pixart"].build()
    mine = nn.Module()
    mine.transformer_blocks = model.transformer_blocks
    with pytest.raises(ValueError, match="no host family knows Module"):
        family_of(mine)
