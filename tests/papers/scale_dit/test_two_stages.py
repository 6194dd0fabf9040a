"""Both stages and the training path on a real FluxPipeline, tiny and random."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from saccade.papers.scale_dit import LowStream, LowTokens, ScaleDiT, Stages, add_lora_, flow_loss, two_stages
from saccade.papers.scale_dit.sampling import blurred, enlarged
from saccade.papers.scale_dit.training import Example, encoded, logit_normal, shrunk, tune
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
STAGES = Stages(low=(32, 32), high=(64, 64), steps=3, high_steps=2, text_tokens=8)
SYSTEM, PROMPTS = ScaleDiT(window=4), ["a red circle", "a blue square"]


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_flux()


class Heard:
    """Forwards of a transformer: their tokens, timesteps and whether an anchor was held."""

    def __init__(self, stream: LowStream) -> None:
        self.calls: list[tuple[int, float, int]] = []
        self.anchors: list[torch.Tensor] = []
        self.hook = stream.transformer.register_forward_pre_hook(self._note, with_kwargs=True)
        self.stream = stream

    def _note(self, _: Any, args: Any, kwargs: Any) -> None:
        self.calls.append((kwargs["hidden_states"].shape[1], round(float(kwargs["timestep"][0]), 3), self.stream.n))
        if self.stream.held is not None:
            self.anchors.append(self.stream.held.tokens)


def test_the_small_picture_is_the_pipelines_own_and_stays_for_all_steps_of_the_large_one(pipe: Any) -> None:
    plain = pipe(
        PROMPTS, num_inference_steps=3, height=32, width=32, max_sequence_length=8, output_type="np",
        generator=[torch.Generator().manual_seed(i) for i in range(2)],
    ).images  # fmt: skip
    with LowStream(pipe.transformer) as stream:
        heard = Heard(stream)
        made = two_stages(pipe, stream, SYSTEM, PROMPTS, STAGES)
        heard.hook.remove()
    np.testing.assert_array_equal(made.low, plain)
    assert made.high.shape == (2, 64, 64, 3) and np.isfinite(made.high).all()
    assert heard.calls == [(16, 1.0, 0), (16, 0.667, 0), (16, 0.333, 0), (64, 0.667, 16), (64, 0.333, 16)]
    assert all(tokens is made.tokens for tokens in heard.anchors)


def test_from_noise_all_steps_remain_and_the_anchor_matters(pipe: Any) -> None:
    from dataclasses import replace

    stages = replace(STAGES, start="noise", steps=2, high_steps=1)
    with LowStream(pipe.transformer) as stream:
        heard = Heard(stream)
        made = two_stages(pipe, stream, SYSTEM, PROMPTS[:1], stages)
        heard.hook.remove()
        unscaled = two_stages(pipe, stream, SYSTEM, PROMPTS[:1], replace(stages, scaled=False))
        again = two_stages(pipe, stream, SYSTEM, PROMPTS[:1], stages)
    assert [n for n, _, _ in heard.calls] == [16, 16, 64, 64]
    np.testing.assert_array_equal(made.high, again.high)
    assert np.abs(made.high - unscaled.high).max() > 1e-4


def test_guidance_keeps_the_anchor_in_both_branches(pipe: Any) -> None:
    from dataclasses import replace

    with LowStream(pipe.transformer) as stream:
        heard = Heard(stream)
        two_stages(pipe, stream, SYSTEM, PROMPTS[:1], replace(STAGES, true_cfg=2.0))
        heard.hook.remove()
    assert [n for _, _, n in heard.calls] == [0] * 6 + [16] * 4


def test_enlarging_is_bicubic_and_sharpening_twice_less_the_mean() -> None:
    pictures = np.random.default_rng(0).random((2, 4, 4, 3)).astype(np.float32)
    x = F.interpolate(torch.from_numpy(pictures).permute(0, 3, 1, 2), size=(8, 8), mode="bicubic")
    line = np.exp(-0.5 * (np.arange(-1, 2) / 0.8) ** 2)
    weights = np.outer(line, line) / line.sum() ** 2
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    mean = sum(weights[i, j] * padded[:, :, i : i + 8, j : j + 8] for i in range(3) for j in range(3))
    np.testing.assert_allclose(blurred(x), mean, atol=1e-6)
    expected = np.clip(2 * x.numpy() - mean, 0, 1).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(enlarged(pictures, (8, 8)), expected, atol=1e-6)
    assert torch.allclose(blurred(torch.ones(1, 3, 5, 5)), torch.ones(1, 3, 5, 5))


def example(pipe: Any, seed: int = 0) -> Example:
    rng = np.random.default_rng(seed)
    latents, low = encoded(pipe, rng.random((2, 64, 64, 3)).astype(np.float32), 2)
    words, pooled, _ = pipe.encode_prompt(prompt=PROMPTS, prompt_2=None, max_sequence_length=8)
    ids = pipe._prepare_latent_image_ids(1, 8, 8, torch.device("cpu"), torch.float32)
    text = {"encoder_hidden_states": words.detach(), "pooled_projections": pooled.detach()}
    noise = torch.from_numpy(rng.standard_normal(latents.shape)).float()
    return Example(latents=latents, low=low, text=text, ids=ids, t=logit_normal(2, rng), noise=noise)


def test_the_loss_is_of_the_picture_alone_with_a_clean_copy() -> None:
    pipe = tiny_flux()
    given = example(pipe)
    with LowStream(pipe.transformer) as stream, torch.no_grad():
        found = flow_loss(stream, given)
        t = given.t[:, None, None]
        with stream.holding(given.low):
            v = pipe.transformer(
                hidden_states=(1 - t) * given.latents + t * given.noise, timestep=given.t, img_ids=given.ids,
                txt_ids=torch.zeros(8, 3), return_dict=False, **given.text,
            )[0]  # fmt: skip
    assert v.shape == given.latents.shape
    torch.testing.assert_close(found, F.mse_loss(v, given.noise - given.latents))


def test_tuning_lowers_the_loss_by_the_lora_alone() -> None:
    pipe = tiny_flux()
    tuned, given = add_lora_(pipe.transformer, rank=2), example(pipe)
    before = {name: p.clone() for name, p in pipe.transformer.named_parameters() if "lora" not in name}
    with LowStream(pipe.transformer) as stream:
        losses = list(tune(stream, ScaleDiT.training(window=4), tuned, [given] * 8, lr=1e-2))
        with pytest.raises(ValueError, match="low=None leaves LoRA off; give the copy, or LowStream"):
            list(tune(stream, None, tuned, [alone(given)]))
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, before[name]) for name, p in pipe.transformer.named_parameters() if name in before)
    assert any(layer.abs().max() > 0 for name, layer in pipe.transformer.named_parameters() if "lora_B" in name)


def alone(given: Example) -> Example:
    return Example(**{**vars(given), "low": None})


def test_lora_can_be_tuned_without_a_copy() -> None:
    pipe = tiny_flux()
    tuned, given = add_lora_(pipe.transformer, rank=2), alone(example(pipe))
    with LowStream(pipe.transformer, lora_alone=True) as stream:
        losses = list(tune(stream, ScaleDiT(window=4), tuned, [given] * 4, lr=1e-2))
    assert losses[-1] < losses[0]


def test_without_an_anchor_the_large_picture_is_drawn_by_windows_alone(pipe: Any) -> None:
    from dataclasses import replace

    with LowStream(pipe.transformer) as stream:
        heard = Heard(stream)
        two_stages(pipe, stream, SYSTEM, PROMPTS[:1], replace(STAGES, anchor=False))
        heard.hook.remove()
    assert [n for _, _, n in heard.calls] == [0] * 5


def test_times_are_logit_normal() -> None:
    logits = logit_normal(20000, np.random.default_rng(0)).logit()
    assert abs(logits.mean()) < 0.03 and abs(logits.std() - 1) < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": (1000, 1024)}, r"high=\(4096, 4096\) tokens must be a whole multiple of low=\(1000, 1024\)"),
        ({"start": "low"}, "start='low' is unknown; choose one of upsampled, noise"),
        ({"high_steps": 29}, r"high_steps=29 must lie in 1..steps=28, of which they remain"),
        ({"high_steps": 0}, "high_steps=0 must lie in 1..steps=28"),
    ],
)
def test_bad_stages_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stages(**options)


def test_what_does_not_fit_the_pipeline_is_refused(pipe: Any) -> None:
    other = tiny_flux()
    with LowStream(other.transformer) as stream, pytest.raises(ValueError, match="stream is of another transformer"):
        two_stages(pipe, stream, SYSTEM, PROMPTS, STAGES)
    with LowStream(pipe.transformer) as stream, pytest.raises(ValueError, match="height=33 must be a multiple of"):
        two_stages(pipe, stream, SYSTEM, PROMPTS, Stages(low=(33, 33), high=(66, 66)))
    with LowStream(pipe.transformer) as stream, pytest.raises(ValueError, match="not filled by windows of window=16"):
        two_stages(pipe, stream, ScaleDiT(), PROMPTS, STAGES)
    with pytest.raises(ValueError, match="pictures of 10 x 12 pixels cannot be shrunk by ratio=4; crop them first"):
        shrunk(np.zeros((1, 10, 12, 3), np.float32), 4)
    assert isinstance(encoded(pipe, np.zeros((1, 64, 64, 3), np.float32), 2)[1], LowTokens)
