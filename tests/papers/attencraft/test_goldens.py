"""Agreement with the released code: maps through attached sites, masks, assignment, losses, gradients."""

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import Site, Where
from saccade.mechanisms.attention_maps import AttentionMaps, RecordedMaps, recorded
from saccade.papers.attencraft import assign, attn_jsd_loss, extract_maps, make_masks, reconstruction_loss
from saccade.papers.attencraft.losses import jsd, spatial_weight, validity
from saccade.papers.attencraft.maps import columns, minmax, resized
from saccade.papers.attencraft.masks import mask_ssim
from tests.papers.attencraft.stored import FAMILY, TOKENS, StoredMaps, golden

pytestmark = pytest.mark.host
RECORDER = AttentionMaps(tokens=TOKENS, words=(16, 16), image=(32, 32))
CLASSES = tuple((token,) for token in TOKENS)


class Recording:
    name = "recording"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (RECORDER,)


def passed(keys: list[Tensor]) -> RecordedMaps:
    model, features = StoredMaps(), golden("maps_masks_loss")
    with attach(model, Recording(), family=FAMILY, where=Where(kinds=("cross", "self"))) as run:
        model(torch.zeros(1, 1), features, keys)
        return recorded(run.state.forward["recording"], RECORDER)


def plain_keys() -> list[Tensor]:
    return [golden("maps_masks_loss")[f"plain_cross_k{i}"] for i in range(2)]


def released_masks() -> Tensor:
    found = golden("maps_masks_loss")
    return torch.stack([found[f"plain_mask_{name}"] for name in ("Class_A", "Class_B", "Background")]).bool()


def close(a: Tensor, b: Tensor, atol: float) -> None:
    torch.testing.assert_close(a, b.to(a.dtype), atol=atol, rtol=0)


def test_columns_and_their_squares() -> None:
    found = golden("maps_masks_loss")
    with torch.no_grad():
        raw = resized(columns(passed(plain_keys()), CLASSES), (32, 32))
    close(minmax(raw)[0], found["plain_c"], 2e-5)
    close(minmax(raw.square())[0], found["plain_c2"], 3e-4)


def test_spread_maps_masks_and_words() -> None:
    found = golden("maps_masks_loss")
    maps = extract_maps(passed(plain_keys()).mean(), CLASSES)[0]
    close(maps, found["plain_f"], 2e-5)
    masks = make_masks(maps, 0.1)
    assert torch.equal(masks, released_masks())
    assert assign(maps, masks) == tuple(found["plain_assigned_token"].tolist())


def test_the_attention_loss_and_its_gradients() -> None:
    found = golden("maps_masks_loss")
    keys = [found[f"loss_full_cross_k{i}"].requires_grad_() for i in range(2)]
    c = minmax(resized(columns(passed(keys), CLASSES), (32, 32)))
    loss = attn_jsd_loss(c, released_masks())
    close(loss.detach(), found["loss_full_value"], 1e-6)
    for i, gradient in enumerate(torch.autograd.grad(loss, keys)):
        close(gradient, found[f"loss_full_grad_k{i}"], 1e-7)
        assert found[f"loss_full_grad_k{i}"].abs().max() > 1e-5


def test_divergence_and_similarity() -> None:
    found = golden("functions_and_loss")
    p, q = (found[f"jsd_{name}"].flatten().softmax(0) for name in "pq")
    close(jsd(p, q), found["jsd"], 1e-6)
    assert mask_ssim(found["ssim_a"].bool(), found["ssim_b"].bool()) == pytest.approx(float(found["ssim"]), abs=1e-6)


def test_reconstruction_and_prior() -> None:
    found = golden("functions_and_loss")
    i = torch.arange(2 * 4 * 64 * 64, dtype=torch.float64)
    predicted, target = (x.float().reshape(2, 4, 64, 64) for x in ((0.01 * i).sin(), (0.013 * i).cos()))
    weight = spatial_weight(found["token0_mask_32"].bool()[None], (64, 64), compat="official")
    valid, ones = validity((64, 64)), torch.ones(64, 64)
    masked = reconstruction_loss(predicted[:1], target[:1], weight, valid)
    unmasked = reconstruction_loss(predicted[:1], target[:1], ones, valid)
    close(masked, found["loss_subject0_instance_masked"], 1e-6)
    close(unmasked, found["loss_subject0_instance_unmasked"], 1e-6)
    close((predicted[1] - target[1]).square().mean(), found["loss_subject0_prior"], 1e-6)
    released = reconstruction_loss(predicted[:1], target[:1], weight, valid, official_broadcast=True)
    close(released, (masked + unmasked) / 2, 1e-6)
