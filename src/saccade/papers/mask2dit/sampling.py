"""Videos of n scenes by a CogVideoX pipeline whose transformer was trained for them, and one scene more for a video.

The pipeline's own loop runs, on one row that holds all captions and all clips. Each clip is encoded and decoded by
itself, so that a cut lies between scenes.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.attach import attach
from saccade.core.checks import check_word
from saccade.papers.mask2dit.captions import in_a_row
from saccade.papers.mask2dit.known_scenes import KnownScenes
from saccade.papers.mask2dit.positions import stretched_positions
from saccade.papers.mask2dit.system import Mask2DiT, Seen

Held = Literal["clean", "noised"]
SCHEDULER = "CogVideoXDDIMScheduler"


@dataclass(frozen=True, kw_only=True)
class Words:
    """Embedded captions of n scenes in a row, and as many times the negative prompt, which guidance needs."""

    captions: Float[Tensor, "b n c"]
    negative: Float[Tensor, "b n c"] | None
    scenes: int


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How videos are sampled.

    frames    of each clip, 4k + 1
    height, width  in pixels; steps, guidance  as of the pipeline
    seed      of the noise
    mask      as of `Mask2DiT`
    held      scenes that are there: "clean", as in training, or "noised" at timestep 0, as the released sampler does
    segmented  known scenes are modulated with timestep 0; without it with that of the new scene
    Raises ValueError for options out of range.
    """

    frames: int = 49
    height: int = 480
    width: int = 720
    steps: int = 50
    guidance: float = 6.0
    seed: int = 0
    mask: Seen = "dual"
    held: Held = "clean"
    segmented: bool = True

    def __post_init__(self) -> None:
        if self.frames < 1 or self.frames % 4 != 1:
            raise ValueError(f"frames={self.frames} of a clip must be 4k + 1, such as 49")
        check_word(get_args(Seen), mask=self.mask)
        check_word(get_args(Held), held=self.held)


@torch.no_grad()
def embed(pipe: Any, captions: Sequence[str], *, negative: str = "", text_tokens: int = 226) -> Words:
    """One caption for each scene, padded to `text_tokens`. Raises ValueError without captions."""
    if not captions:
        raise ValueError("captions=() names no scene; give one caption for each")
    found, against = pipe.encode_prompt([*captions], [negative] * len(captions), max_sequence_length=text_tokens)
    n = len(captions)
    return Words(captions=in_a_row(found, n), negative=in_a_row(against, n), scenes=n)


@torch.no_grad()
def encode(pipe: Any, clips: Float[Tensor, "r c t h w"]) -> Float[Tensor, "r f k y x"]:
    """Mean latents of clips of one length, pixels in [-1, 1], each by itself.

    Raises ValueError for frames that are not 4k + 1.
    """
    if clips.shape[2] % 4 != 1:
        raise ValueError(f"clips of {clips.shape[2]} frames must have 4k + 1, such as 49")
    vae = pipe.vae
    latents = [vae.encode(clip[None].to(vae.device, vae.dtype)).latent_dist.mode() for clip in clips]
    return torch.cat(latents).transpose(1, 2) * pipe.vae_scaling_factor_image


@torch.no_grad()
def decode(pipe: Any, latents: Float[Tensor, "1 f k y x"], scenes: int) -> list[Any]:
    """The video of each scene, as arrays (t h w 3) in [0, 1], each decoded by itself."""
    parts = [pipe.decode_latents(part) for part in latents.chunk(scenes, dim=1)]
    return [pipe.video_processor.postprocess_video(video=part, output_type="np")[0] for part in parts]


def sample_scenes(pipe: Any, words: Words, options: Sampling) -> Float[Tensor, "b f k y x"]:
    """Latents of n clips, one after the other, from noise.

    Raises ValueError where the sizes do not fit the pipeline.
    """
    with scenes_of(pipe, words, options):
        return _call(pipe, words, options, noise(pipe, words, options))


def extend(pipe: Any, known: Float[Tensor, "b f k y x"], words: Words, options: Sampling) -> Float[Tensor, "b g k y x"]:
    """Latents of n - 1 clips that are there, and of one more.

    known  of n - 1 clips; those that are returned are the same to the last bit, but for the noise of held="noised"
    words  of all n scenes, those that are there first
    Raises ValueError for another scheduler than CogVideoX's DDIM, and for clips of other lengths or number.
    """
    name = type(pipe.scheduler).__name__
    if name != SCHEDULER:
        raise ValueError(f"{name} cannot hold known scenes, whose steps it would mix; give the pipeline a {SCHEDULER}")
    start = noise(pipe, words, options)
    new = start.shape[1] // words.scenes
    there = start.shape[1] - new
    if known.shape != start[:, :there].shape:
        raise ValueError(
            f"known of shape {tuple(known.shape)} must be {words.scenes - 1} clips of {new} latent frames, "
            f"{tuple(start[:, :there].shape)}: one less than captions, all of frames={options.frames}"
        )
    held = known.to(start)
    if options.held == "noised":
        first = torch.zeros(len(held), dtype=torch.long, device=held.device)
        held = pipe.scheduler.add_noise(held, start[:, :there], first)

    def restore(_: Any, step: int, time: Any, given: dict[str, Any]) -> dict[str, Any]:
        return {"latents": torch.cat((held, given["latents"][:, there:]), dim=1)}

    clip = words.scenes - 1 if options.segmented else None
    with scenes_of(pipe, words, options) as scenes, scenes.holding(clip):
        latents = torch.cat((held, start[:, there:]), dim=1)
        return _call(pipe, words, options, latents, callback_on_step_end=restore)


def story(
    pipe: Any,
    captions: Sequence[str],
    options: Sampling,
    *,
    scenes: int = 3,
    negative: str = "",
    text_tokens: int = 226,
) -> Float[Tensor, "b f k y x"]:
    """Latents of as many clips as captions: n at once, then one more at a time, n - 1 before it being held.

    Raises ValueError for fewer captions than `scenes`, or fewer than two scenes.
    """
    if not 2 <= scenes <= len(captions):
        raise ValueError(f"scenes={scenes} must be from 2 to the number of captions, {len(captions)}")
    said = {"negative": negative, "text_tokens": text_tokens}
    found = sample_scenes(pipe, embed(pipe, captions[:scenes], **said), options)
    length = found.shape[1] // scenes
    for last in range(scenes, len(captions)):
        words = embed(pipe, captions[last - scenes + 1 : last + 1], **said)
        again = replace(options, seed=options.seed + last)
        longer = extend(pipe, found[:, -(scenes - 1) * length :], words, again)
        found = torch.cat((found, longer[:, -length:]), dim=1)
    return found


def noise(pipe: Any, words: Words, options: Sampling) -> Float[Tensor, "b f k y x"]:
    """Of n clips. Raises ValueError where the model's patches in time do not divide a clip."""
    frames = (options.frames - 1) // pipe.vae_scale_factor_temporal + 1
    if frames % (patch := pipe.transformer.config.patch_size_t or 1):
        raise ValueError(f"frames={options.frames} are {frames} latent frames, no multiple of the patch of {patch}")
    side = pipe.vae_scale_factor_spatial
    shape = (
        len(words.captions),
        words.scenes * frames,
        pipe.transformer.config.in_channels,
        options.height // side,
        options.width // side,
    )
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(options.seed))
    return drawn.to(pipe.transformer.device, pipe.transformer.dtype)


@contextmanager
def scenes_of(pipe: Any, words: Words, options: Sampling) -> Iterator[KnownScenes]:
    """A pipeline that takes these scenes: masked, with places for all, and able to hold some as known."""
    tokens = words.captions.shape[1] // words.scenes
    system = Mask2DiT(scenes=words.scenes, text_tokens=tokens, mask=options.mask)
    with ExitStack() as stack:
        stack.enter_context(stretched_positions(pipe.transformer, words.scenes))
        known = stack.enter_context(KnownScenes(pipe.transformer, scenes=words.scenes, text_tokens=tokens))
        stack.enter_context(attach(pipe, system))
        yield known


def _call(pipe: Any, words: Words, options: Sampling, latents: Tensor, **more: Any) -> Tensor:
    if options.guidance > 1 and words.negative is None:
        raise ValueError(f"guidance={options.guidance} needs a negative prompt; embed it, or give guidance=1")
    against = None if words.negative is None else words.negative.to(latents)
    frames = (latents.shape[1] - 1) * pipe.vae_scale_factor_temporal + 1
    return pipe(
        prompt_embeds=words.captions.to(latents), negative_prompt_embeds=against,
        num_frames=frames, height=options.height, width=options.width, num_inference_steps=options.steps,
        guidance_scale=options.guidance, latents=latents, output_type="latent", **more,
    ).frames  # fmt: skip
