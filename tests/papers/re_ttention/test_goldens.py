"""Agreement with the released processors, run on diffusers' own modules: same weights, same inputs, step after step.

The inputs are put in where a block of the real model calls its attention, so all the rest of the model is random.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.core.state import Memory
from saccade.papers.re_ttention import RasterWindow, ReTtention
from saccade.papers.re_ttention.statistics import UseStatistics
from tests.hosts.tiny import output

pytestmark = pytest.mark.host
FOLDER = Path(__file__).resolve().parents[2] / "goldens" / "re-ttention"
CLOSE = {"atol": 3e-5, "rtol": 0}
Inputs = dict[str, Any]


def pixart() -> tuple[nn.Module, Inputs]:
    from diffusers import PixArtTransformer2DModel

    model = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=8, num_layers=1,
        cross_attention_dim=24, caption_channels=8, sample_size=8, patch_size=2, use_additional_conditions=False,
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 4, 10, 18),
        "encoder_hidden_states": torch.randn(2, 6, 8),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


def cogvideox() -> tuple[nn.Module, Inputs]:
    from diffusers import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=16, num_layers=1, sample_width=14, sample_height=4, sample_frames=9, patch_size=2,
        temporal_compression_ratio=4, max_text_seq_length=5,
    )  # fmt: skip
    return model, {"hidden_states": torch.randn(2, 3, 4, 4, 14), "encoder_hidden_states": torch.randn(2, 5, 16)}


@dataclass(frozen=True, eq=False)
class Golden:
    """A case: its tensors, the real model around the attention, and the system with its schedule.

    streams  by the argument of the attention: what names its inputs and outputs in the file
    """

    tensors: dict[str, Tensor]
    model: nn.Module
    inputs: Inputs
    attention: Any
    streams: dict[str, str]
    system: ReTtention
    steps: int

    def at(self, step: int) -> dict[str, Tensor]:
        return {
            name: self.tensors[f"in.{stream}x0"] + 0.05 * step * self.tensors[f"in.{stream}dx"]
            for name, stream in self.streams.items()
        }

    def walk(self, steps: int) -> Iterator[tuple[int, dict[str, Tensor], Memory]]:
        """Step, what left the attention by stream, and what is kept; through the whole model and the public API."""
        caught: list[Any] = []
        times = tuple(range(1000, 0, -1000 // self.steps))
        hooks = [
            self.attention.register_forward_pre_hook(
                lambda module, args, given: ((), {**given, **self.at(step)}), with_kwargs=True
            ),
            self.attention.register_forward_hook(lambda module, args, out: caught.append(out)),
        ]
        with attach(self.model, self.system, schedule=times) as run:
            for step in range(steps):
                output(self.model, {**self.inputs, "timestep": torch.full((2,), times[step]), "return_dict": False})
                out = caught.pop()
                outs = out if isinstance(out, tuple) else (out,)
                memory = run.state.of("re_ttention", "transformer_blocks.0.attn1")
                yield step, dict(zip(self.streams.values(), outs, strict=True)), memory
        for hook in hooks:
            hook.remove()


def opened(name: str, streams: dict[str, str], system: ReTtention, steps: int) -> Golden:
    tensors = load_file(FOLDER / f"case_{name}.safetensors")
    torch.manual_seed(0)
    model, inputs = {"pixart": pixart, "cogvideox": cogvideox}[name]()
    attention: Any = model.eval().get_submodule("transformer_blocks.0.attn1")
    attention.load_state_dict({key[2:]: x for key, x in tensors.items() if key.startswith("w.")})
    return Golden(tensors, model, inputs, attention, streams, system, steps)


def image() -> Golden:
    return opened("pixart", {"hidden_states": ""}, ReTtention(keep=0.13, dense=5 / 20, compat="official"), 20)


def video() -> Golden:
    streams = {"hidden_states": "video_", "encoder_hidden_states": "text_"}
    return opened("cogvideox", streams, ReTtention(keep=0.3, dense=15 / 50, compat="official"), 50)


def ratio(golden: Golden, memory: Memory) -> Tensor:
    """As the official code holds it, ramped, (b*h n 1)."""
    use: UseStatistics = golden.system._use
    return use.ramped(memory.last("ratio"), memory.last("age")).flatten(0, 1)[..., None]


def projected(golden: Golden, memory: Memory) -> Tensor:
    """The residual (b n c) after the output projection, as the official code keeps it."""
    merged = memory.last("residual").transpose(1, 2).flatten(2)
    return nn.functional.linear(merged, golden.attention.to_out[0].weight)


@pytest.mark.parametrize("make", [image, video])
def test_masks_are_the_official_ones(make: Any) -> None:
    golden = make()
    layout = Layout.image_only((1, 5, 9)) if make is image else Layout.joint(text=5, grid=(3, 2, 7))
    made = RasterWindow(golden.system.keep).materialize(layout, layout)[0, 0]
    assert torch.equal(made, golden.tensors["mask"].bool())


def test_pixart_agrees_step_after_step() -> None:
    golden, seen = image(), []
    for step, outs, memory in golden.walk(11):
        if f"out.step{step}" in golden.tensors:
            torch.testing.assert_close(outs[""], golden.tensors[f"out.step{step}"], **CLOSE)
            seen.append(step)
        if step in (5, 9):
            torch.testing.assert_close(ratio(golden, memory), golden.tensors[f"ratio_after_step{step}"], **CLOSE)
        if step == 5:
            torch.testing.assert_close(projected(golden, memory), golden.tensors["residual_after_step5"], **CLOSE)
    assert seen == [4, 5, 6, 9, 10]


def test_cogvideox_agrees_step_after_step() -> None:
    golden, seen = video(), []
    for step, outs, memory in golden.walk(17):
        for name, out in outs.items():
            key = f"out.{name.removesuffix('_')}.step{step}"
            if key in golden.tensors:
                torch.testing.assert_close(out, golden.tensors[key], **CLOSE)
                seen.append(key)
        if step in (15, 16):
            torch.testing.assert_close(ratio(golden, memory), golden.tensors[f"ratio_after_step{step}"], **CLOSE)
        if step == 15:
            text, frames = projected(golden, memory).split((5, 42), dim=1)
            torch.testing.assert_close(frames, golden.tensors["residual_video_step15"], **CLOSE)
            torch.testing.assert_close(text, golden.tensors["residual_text_step15"], **CLOSE)
    assert len(seen) == 8


def test_without_the_official_ramp_text_is_not_scaled_up() -> None:
    """Everything else is as before: one more sparse step, from the same inputs."""
    golden = video()
    ours = opened("cogvideox", golden.streams, ReTtention(keep=0.3, dense=15 / 50), 50)
    for (_, theirs, _), (step, outs, _) in zip(golden.walk(18), ours.walk(18), strict=True):
        if step < 17:
            torch.testing.assert_close(outs, theirs, atol=1e-6, rtol=0)
    torch.testing.assert_close(outs["video_"], theirs["video_"], atol=1e-6, rtol=0)
    bias = ours.attention.to_out[0].bias
    torch.testing.assert_close((outs["text_"] - bias) * 1.04, theirs["text_"] - bias, atol=1e-5, rtol=0)
