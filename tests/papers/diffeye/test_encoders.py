"""Features of pictures: by hand, and by tiny vision transformers of transformers and timm; upsampling by colour."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from saccade.papers import ColourEdges, HostTokens
from saccade.papers.diffeye.encoders import stretched
from saccade.papers.diffeye.upsampling import by_colour
from tests.hosts.vits import create

PICTURES = torch.rand(2, 3, 30, 50, generator=torch.Generator().manual_seed(0))


def test_colours_are_means_of_cells() -> None:
    picture = torch.zeros(1, 3, 4, 8)
    picture[:, 0, :2, :4] = 1  # the upper left cell is red
    encoder = ColourEdges(grid=(2, 2), pixels=(4, 8), edges=False)
    tokens, summary = encoder(picture)
    assert encoder.features == 3
    assert tokens[0].tolist() == [[1, -1, -1], [-1, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    torch.testing.assert_close(summary, torch.tensor([[-0.5, -1, -1]]))


def test_spread_and_edges_say_how_a_cell_changes() -> None:
    picture = torch.zeros(1, 3, 8, 8)
    picture[..., 4:] = 1  # an edge from left to right, in the middle
    tokens, _ = ColourEdges(grid=(2, 2), pixels=(8, 8))(picture)
    spread, across, down = tokens[0, :, 3:6], tokens[0, :, 6], tokens[0, :, 7]
    assert not spread.any() and not down.any() and bool((across == 1).all())  # a column of 4 in every cell of 4
    tokens, _ = ColourEdges(grid=(1, 1), pixels=(8, 8))(picture)
    torch.testing.assert_close(tokens[0, 0, 3:6], torch.full((3,), 0.5))
    turned, _ = ColourEdges(grid=(2, 2), pixels=(8, 8))(picture.mT)
    torch.testing.assert_close(turned[0, :, 7], across)


def test_pictures_are_stretched_side_by_side() -> None:
    assert stretched(PICTURES, (30, 50)) is PICTURES
    found = stretched(PICTURES, (12, 20))
    assert found.shape == (2, 3, 12, 20) and 0 <= found.min() <= found.max() <= 1


def dinov2() -> Any:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
    return Dinov2Model(config).eval()


def timm_vit() -> Any:
    torch.manual_seed(0)
    return create("vit_tiny_patch16_224", img_size=56, patch_size=14, embed_dim=16, num_classes=0).eval()


@pytest.mark.parametrize("make", [dinov2, timm_vit])
@torch.no_grad()
def test_tokens_of_hosts_are_their_hidden_states(make: Any) -> None:
    model = make()
    encoder = HostTokens(model, side=56, grid=(4, 4))
    tokens, summary = encoder(PICTURES)
    x = (stretched(PICTURES, (56, 56)) - encoder.mean) / encoder.std
    hidden = model.forward_features(x) if make is timm_vit else model(pixel_values=x).last_hidden_state
    assert encoder.features == 16 and encoder.pixels == (56, 56)
    torch.testing.assert_close(tokens, hidden[:, 1:], atol=1e-6, rtol=0)
    torch.testing.assert_close(summary, hidden[:, 0], atol=1e-6, rtol=0)
    fine = HostTokens(model, side=56, grid=(8, 8))(PICTURES).tokens
    wanted = F.interpolate(tokens.mT.unflatten(2, (4, 4)), size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(fine, wanted.flatten(2).mT, atol=1e-6, rtol=0)
    sharp = HostTokens(model, side=56, grid=(8, 8), upsample="colour")(PICTURES).tokens
    assert sharp.shape == fine.shape and not torch.allclose(sharp, fine)


def test_filtering_by_colour_is_the_weighed_mean_written_out() -> None:
    rng = np.random.default_rng(0)
    features, colours = (torch.from_numpy(rng.random((1, c, 5, 6))) for c in (2, 3))
    found = by_colour(features, colours, radius=1, space=0.8, colour=0.3)
    for y in range(5):
        for x in range(6):
            total, value = 0.0, torch.zeros(2, dtype=torch.float64)
            for v in range(max(0, y - 1), min(5, y + 2)):
                for u in range(max(0, x - 1), min(6, x + 2)):
                    apart = float((colours[0, :, y, x] - colours[0, :, v, u]).square().sum())
                    near = (y - v) ** 2 + (x - u) ** 2
                    weight = float(np.exp(-near / (2 * 0.8**2) - apart / (2 * 0.3**2)))
                    total, value = total + weight, value + weight * features[0, :, v, u]
            torch.testing.assert_close(found[0, :, y, x], value / total, atol=1e-6, rtol=0)


def test_filtering_by_colour_keeps_what_is_flat_and_does_not_cross_an_edge() -> None:
    colours = torch.zeros(1, 3, 6, 6)
    colours[..., 3:] = 1
    flat = torch.full((1, 2, 6, 6), 0.7)
    torch.testing.assert_close(by_colour(flat, colours), flat)
    halves = colours[:, :1]
    torch.testing.assert_close(by_colour(halves, colours), halves, atol=1e-6, rtol=0)


@pytest.mark.bad_input
def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"grid=\(64, 8\) must be within pixels=\(32, 32\)"):
        ColourEdges(grid=(64, 8), pixels=(32, 32))
    with pytest.raises(ValueError, match=r"pictures \(2, 3, 30, 50\) from .* must be \(b, 3, h, w\) in \[0, 1\]"):
        ColourEdges()(PICTURES * 255)
    with pytest.raises(ValueError, match="model=Linear is no Dinov2Model or ViT with a patch size"):
        HostTokens(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="side=50 must be a multiple of the model's patch of 14 pixels"):
        HostTokens(timm_vit(), side=50)
    with pytest.raises(ValueError, match="upsample='featup' is unknown; choose one of bilinear, colour"):
        HostTokens(timm_vit(), side=56, upsample="featup")  # type: ignore[arg-type]
