"""The pipelines of the models of `tests.hosts.models` for images: steps, branches of guidance and tokens are found."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.papers.clear import Clear
from tests.hosts.host import Host
from tests.hosts.models import flux_kin as kin
from tests.hosts.models import text_and_image as mixed
from tests.hosts.stand_ins import looking

pytestmark = [
    pytest.mark.host,
    pytest.mark.filterwarnings("ignore:`LoraLoaderMixin` is deprecated:FutureWarning"),  # of diffusers, in PRX's
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # in ERNIE-Image's
]
NONE = {"text_encoder": None, "tokenizer": None, "vae": None}
VISION = {"text_encoder": None, "processor": None, "vae": None}
Made = tuple[Any, dict[str, Any]]


def of(pipeline: str, make: Callable[[], tuple[nn.Module, Any]], parts: dict[str, Any], **options: Any) -> Made:
    """A pipeline around a tiny model, without what encodes text; options are those of its call."""
    import diffusers

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    model, _ = Host("", make).build()
    return getattr(diffusers, pipeline)(**{"scheduler": scheduler, **parts}, transformer=model), options


def words(*shape: int, mask: str | None = None, suffix: str = "") -> dict[str, Tensor]:
    """Embeddings of a prompt and a negative one, of six words, by the names pipelines give them, with a mask."""
    torch.manual_seed(1)
    names = [f"{prompt}_embeds{suffix}" for prompt in ("prompt", "negative_prompt")]
    given = {name: torch.randn(1, *shape) for name in names}
    if mask is not None:
        given |= dict.fromkeys((f"prompt_{mask}", f"negative_prompt_{mask}"), torch.arange(6)[None] < 5)
    return given


def encoded(made: Made, *results: Any) -> Made:
    """The same with what `encode_prompt` returns, where embeddings cannot be given."""
    pipe, options = made
    pipe.encode_prompt = lambda *args, **kwargs: results
    return pipe, {"prompt": "a cat", **options}


def flux2_autoencoder() -> Any:
    from diffusers import AutoencoderKLFlux2

    return AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=1, norm_num_groups=2,
        mid_block_add_attention=False,
    ).eval()  # fmt: skip


def references() -> list[Any]:
    """Pictures of 4 x 4 and 4 x 6 tokens."""
    from PIL import Image

    return [Image.new("RGB", (64, 64), "red"), Image.new("RGB", (96, 64), "blue")]


def flux2_klein(pipeline: str = "Flux2KleinPipeline", **options: Any) -> Made:
    parts = {**NONE, "vae": flux2_autoencoder()}
    return of(pipeline, kin.flux2, parts, image=references(), **options)


def longcat_image() -> Made:
    from diffusers import LongCatImageTransformer2DModel

    make = lambda: (LongCatImageTransformer2DModel(**{**kin.LIKE_FLUX, "in_channels": 64}), {})  # noqa: E731
    made = of("LongCatImagePipeline", make, {**NONE, "text_processor": None}, enable_prompt_rewrite=False)
    return encoded(made, torch.randn(1, 6, 32), torch.zeros(6, 3))


def hunyuan_image() -> Made:
    from diffusers import AdaptiveProjectedMixGuidance

    guiders = {"guider": AdaptiveProjectedMixGuidance(), "ocr_guider": AdaptiveProjectedMixGuidance()}
    parts = {**NONE, "text_encoder_2": None, "tokenizer_2": None, **guiders}
    second = {**words(6, 8, mask="embeds_mask_2", suffix="_2")}
    given = {**words(6, 16, mask="embeds_mask"), **second, "height": 192, "width": 256}
    return of("HunyuanImagePipeline", mixed.hunyuan_image_glyphs, parts, **given)


def cogview3_plus() -> Made:
    from diffusers import CogVideoXDDIMScheduler

    parts = {**NONE, "scheduler": CogVideoXDDIMScheduler()}
    return of("CogView3PlusPipeline", mixed.cogview3_plus, parts, **words(6, 16))


def autoencoder(**options: Any) -> Any:
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL(**blocks, block_out_channels=(4,) * 4, norm_num_groups=2, **options).eval()


def bria() -> Made:
    return of("BriaPipeline", kin.bria, {**NONE, "vae": autoencoder(shift_factor=0.0)}, **words(6, 32))


def bria_fibo() -> Made:
    made = of("BriaFiboPipeline", kin.bria_fibo, NONE, do_patching=False)
    text, mask, layers = torch.randn(1, 6, 32), torch.tensor([[1.0] * 5 + [0.0]]), [torch.randn(1, 6, 8)] * 4
    return encoded(made, text, text.flip(1), torch.zeros(6, 3), mask, mask, layers, layers)


def glm_image(**options: Any) -> Made:
    """Tokens of another model are given for the picture that is drawn."""
    vae = autoencoder(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    parts = {**NONE, "vae": vae, "processor": None, "vision_language_encoder": None}
    given = {"prior_token_ids": torch.arange(24)[None] % 8, "height": 64, "width": 96}
    return of("GlmImagePipeline", mixed.glm_image, parts, **words(6, 16), **given, **options)


def glm_image_edit() -> Made:
    """And for the pictures it is drawn from."""
    ids = {
        "prior_token_image_ids": [torch.arange(40) % 8],
        "source_image_grid_thw": [torch.tensor([[1, 4, 4], [1, 4, 6]])],
    }
    return glm_image(image=[references()], **ids)


def ideogram4() -> Made:
    other, _ = Host("", mixed.ideogram4).build(seed=1)
    parts = {**NONE, "unconditional_transformer": other}
    made = of("Ideogram4Pipeline", mixed.ideogram4, parts, max_sequence_length=6, guidance_schedule=[3.0] * 3)
    ids = made[0]._prepare_ids([4], 3, 4, 6, torch.device("cpu"))
    return encoded(made, torch.randn(1, 18, 16), *ids)


FIRST, LAST = "text 6 | image 12 (1x3x4)", "image 12 (1x3x4) | text 6"
SEEN = "image 12 (1x3x4) | reference1 16 (1x4x4) | reference2 24 (1x4x6)"
IN_TURN, STACKED, ALONE = [("cond",), ("uncond",)], [("uncond", "cond")], [("cond",)]
GUIDED = {"guidance_scale": 3.0}
PIPELINES: dict[str, tuple[Callable[[], Made], list[tuple[str, ...]], set[str]]] = {
    "flux2": (lambda: of("Flux2Pipeline", kin.flux2, NONE, prompt_embeds=torch.randn(1, 6, 32)), ALONE, {FIRST}),
    "flux2_klein": (lambda: flux2_klein(**words(6, 32), **GUIDED), IN_TURN, {f"text 6 | {SEEN}"}),
    "flux2_klein_kv": (
        lambda: flux2_klein("Flux2KleinKVPipeline", prompt_embeds=torch.randn(1, 6, 32)), ALONE,
        {"text 6 | references 40 | image 12 (1x3x4)"},
    ),
    "chroma": (lambda: of("ChromaPipeline", kin.chroma, NONE, **words(6, 32, mask="attention_mask")), IN_TURN, {FIRST}),
    "ovis_image": (
        lambda: of("OvisImagePipeline", kin.ovis_image, NONE, **words(6, 32), negative_prompt=None, **GUIDED), IN_TURN,
        {FIRST},
    ),
    "longcat_image": (longcat_image, IN_TURN, {FIRST}),
    "bria": (bria, STACKED, {FIRST}),
    "bria_fibo": (bria_fibo, STACKED, {FIRST}),
    "hunyuan_image": (hunyuan_image, IN_TURN, {"image 12 (1x3x4) | text 12"}),
    "krea2": (lambda: of("Krea2Pipeline", mixed.krea2, NONE, **words(6, 2, 16, mask="embeds_mask")), IN_TURN, {FIRST}),
    "aura_flow": (
        lambda: of("AuraFlowPipeline", mixed.aura_flow, NONE, **words(6, 16, mask="attention_mask")), STACKED,
        {f"registers 8 | {FIRST}"},
    ),
    "cogview3_plus": (cogview3_plus, STACKED, {FIRST}),
    "cogview4": (lambda: of("CogView4Pipeline", mixed.cogview4, NONE, **words(6, 16)), IN_TURN, {FIRST}),
    "glm_image": (glm_image, IN_TURN, {"text 6 | image 24 (1x4x6)"}),
    "glm_image_edit": (
        glm_image_edit, IN_TURN, {"text 6 | image 24 (1x4x6)", "references 40 | text 6 | image 24 (1x4x6)"}
    ),
    "prx": (
        lambda: of(
            "PRXPipeline", mixed.prx, NONE, **words(6, 16, mask="attention_mask"), use_resolution_binning=False
        ), STACKED, {FIRST},
    ),
    "nucleus_moe": (
        lambda: of("NucleusMoEImagePipeline", mixed.nucleus_moe, VISION, **words(6, 16, mask="embeds_mask")), IN_TURN,
        {LAST},
    ),
    "ernie_image": (
        lambda: of(
            "ErnieImagePipeline", mixed.ernie_image, NONE, prompt_embeds=[torch.randn(6, 16)],
            negative_prompt_embeds=[torch.randn(3, 16)], height=96, width=128,
        ), STACKED, {LAST},
    ),
    "bria_fibo2": (
        lambda: of("BriaFibo2Pipeline", mixed.bria_fibo2, VISION, **words(2, 6, 16)), IN_TURN,
        {"image 12 (1x3x4)", "gist 4 | image 12 (1x3x4)"},
    ),
    "ideogram4": (ideogram4, IN_TURN, {FIRST, "text 0 | image 12 (1x3x4)"}),
}  # fmt: skip


def draw(pipe: Any, options: dict[str, Any]) -> Tensor:
    given = {"height": 48, "width": 64, "output_type": "latent", "num_inference_steps": 3, **options}
    return pipe(**given, generator=torch.Generator().manual_seed(0))[0]


@pytest.mark.parametrize("name", PIPELINES)
def test_steps_branches_and_tokens_of_a_pipeline_are_known(name: str) -> None:
    make, branches, layouts = PIPELINES[name]
    pipe, options = make()
    pipe.set_progress_bar_config(disable=True)
    before, steps, found = draw(pipe, options), dict[tuple[int, Any], int](), set[str]()

    def look(call: AttentionCall) -> None:
        assert run.clock is not None and call.rows is not None
        steps[run.clock.step, call.rows.roles] = run.clock.num_steps
        found.add(call.layout_k.describe())

    with attach(pipe, Clear(radius=1.5), looking(look)) as run:
        under = draw(pipe, options)
        assert torch.equal(draw(pipe, options), under), "a second generation begins anew"
    assert list(steps) == [(step, roles) for step in range(3) for roles in branches] and set(steps.values()) == {3}
    assert found == layouts
    assert torch.equal(draw(pipe, options), before)
    assert (under - before).abs().max() > 1e-5


def test_flux2_klein_with_references_runs_in_bfloat16() -> None:
    pipe, options = flux2_klein(**{name: text.bfloat16() for name, text in words(6, 32).items()}, **GUIDED)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(torch.bfloat16)
    before, steps = draw(pipe, options), list[int]()
    with attach(pipe, Clear(radius=2), looking(lambda call: steps.append(run.clock.step if run.clock else -1))) as run:
        under = draw(pipe, options)
    assert list(dict.fromkeys(steps)) == [0, 1, 2]
    assert under.dtype == torch.bfloat16 and under.isfinite().all() and not torch.equal(under, before)
