"""Each host is asked at the time, and compared with the target, of its own convention."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.papers.dreamrelation.hosts import predictor
from tests.papers.dreamrelation.tiny import build

pytestmark = pytest.mark.host
SIGMA = torch.tensor([0.25, 0.75])


def batch(like: Tensor, words: Tensor, **more: Tensor) -> dict[str, Tensor]:
    return {"latents": torch.randn_like(like), "noise": torch.randn_like(like), "sigma": SIGMA, "words": words, **more}


def on_the_way(found: dict[str, Tensor]) -> Tensor:
    sigma = SIGMA.view(-1, *(1,) * (found["latents"].ndim - 1))
    return (1 - sigma) * found["latents"] + sigma * found["noise"]


@pytest.mark.parametrize(
    ("name", "time", "sign"), [("wan", 1000 * SIGMA, 1), ("mochi", 1000 * (1 - SIGMA), -1), ("sd3", 1000 * SIGMA, 1),
                               ("hunyuan_video", 1000 * SIGMA, 1)],
)  # fmt: skip
def test_flow_models_get_noised_latents_at_their_own_times(name: str, time: Tensor, sign: int) -> None:
    model, inputs = build(name)
    names = {"encoder_attention_mask": "words_mask", "pooled_projections": "pooled"}
    more = {ours: inputs[theirs] for theirs, ours in names.items() if theirs in inputs}
    given = batch(inputs["hidden_states"], inputs["encoder_hidden_states"], **more)
    fixed = {"guidance": inputs["guidance"]} if "guidance" in inputs else {}
    with torch.no_grad():
        predicted, target = predictor(model, **fixed)(given)
        wanted = model(**inputs | {"hidden_states": on_the_way(given), "timestep": time, "return_dict": False})[0]
    torch.testing.assert_close(predicted, wanted)
    torch.testing.assert_close(target, sign * (given["noise"] - given["latents"]))


def test_flux_is_given_packed_latents_and_its_answer_unpacked() -> None:
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

    model, inputs = build("flux")
    given = batch(torch.zeros(2, 1, 8, 8), inputs["encoder_hidden_states"], pooled=inputs["pooled_projections"])
    z = on_the_way(given)
    with torch.no_grad():
        predicted, target = predictor(model)(given)
        packed: Any = FluxPipeline._pack_latents(z, *z.shape)
        out = model(**inputs | {"hidden_states": packed, "timestep": SIGMA, "guidance": None, "return_dict": False})[0]
    torch.testing.assert_close(predicted, FluxPipeline._unpack_latents(out, 64, 64, 8))
    torch.testing.assert_close(target, given["noise"] - given["latents"])


def test_cogvideox_predicts_a_velocity_at_its_schedulers_noise() -> None:
    from diffusers import CogVideoXDDIMScheduler

    model, inputs = build("cogvideox")
    scheduler = CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    given = batch(inputs["hidden_states"].transpose(1, 2), inputs["encoder_hidden_states"])
    time, places = torch.tensor([250, 750]), {"image_rotary_emb": inputs["image_rotary_emb"]}
    with torch.no_grad():
        predicted, target = predictor(model, scheduler=scheduler, **places)(given)
        z = scheduler.add_noise(given["latents"], given["noise"], time)
        wanted = model(**inputs | {"hidden_states": z.transpose(1, 2), "timestep": time})[0]
    torch.testing.assert_close(predicted, wanted.transpose(1, 2))
    torch.testing.assert_close(target, scheduler.get_velocity(given["latents"], given["noise"], time))


def test_hosts_that_are_not_known_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model=Linear is none of MochiTransformer3DModel, .*; give a predict="):
        predictor(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="scheduler=None says nothing of the noise of a CogVideoX"):
        predictor(build("cogvideox")[0])
