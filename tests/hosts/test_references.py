"""Several reference pictures on the real Kontext pipeline: sizes, places, and that the pipeline is left as it was."""

from typing import Any

import numpy as np
import pytest
import torch

from saccade.attach import attach
from saccade.pipelines.references import Reference, reference_pictures
from tests.hosts.stand_ins import looking
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
RNG = np.random.default_rng(0)
ONE, TWO = (RNG.random((1, *size, 3)).astype(np.float32) for size in ((24, 40), (32, 16)))
SIZES: dict[str, Any] = {
    "height": 32, "width": 40, "num_inference_steps": 2, "max_sequence_length": 24, "max_area": 32 * 40,
    "output_type": "latent",
}  # fmt: skip


def kontext() -> Any:
    from diffusers import FluxKontextPipeline

    pipe = FluxKontextPipeline(**tiny_flux().components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, **more: Any) -> torch.Tensor:
    return pipe(prompt="a red circle", generator=torch.Generator().manual_seed(0), **SIZES, **more).images


def test_one_picture_is_bitwise_the_pipelines_own_reference() -> None:
    pipe = kontext()
    own = draw(pipe, image=torch.from_numpy(ONE).movedim(-1, 1), _auto_resize=False)
    with reference_pictures(pipe, [Reference(picture=ONE)]):
        assert torch.equal(draw(pipe), own)
    assert not torch.equal(draw(pipe), own)


def test_several_are_segments_of_their_own_size() -> None:
    pipe, layouts = kontext(), set()
    with (
        reference_pictures(pipe, [Reference(picture=ONE), Reference(picture=TWO, strength=0.5)]),
        attach(pipe, looking(lambda call: layouts.add(call.layout_q.describe()))),
    ):
        draw(pipe)
    assert layouts == {"text 24 | image 20 (1x4x5) | reference1 15 (1x3x5) | reference2 8 (1x4x2)"}


def test_strength_scales_the_latents_and_zero_leaves_no_picture() -> None:
    pipe = kontext()

    def drawn(picture: np.ndarray, strength: float) -> torch.Tensor:
        with reference_pictures(pipe, [Reference(picture=picture, strength=strength)]):
            return draw(pipe)

    assert torch.equal(drawn(ONE, 0.0), drawn(1 - ONE, 0.0)) and not torch.equal(drawn(ONE, 1.0), drawn(ONE, 0.0))


def test_the_pipeline_is_left_as_it_was() -> None:
    pipe = kontext()
    own, before = draw(pipe), set(vars(pipe))
    with pytest.raises(ValueError, match="image= is a second way"), reference_pictures(pipe, [Reference(picture=ONE)]):
        draw(pipe, image=torch.from_numpy(ONE).movedim(-1, 1))
    assert set(vars(pipe)) == before
    assert torch.equal(draw(pipe), own)


def test_sizes_are_native_preferred_or_an_area() -> None:
    wide = np.zeros((1, 100, 300, 3), np.float32)
    assert Reference(picture=wide, size="preferred").sides(16) == (672, 1568)
    assert Reference(picture=wide, size=16 * 16 * 12).sides(16) == (32, 96)
    with pytest.warns(UserWarning, match="reference of 100 x 300 pixels is rounded down to 96 x 288"):
        assert Reference(picture=wide).sides(16) == (96, 288)


@pytest.mark.bad_input
def test_what_cannot_be_is_named() -> None:
    with pytest.raises(ValueError, match="size='small' must be 'native', 'preferred', or a number"):
        Reference(picture=ONE, size="small")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="24 x 40 pixels is smaller than a token of 32"):
        Reference(picture=ONE).sides(32)
    with pytest.raises(ValueError, match="FluxPipeline takes no reference pictures; give a FluxKontextPipeline"):
        with reference_pictures(tiny_flux(), [Reference(picture=ONE)]):
            pass
