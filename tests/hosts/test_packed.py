"""Cosmos 3: one sample whose text, videos, sound and actions are packed in lists, without a batch axis."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import Cosmos3OmniPipeline, UniPCMultistepScheduler
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.errors import MissingError
from saccade.core.masks import forbid
from saccade.core.site import at
from tests.hosts.host import output
from tests.hosts.models.packed import HOSTS, SHAPE, part
from tests.hosts.stand_ins import Looking, Masked, Same, Scaled, looking
from tests.hosts.test_steps import Clocks

pytestmark = pytest.mark.host
BY_NAME = {host.name: host for host in HOSTS}
Inputs = dict[str, Any]
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


@dataclass(frozen=True)
class Weak(Looking):
    """Asks for weak rows."""

    def weak_weight(self, clock: Clock) -> float:
        return 1.0


def layouts(model: nn.Module, inputs: Inputs) -> list[tuple[str, str]]:
    """Queries and keys of every call."""
    found: list[tuple[str, str]] = []
    with attach(model, looking(lambda call: found.append((call.layout_q.describe(), call.layout_k.describe())))):
        output(model, inputs)
    return found


def test_what_is_made_asks_and_words_are_keys() -> None:
    model, inputs = BY_NAME["cosmos3"].build()
    made = "image 12 (2x2x3) | sound 4 (4x1x1)"
    assert layouts(model, inputs) == [(made, f"text 5 | {made}")] * 2


def test_words_that_nothing_sees_say_nothing() -> None:
    """So no other token is taken for a word, and none of the text's own calls is lost."""
    model, inputs = BY_NAME["cosmos3"].build()
    other = {**inputs, "input_ids": inputs["input_ids"].flip(0) % 39 + 1}
    assert (output(model, inputs) - output(model, other)).abs().max() > 1e-4
    with attach(model, Masked(forbid("image", "text") & forbid("sound", "text"))):
        assert torch.equal(output(model, inputs), output(model, other))


def test_the_text_reads_itself_as_the_host_has_it() -> None:
    model, inputs = BY_NAME["cosmos3"].build()
    words: list[Tensor] = []
    hook = model.layers[1].register_forward_hook(lambda layer, given, made: words.append(made[0]))
    output(model, inputs)
    with attach(model, Looking(Scaled(factor=4.0))):
        output(model, inputs)
    hook.remove()
    assert torch.equal(*words)


def test_given_videos_are_references_and_the_last_that_is_noisy_is_the_image() -> None:
    model, inputs = BY_NAME["cosmos3"].build()
    assert layouts(model, two_videos(inputs, noisy=(1,)))[0][0].startswith("reference1 6 (1x2x3) | image 12 (2x2x3)")
    assert layouts(model, two_videos(inputs, noisy=(0,)))[0][0].startswith("image 6 (1x2x3) | reference1 12 (2x2x3)")


def two_videos(inputs: Inputs, noisy: tuple[int, ...]) -> Inputs:
    """A frame before the video, of which those of these numbers are made."""
    sizes = ((1, *SHAPE[1:]), SHAPE)
    frames = [list(range(size[0])) if i in noisy else [] for i, size in enumerate(sizes)]
    videos = [part("vision", 5, torch.randn(1, 4, t, 4, 6), (t, 2, 3), frames[i]) for i, (t, _, _) in enumerate(sizes)]
    both = {name: [*videos[0][name], *videos[1][name]] for name in videos[0] if isinstance(videos[0][name], list)}
    starts = (5, 11)
    made = [torch.arange(start, start + 6 * len(own)) for start, own in zip(starts, frames, strict=True)]
    return {
        **inputs, **both, "vision_sequence_indexes": torch.arange(5, 23), "vision_mse_loss_indexes": torch.cat(made),
        "vision_timesteps": torch.full((len(torch.cat(made)),), 500.0), "sequence_length": 27,
        **{f"sound_{name}_indexes": torch.arange(23, 27) for name in ("sequence", "mse_loss")},
        "position_ids": torch.arange(27).expand(3, -1),
    }  # fmt: skip


def test_segments_lie_where_the_sequence_has_them() -> None:
    model, inputs = BY_NAME["cosmos3"].build()
    places = {f"sound_{name}_indexes": torch.arange(5, 9) for name in ("sequence", "mse_loss")}
    places |= {f"vision_{name}_indexes": torch.arange(9, 21) for name in ("sequence", "mse_loss")}
    assert layouts(model, {**inputs, **places})[0][0] == "sound 4 (4x1x1) | image 12 (2x2x3)"


@pytest.mark.bad_input
@pytest.mark.parametrize("places", [torch.arange(5, 17).flip(0), torch.arange(6, 18)])
def test_places_that_leave_gaps_are_refused(places: Tensor) -> None:
    model, inputs = BY_NAME["cosmos3"].build()
    with attach(model, Same()), pytest.raises(ValueError, match="vision_sequence_indexes begin at .* end at 5; pack"):
        model(**{**inputs, "vision_sequence_indexes": places})


@pytest.mark.bad_input
def test_a_sharded_sequence_is_refused() -> None:
    model, inputs = BY_NAME["cosmos3"].build()
    model._cp_shard_fn = lambda *given: given
    with attach(model, Same()), pytest.raises(ValueError, match="sharded over devices"):
        model(**inputs)


@pytest.mark.bad_input
def test_one_sample_has_no_place_for_weak_rows() -> None:
    model, inputs = BY_NAME["cosmos3"].build()
    with attach(model, Weak(Scaled())), pytest.raises(MissingError, match="takes one sample, beside which"):
        model(**inputs)


def test_projected_tokens_are_keys_and_values_of_the_call() -> None:
    """Keys before rotation: which turns channels i and i + half of a head, and leaves the length of each such pair."""
    model, inputs = BY_NAME["cosmos3"].build()
    found: list[tuple[AttentionCall, Any]] = []
    entered: list[Tensor] = []
    hook = model.layers[0].self_attn.register_forward_pre_hook(lambda module, given: entered.append(given[1]))
    made = looking(lambda call: found.append((call, call.host.project(entered[0][None]))), "host.project")
    with attach(model, made, where=at("layers.0.self_attn")):
        output(model, inputs)
    hook.remove()
    ((call, (k, v)),) = found
    torch.testing.assert_close(v, call.v[:, :, 5:])
    one, other = (x.unflatten(-1, (2, -1)).norm(dim=-2) for x in (k, call.k[:, :, 5:]))
    torch.testing.assert_close(one, other)


def test_with_all_frames_given_the_step_is_the_schedulers() -> None:
    """As where actions are read off a video: no part of it is noisy, so it receives no time."""
    model, inputs = BY_NAME["cosmos3_action"].build()
    given = {**inputs, **part("vision", 5, inputs["vision_tokens"][0], SHAPE, [])}
    scheduler, clocks = UniPCMultistepScheduler(**FLOW), Clocks()
    scheduler.set_timesteps(3)
    with attach(model, Same(), clocks, schedule=scheduler):
        for time in scheduler.timesteps:
            output(model, {**given, "action_timesteps": time.expand(2)})
            scheduler.step(torch.zeros(1, 1, 1), time, torch.zeros(1, 1, 1))
    assert list(dict.fromkeys(clock.step for clock in clocks.seen if clock.num_steps == 3)) == [0, 1, 2]


class Vae:
    """What the pipeline asks of an autoencoder whose latents it hands over: eight times smaller, four in time."""

    config = SimpleNamespace(
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4, scale_factor_spatial=8, scale_factor_temporal=4
    )
    dtype = torch.float32

    def encode(self, video: Tensor) -> Any:
        frames, height, width = video.shape[-3:]
        return SimpleNamespace(latents=torch.zeros(1, 4, (frames - 1) // 4 + 1, height // 8, width // 8))


class Words:
    """A tokenizer by letters."""

    eos_token_id = 1

    def convert_tokens_to_ids(self, token: str) -> int:
        return 2

    def apply_chat_template(self, said: list[dict[str, str]], **options: Any) -> Any:
        return SimpleNamespace(input_ids=[ord(letter) % 40 for letter in said[-1]["content"]])


def test_its_pipeline_runs_branches_in_turn_each_with_its_own_words() -> None:
    model, _ = BY_NAME["cosmos3"].build()
    scheduler = UniPCMultistepScheduler(**FLOW)
    pipe: Any = Cosmos3OmniPipeline(model, Words(), Vae(), scheduler, enable_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    clocks, found = Clocks(), []

    def look(call: AttentionCall) -> None:
        if call.site.index == 0:
            assert call.rows is not None and call.layout_q.describe() == "image 18 (3x2x3)"
            found.append((clocks.seen[-1].step, call.rows.roles, call.layout_k.text_n))

    size = {"height": 32, "width": 48, "num_frames": 9, "output_type": "latent", "use_system_prompt": False}
    with attach(pipe, Masked(), clocks, looking(look)):
        pipe("a cat", num_inference_steps=3, guidance_scale=3.0, **size)
    words = [n for _, _, n in found[:2]]
    assert found == [(i, (role,), n) for i in range(3) for role, n in zip(("cond", "uncond"), words, strict=True)]
    assert words[0] != words[1]


@pytest.mark.compile
@pytest.mark.slow
def test_actions_compile_in_parts() -> None:
    """What projects actions looks at their domain in Python, which breaks the graph; without actions it is whole."""
    torch._dynamo.reset()
    model, inputs = BY_NAME["cosmos3_action"].build()
    with attach(model, Masked()):
        eager = output(model, inputs)
    outer: Any = torch.compile(model, backend="aot_eager")
    with attach(outer, Masked()):
        torch.testing.assert_close(output(outer, inputs), eager, rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()
