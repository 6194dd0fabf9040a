"""Pipelines of video and sound, from embeddings to latents: every forward's step is found, and whose its rows are."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    AllegroPipeline,
    ClassifierFreeGuidance,
    Cosmos2TextToImagePipeline,
    CosmosTextToWorldPipeline,
    DDIMScheduler,
    EasyAnimatePipeline,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Pipeline,
    Kandinsky5T2VPipeline,
    Kandinsky6TI2VAPipeline,
    LongCatAudioDiTPipeline,
    MochiPipeline,
    MotifVideoPipeline,
    StableAudio3Pipeline,
)
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from tests.hosts.models import audio, videos
from tests.hosts.stand_ins import Masked, looking
from tests.hosts.test_steps import Clocks

pytestmark = pytest.mark.host
Made = tuple[Any, dict[str, Any]]
SIZE = {"height": 32, "width": 48, "num_frames": 9, "output_type": "latent"}
GUIDED = {"guidance_scale": 3.0}
HOSTS = {host.name: host for module in (videos, audio) for host in module.HOSTS}


class Vae:
    """What pipelines ask of an autoencoder whose latents they hand over."""

    config = SimpleNamespace(
        latent_channels=1, z_dim=1, scale_factor_temporal=4, scale_factor_spatial=8, sampling_rate=70, latent_dim=4
    )
    temporal_compression_ratio, spatial_compression_ratio, downsampling_ratio = 4, 8, 10
    sample_rate, latent_hop = 70, 10
    latent_dim = 4


class Unguarded:
    """Lets every text pass."""

    def to(self, device: Any) -> "Unguarded":
        return self

    def check_text_safety(self, text: str) -> bool:
        return True


def model(name: str) -> Any:
    return HOSTS[name].build()[0]


def both(**given: Tensor) -> dict[str, Tensor]:
    """The same for the branch without the prompt, where numbers are others."""
    other = {name: torch.randn_like(x) if x.is_floating_point() else x for name, x in given.items()}
    return {**given, **{f"negative_{name}": x for name, x in other.items()}}


def texts() -> dict[str, Tensor]:
    return both(prompt_embeds=torch.randn(1, 6, 16))


def masked(name: str = "prompt_attention_mask") -> dict[str, Tensor]:
    return {**texts(), **both(**{name: torch.ones(1, 6).long()})}


def video(*size: int) -> dict[str, Any]:
    return {**SIZE, "latents": torch.randn(1, *size)}


def guider() -> Any:
    return ClassifierFreeGuidance(**GUIDED)


def kandinsky5() -> Made:
    pipe = Kandinsky5T2VPipeline(model("kandinsky5"), *(None,) * 5, FlowMatchEulerDiscreteScheduler())
    words = {"prompt_embeds_qwen": torch.randn(1, 6, 16), "prompt_embeds_clip": torch.randn(1, 8)}
    return pipe, {**video(3, 4, 6, 4), **GUIDED, **both(**words, prompt_cu_seqlens=torch.tensor([0, 6]))}


def kandinsky6() -> Made:
    """Without sound."""
    pipe = Kandinsky6TI2VAPipeline(model("kandinsky6"), *(None,) * 5, FlowMatchEulerDiscreteScheduler())
    words = {**texts(), **both(pooled_prompt_embeds=torch.randn(1, 8))}
    return pipe, {**video(4, 3, 4, 6), **GUIDED, **words, "sample_audio": False}


def hunyuan_video15() -> Made:
    pipe = HunyuanVideo15Pipeline(
        None, None, model("hunyuan_video15"), Vae(), FlowMatchEulerDiscreteScheduler(), None, None, guider()
    )
    glyphs = both(prompt_embeds_2=torch.randn(1, 3, 8), prompt_embeds_mask_2=torch.ones(1, 3).long())
    return pipe, {**video(1, 3, 4, 6), **masked("prompt_embeds_mask"), **glyphs}


def motif_video() -> Made:
    pipe = MotifVideoPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=Vae(), text_encoder=None, tokenizer=None,
        transformer=model("motif_video"), guider=guider(),
    )  # fmt: skip
    return pipe, {**video(1, 3, 4, 6), **masked()}


def cosmos() -> Made:
    scheduler = EDMEulerScheduler(sigma_data=0.5, prediction_type="epsilon")
    pipe = CosmosTextToWorldPipeline(None, None, model("cosmos"), None, scheduler, safety_checker=Unguarded())
    return pipe, {**video(4, 3, 4, 6), **GUIDED, **texts()}


def cosmos2() -> Made:
    """The model receives sigma / (1 + sigma), which no multiple of the scheduler's times is."""
    scheduler = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    pipe = Cosmos2TextToImagePipeline(None, None, model("cosmos"), None, scheduler, safety_checker=Unguarded())
    size = {name: value for name, value in video(4, 1, 4, 6).items() if name != "num_frames"}
    return pipe, {**size, **GUIDED, **texts()}


def easyanimate() -> Made:
    pipe = EasyAnimatePipeline(None, None, None, videos.easyanimate()[0].eval(), FlowMatchEulerDiscreteScheduler())
    pipe.vae = SimpleNamespace(config=SimpleNamespace(latent_channels=4))
    return pipe, {**video(4, 3, 4, 6), **GUIDED, **masked()}


def allegro() -> Made:
    pipe = AllegroPipeline(None, None, None, model("allegro"), DDIMScheduler())
    return pipe, {**video(4, 3, 4, 6), **GUIDED, **masked(), "negative_prompt": None}


def mochi() -> Made:
    pipe = MochiPipeline(FlowMatchEulerDiscreteScheduler(invert_sigmas=True), None, None, None, model("mochi"))
    few = {"negative_prompt_attention_mask": torch.tensor([[1, 0, 0, 0, 0, 0]]).bool()}
    words = masked() | {"prompt_attention_mask": torch.ones(1, 6).bool()} | few
    return pipe, {**video(4, 3, 4, 6), **GUIDED, **words}


def longcat_audio() -> Made:
    pipe = LongCatAudioDiTPipeline(Vae(), None, None, model("longcat_audio"), FlowMatchEulerDiscreteScheduler())
    pipe.encode_prompt = lambda words, device: (torch.randn(1, 5, 16), torch.tensor([5]))
    latents = {"prompt": "rain", "latents": torch.randn(1, 7, 4), "output_type": "latent"}
    return pipe, {**GUIDED, **latents, "negative_prompt": "noise"}


def stable_audio3() -> Made:
    from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder

    length = StableAudio3DurationEmbedder(output_dim=16, fourier_dim=8)
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1)
    pipe = StableAudio3Pipeline(Vae(), None, None, length, model("stable_audio3"), scheduler)
    mask = both(encoder_attention_mask=torch.ones(1, 6).long())
    return pipe, {**GUIDED, **texts(), **mask, "duration": 1.0, "output_type": "latent"}


IN_TURN = (kandinsky5, kandinsky6, hunyuan_video15, motif_video, cosmos, cosmos2, longcat_audio)
STACKED = (easyanimate, allegro, mochi, stable_audio3)


def followed(make: Callable[[], Made], steps: int) -> list[tuple[int, str, tuple[str, ...]]]:
    """Step, branch and roles of every forward, of which the first site may ask for attention twice."""
    torch.manual_seed(0)
    pipe, given = make()
    pipe.set_progress_bar_config(disable=True)
    clocks, found = Clocks(), []

    def look(call: AttentionCall) -> None:
        if call.site.index == 0:
            assert call.rows is not None
            found.append((clocks.seen[-1].step, clocks.seen[-1].branch, call.rows.roles))

    with attach(pipe, Masked(), clocks, looking(look)):
        pipe(num_inference_steps=steps, **given)
    return list(dict.fromkeys(found))


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Cosmos 2's scheduler
@pytest.mark.parametrize("make", IN_TURN, ids=lambda make: make.__name__)
def test_branches_that_run_in_turn_are_told_apart(make: Callable[[], Made]) -> None:
    branches = ("cond", "uncond")
    assert followed(make, 3) == [(step, branch, (branch,)) for step in range(3) for branch in branches]


@pytest.mark.parametrize("make", STACKED, ids=lambda make: make.__name__)
def test_branches_in_one_batch_are_told_apart(make: Callable[[], Made]) -> None:
    found = followed(make, 3)
    together = [(step, "main", ("uncond", "cond")) for step in range(3)]
    apart = [(step, "main", (role,)) for step in range(3) for role in ("uncond", "cond")]
    assert found == (apart if make is mochi else together)
