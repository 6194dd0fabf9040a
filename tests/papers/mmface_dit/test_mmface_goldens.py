"""Agreement with the official code of MMFace-DiT, from its weights under their official names."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from saccade.models.checkpoint_names import LoadError
from saccade.papers import MMFaceDiT
from saccade.papers.mmface_dit.joint_attention import JointBlock, attended
from saccade.papers.mmface_dit.model import joint_rotation

FILE = Path(__file__).resolve().parents[2] / "goldens" / "mmface-dit" / "case_flow.safetensors"
GOLDEN = {name: value.float() if value.is_floating_point() else value for name, value in load_file(FILE).items()}
OFFICIAL = {name.removeprefix("w/"): value for name, value in GOLDEN.items() if name.startswith("w/")}
X, PICTURE = GOLDEN["in/x"].split(4, dim=1)
CONDITION = {
    "picture": PICTURE, "modality": GOLDEN["in/modality"], "words": GOLDEN["in/text"], "pooled": GOLDEN["in/pooled"],
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> MMFaceDiT:
    found = MMFaceDiT(depth=2, width=32, heads=2, side=8, channels=4, picture_channels=4, words_width=12).eval()
    assert found.load_official(OFFICIAL).complete
    return found


def _close(found: Tensor, wanted: str) -> None:
    torch.testing.assert_close(found, GOLDEN[wanted], rtol=1e-5, atol=1e-5 * float(GOLDEN[wanted].abs().max()))


@torch.no_grad()
def test_the_velocity_is_the_official_one(model: MMFaceDiT) -> None:
    _close(model(X, GOLDEN["in/t"], CONDITION).out, "out/v")


@torch.no_grad()
def test_everything_on_the_way_is_the_official_one(model: MMFaceDiT) -> None:
    seen: dict[str, tuple[Tensor, ...]] = {}
    for number, block in enumerate(model.blocks):
        block.register_forward_hook(lambda _, given, out, number=number: seen.update({f"{number}": (*given, *out)}))
    model(X, GOLDEN["in/t"], CONDITION)
    image, text, c, table = seen["0"][:4]
    for found, wanted in ((image, "image_tokens"), (text, "text_tokens"), (c, "c_global")):
        _close(found, f"mid/{wanted}")
    turns = GOLDEN["mid/rope"][0, :, 0]
    assert torch.equal(table[:, :, ::2], torch.stack((turns[..., 0, 0], turns[..., 1, 0])))
    for number in ("0", "1"):
        _close(seen[number][4], f"mid/blk{number}.image")
        _close(seen[number][5], f"mid/blk{number}.text")


@torch.no_grad()
def test_what_each_stream_sees_is_the_official_one(model: MMFaceDiT) -> None:
    block = model.blocks[0]
    assert isinstance(block, JointBlock)
    vectors = block.modulation(GOLDEN["mid/c_global"])
    own = block.image.operands(GOLDEN["mid/image_tokens"], vectors[:6])
    other = block.text.operands(GOLDEN["mid/text_tokens"], vectors[6:])
    joined = type(own)(*(torch.cat(pair, dim=2) for pair in zip(own, other, strict=True)))
    seen = attended(joined, joint_rotation((4, 4), 5, 16, "zero"))
    _close(block.image.out(seen[:, :16]), "mid/blk0.attn_image")
    _close(block.text.out(seen[:, 16:]), "mid/blk0.attn_text")


def test_official_weights_go_both_ways(model: MMFaceDiT) -> None:
    written = model.official_state()
    assert written.keys() == OFFICIAL.keys()
    assert all(torch.equal(value, OFFICIAL[name]) for name, value in written.items())


def test_other_names_are_refused(model: MMFaceDiT) -> None:
    with pytest.raises(LoadError, match="1 unexpected: pos_embed"):
        model.load_official({**OFFICIAL, "pos_embed": torch.zeros(1)})
    with pytest.raises(LoadError, match=r"modality.weight \(in the file modality_embedder.weight\)"):
        model.load_official({name: value for name, value in OFFICIAL.items() if name != "modality_embedder.weight"})
