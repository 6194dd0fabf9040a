"""DiffEye's denoiser: rows apart, what each switch leaves out, the null token, storage, and errors."""

from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.core.catalogue import lookup
from saccade.models import Architecture
from saccade.papers import DiffEye
from saccade.papers.diffeye.config import DiffEyeConfig
from saccade.papers.diffeye.estimate import LooksAtEstimate
from saccade.papers.diffeye.stages import Seen
from saccade.runs.gaussian import Chain
from tests.papers.diffeye.plain import TINY, inputs, tiny

SWITCHES: list[dict[str, Any]] = [
    {}, {"sees": "global"}, {"cross_at": "middle"}, {"cpe_of": "none"}, {"cpe_of": "points"}, {"cpe_of": "image"},
    {"cpe_at": "input"}, {"lookup": "bilinear"}, {"counted": False}, {"stages": (16,)}, {"stages": (16, 24, 32)},
]  # fmt: skip
EXACT = {"atol": 1e-9, "rtol": 0}


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
@torch.no_grad()
def test_noise_has_the_shape_of_trajectories_and_rows_are_independent(switch: dict[str, Any]) -> None:
    model = tiny(**switch)
    x, t, condition = inputs(sees=model.config.sees)
    found = model(x, t, condition).out
    assert found.shape == x.shape and found.isfinite().all()
    one = model(x[1:2], t[1:2], {"image": condition["image"][1:2]}).out
    torch.testing.assert_close(found[1:2], one, **EXACT)


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_gradients_reach_every_weight(switch: dict[str, Any]) -> None:
    model = tiny(**switch)
    x, t, condition = inputs(sees=model.config.sees)
    model(x, t, condition | {"shown": torch.tensor([True, True, False])}).out.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_positions_left_out_change_the_output_and_no_weight() -> None:
    whole, (x, t, condition) = tiny(), inputs()
    found = whole(x, t, condition).out
    for kind in ("points", "image", "none"):
        bare = tiny(seed=1, cpe_of=kind)
        bare.load_state_dict(whole.state_dict())
        assert not torch.allclose(bare(x, t, condition).out, found, atol=1e-6)
    assert whole.state_dict().keys() == tiny(cpe_at="input").state_dict().keys()


@torch.no_grad()
def test_without_positions_of_the_image_tokens_have_no_place() -> None:
    x, t, condition = inputs()
    mixed = {"image": condition["image"][:, torch.randperm(16, generator=torch.Generator().manual_seed(0))]}
    for kind, alike in (("none", True), ("points", True), ("image", False), ("both", False)):
        model = tiny(cpe_of=kind)
        same = torch.allclose(model(x, t, condition).out, model(x, t, mixed).out, atol=1e-9)
        assert same == alike, kind


@torch.no_grad()
def test_rows_that_are_not_shown_know_no_picture_but_keep_their_places() -> None:
    model, (x, t, condition) = tiny(), inputs()
    other = {"image": torch.randn_like(condition["image"])}
    mask = torch.tensor([True, False, False])
    one, two = (model(x, t, each | {"shown": mask}).out for each in (condition, other))
    torch.testing.assert_close(one[1:], two[1:], **EXACT)
    assert not torch.allclose(one[:1], two[:1], atol=1e-6)
    torch.testing.assert_close(one[:1], model(x[:1], t[:1], {"image": condition["image"][:1]}).out, **EXACT)
    assert float((model.null - 0).norm()) > 0


@torch.no_grad()
def test_points_are_looked_up_where_they_are_said_to_be() -> None:
    model, (x, t, condition) = tiny(), inputs()
    found = model(x, t, condition).out
    torch.testing.assert_close(model(x, t, condition | {"places": x}).out, found, **EXACT)
    assert not torch.allclose(model(x, t, condition | {"places": -x}).out, found, atol=1e-6)


def test_a_coarser_stage_is_where_its_samples_are_on_average() -> None:
    points = torch.randn(2, 16, 2)
    seen = Seen(points=points, tokens=None, time=torch.zeros(2, 4))
    assert torch.equal(seen.points_at(16), points)
    torch.testing.assert_close(seen.points_at(4), points.view(2, 4, 4, 2).mean(2))


@torch.no_grad()
def test_looking_at_the_estimate_is_two_passes() -> None:
    model, chain, (x, t, condition) = tiny(), Chain(), inputs()
    places = chain.clean(x, model(x, t, condition).out, t.long()).clamp(-1, 1)
    wanted = model(x, t, condition | {"places": places}).out
    torch.testing.assert_close(LooksAtEstimate(model, chain)(x, t, condition).out, wanted, **EXACT)


def test_no_gradient_goes_through_the_estimate() -> None:
    model, (x, t, condition) = tiny(lookup="bilinear"), inputs()
    x.requires_grad_()
    places = Chain().clean(x, model(x, t, condition).out, t.long()).clamp(-1, 1).detach()
    (ours,) = torch.autograd.grad(LooksAtEstimate(model)(x, t, condition).out.sum(), x)
    (wanted,) = torch.autograd.grad(model(x, t, condition | {"places": places}).out.sum(), x)
    torch.testing.assert_close(ours, wanted, **EXACT)


@torch.no_grad()
def test_it_is_stored_and_read_back(tmp_path: Path) -> None:
    model, (x, t, condition) = tiny().float(), inputs()
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path)
    assert isinstance(again, DiffEye) and again.config == model.config
    x, t, condition = x.float(), t.float(), {"image": condition["image"].float()}
    assert torch.equal(again.eval()(x, t, condition).out, model(x, t, condition).out)


def test_the_size_for_720_samples_is_counted_without_memory() -> None:
    config = DiffEyeConfig()
    assert config.stride == 8 and config.tokens == 1024
    assert DiffEye.parameters_of(config) == 24_754_818
    with torch.device("meta"):
        model = DiffEye(config)
        found = model(torch.zeros(2, 720, 2), torch.zeros(2), {"image": torch.zeros(2, 1024, 384)}).out
    assert found.shape == (2, 720, 2)


def test_it_is_in_the_catalogue() -> None:
    assert lookup("diffeye").load() is DiffEye
    assert "CorrespondingPositions" in lookup("diffeye").about


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 15}, "length=15 must be a multiple of 2, as of stages; take 16"),
        ({"length": 718, "stages": (16, 16, 16, 16)}, "length=718 must be a multiple of 8, as of stages; take 720"),
        ({"grid": (33, 4)}, r"grid=\(33, 4\) must be within pixels=\(32, 32\)"),
        ({"stages": ()}, r"stages=\(\) must name"),
        ({"stages": (16, 18)}, "a width of 18 must be a multiple of 4, of heads=2 and of groups=4"),
        ({"sees": "all"}, "sees='all' is unknown; choose one of patches, global"),
        ({"cpe_of": "all"}, "cpe_of='all' is unknown"),
        ({"cpe_at": "end"}, "cpe_at='end' is unknown"),
        ({"cross_at": "end"}, "cross_at='end' is unknown"),
        ({"lookup": "cubic"}, "lookup='cubic' is unknown"),
        ({"heads": 0}, "heads=0 must be at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiffEyeConfig(**{**TINY, **change})


@pytest.mark.bad_input
def test_inputs_that_do_not_fit_are_refused() -> None:
    model, (x, t, condition) = tiny(), inputs()
    with pytest.raises(ValueError, match=r"x of shape \(3, 12, 2\) must be \(batch, length=16, 2\)"):
        model(x[:, :12], t, condition)
    with pytest.raises(ValueError, match=r"image features \(3, 9, 5\) must be \(3, 16, 5\), as the config says"):
        model(x, t, {"image": condition["image"][:, :9]})
    with pytest.raises(ValueError, match="points of row 0 hold NaN"):
        model(x * torch.nan, t, condition)


@pytest.mark.compile
@torch.no_grad()
def test_compiled_it_is_the_same() -> None:
    model, (x, t, condition) = tiny(), inputs()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, t, condition).out, model(x, t, condition).out, **EXACT)
