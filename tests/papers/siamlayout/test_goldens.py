"""Agreement with the released SD3 code: codes, tokens, every block's streams, outputs; its names both ways."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.core.errors import SaccadeError
from saccade.papers.siamlayout import LayoutStream, box_code
from tests.papers.siamlayout.golden import close, inputs, layout, models, stored, weights

pytestmark = pytest.mark.host


@torch.no_grad()
def test_codes_and_tokens() -> None:
    _, adapter = models()
    close(box_code(stored()["in/boxes"]), "mid/fourier")
    close(adapter.tokens(layout(), lambda x: x), "mid/layout_tokens")


@torch.no_grad()
def test_the_output_with_the_branch_and_without() -> None:
    base, adapter = models()
    with LayoutStream(base, adapter) as stream:
        close(base(**inputs())[0], "out/scale0")
        with stream.holding(layout()):
            close(base(**inputs())[0], "out/scale1")


@torch.no_grad()
def test_every_stream_of_every_block() -> None:
    base, adapter = models()
    seen: dict[str, Tensor] = {}
    for number, block in enumerate(base.transformer_blocks):

        def keep(module: Any, args: Any, out: Any, n: int = number) -> None:
            text, image = out
            seen[f"mid/blk{n}.image"] = image
            if text is not None:
                seen[f"mid/blk{n}.text"], seen[f"mid/blk{n}.layout"] = text[:, :-10], text[:, -10:]

        block.register_forward_hook(keep)
    attention: Any = adapter.double_blocks[0].attn
    attention.register_forward_hook(
        lambda m, args, out: seen.update({
            "mid/blk0.norm_image": args[0], "mid/blk0.norm_layout": args[1],
            "mid/blk0.branch2_image": out[0], "mid/blk0.branch2_layout": out[1],
        })
    )  # fmt: skip
    with LayoutStream(base, adapter) as stream, stream.holding(layout()):
        base(**inputs())
    names = {name for name in stored() if name.startswith("mid/blk")}
    assert names == {*seen}
    for name, value in seen.items():
        close(value, name)


def test_official_names_both_ways_and_nothing_unknown() -> None:
    _, adapter = models()
    written = adapter.official()
    known = weights()
    assert all(torch.equal(known[name], value) for name, value in written.items())
    assert {*written} == {name for name in known if "bbox" in name or name.startswith("position_net.")}
    with pytest.raises(SaccadeError, match=r"position_net\.more"):
        adapter.load_official({**known, "position_net.more": torch.zeros(1)})
    lacking = {name: value for name, value in known.items() if "blocks.1.bbox_forward.bias" not in name}
    with pytest.raises(SaccadeError, match=r"transformer_blocks\.1\.bbox_forward\.bias"):
        adapter.load_official(lacking)
