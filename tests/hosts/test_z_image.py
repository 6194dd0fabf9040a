"""Z-Image: rows that come as lists, captions of any length, tokens that fill up, and references (omni)."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.call import AttentionCall
from tests.hosts.host import Host, output
from tests.hosts.models.control_nets import z_image_control
from tests.hosts.models.streams import z_image
from tests.hosts.stand_ins import Masked, Same, looking

pytestmark = pytest.mark.host
HOST = Host("z_image", z_image)


def rows(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    with torch.no_grad():
        return model(**inputs)[0]


def layouts(model: nn.Module, inputs: dict[str, Any]) -> dict[str, str]:
    """Of every site, of which the layout is what passed attention."""
    found: dict[str, str] = {}

    def look(call: AttentionCall) -> None:
        assert call.q.shape[2] == call.layout_q.n
        found[call.site.name] = call.layout_q.describe()

    with attach(model, looking(look)):
        rows(model, inputs)
    return found


def test_words_and_pictures_are_told_from_what_fills_them_up() -> None:
    found = layouts(*HOST.build())
    assert found["noise_refiner.0.attention"] == "image 24 (1x4x6) | image padding 8"
    assert found["layers.1.attention"] == "image 24 (1x4x6) | image padding 8 | text 40 | text padding 24"


@pytest.mark.parametrize("stack", [(Same(),), (Masked(),)], ids=["same", "masked"])
def test_a_row_is_the_same_beside_a_longer_caption(stack: tuple[Any, ...]) -> None:
    """What the batch fills a row up with weighs nothing, under a plan too; the longer row needs no filling."""
    model, inputs = HOST.build()
    with attach(model, *stack):
        both = rows(model, inputs)
        for i, row in enumerate(both):
            alone = {**inputs, "x": inputs["x"][i : i + 1], "cap_feats": inputs["cap_feats"][i : i + 1]}
            (one,) = rows(model, {**alone, "t": inputs["t"][:1]})
            torch.testing.assert_close(row, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("long", [True, False])
def test_in_bfloat16_a_mask_costs_what_the_type_costs(long: bool) -> None:
    model, inputs = HOST.build()
    inputs["cap_feats"] = [torch.randn(40 if long else 5, 16) for _ in range(2)]
    with attach(model, Masked()):
        fine = torch.stack(rows(model, inputs))
    given = {name: [x.bfloat16() for x in inputs[name]] for name in ("x", "cap_feats")}
    with attach(model.bfloat16(), Masked()):
        coarse = rows(model, {**inputs, **given})
    assert all(row.dtype == torch.bfloat16 for row in coarse)
    torch.testing.assert_close(torch.stack(coarse).float(), fine, rtol=0.1, atol=0.1)


def test_rows_of_different_sizes_are_refused() -> None:
    model, inputs = HOST.build()
    inputs["x"][1] = torch.randn(4, 1, 8, 8)
    with attach(model, Same()), pytest.raises(ValueError, match="different sizes .*run each size in its own batch"):
        rows(model, inputs)


def omni(captions: tuple[int, ...] = (5, 3), references: tuple[Tensor | None, ...] | None = None) -> Any:
    """Two rows with a reference each, and features of it; each row's captions are those before its pictures."""
    from diffusers import ZImageTransformer2DModel

    torch.manual_seed(0)
    model = ZImageTransformer2DModel(
        in_channels=16, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        siglip_feat_dim=8, axes_dims=[4, 4, 8], axes_lens=[256, 32, 32],
    )  # fmt: skip
    references = references or tuple(torch.randn(2, 16, 1, 4, 4))
    return model.eval(), {
        "x": [[reference, torch.randn(16, 1, 8, 12)] for reference in references],
        "t": torch.tensor([0.5, 0.5]),
        "cap_feats": [[torch.randn(n, 16), torch.randn(4, 16)] for n in captions],
        "siglip_feats": [[None if r is None else torch.randn(3, 2, 8), None] for r in references],
        "image_noise_mask": [[0, 1]] * 2,
        "return_dict": False,
    }


def test_references_and_their_features_are_no_image_tokens() -> None:
    model, inputs = omni()
    plain = output(model, inputs)
    pictures = "reference1 4 (1x2x2) | reference1 padding 28 | image 24 (1x4x6) | image padding 8"
    captions = "text 5 | text padding 27 | text2 4 | text2 padding 28"
    features = "features1 6 | features1 padding 26 | features2 32"
    assert layouts(model, inputs) == {
        "noise_refiner.0.attention": pictures,
        "layers.0.attention": f"{captions} | {pictures} | {features}",
    }
    with attach(model, Masked()):
        assert (output(model, inputs) - plain).abs().max() > 1e-6


def test_references_left_out_are_padding() -> None:
    found = layouts(*omni(references=(None, None)))
    assert found["noise_refiner.0.attention"] == "reference1 32 | image 24 (1x4x6) | image padding 8"


@pytest.mark.parametrize("given", [{"captions": (5, 40)}, {"references": (None, torch.zeros(16, 1, 4, 4))}])
def test_rows_that_differ_before_the_image_are_refused(given: dict[str, Any]) -> None:
    model, inputs = omni(**given)
    with attach(model, Same()), pytest.raises(ValueError, match="rows of this batch differ in '.*'.*; run them apart"):
        rows(model, inputs)


def test_rows_with_other_numbers_of_pictures_are_refused() -> None:
    model, inputs = omni()
    for name in ("x", "cap_feats", "siglip_feats", "image_noise_mask"):
        inputs[name][1] = inputs[name][1][1:]
    with attach(model, Same()), pytest.raises(ValueError, match=r"hold \[1, 2\] captions and pictures; run them apart"):
        rows(model, inputs)


def test_a_control_net_that_shares_refiners_is_not_attached_with_the_transformer() -> None:
    model, inputs = HOST.build()
    net, given = Host("z_image_control", z_image_control).build()
    net = type(net).from_transformer(net, model)
    plain = output(net, given)
    with attach(model, Masked()) as run:
        rows(model, inputs)
        assert "noise_refiner.0.attention" in {site.name for site in run.sites}
        assert torch.equal(output(net, given), plain)


def test_a_control_net_whose_layers_run_twice_is_refused() -> None:
    from diffusers import ZImageControlNetModel

    model, inputs = HOST.build()
    net = ZImageControlNetModel(
        control_layers_places=[0], control_refiner_layers_places=[0], control_in_dim=4, dim=32, n_refiner_layers=1,
        n_heads=2, n_kv_heads=2, add_control_noise_refiner="control_layers",
    )  # fmt: skip
    net = ZImageControlNetModel.from_transformer(net, model).eval()
    given = {name: inputs[name] for name in ("x", "t", "cap_feats")}
    with attach(net, Same()), pytest.raises(ValueError, match="has no one layout; attach its transformer instead"):
        net(**given, control_context=inputs["x"])
