"""Agreement with the released module: output, maps, running statistics, and names both ways."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from saccade.models.checkpoint_names import LoadError
from saccade.papers import ULSAM

FOLDER = Path(__file__).resolve().parents[2] / "goldens" / "ulsam"
CASES = ("plain_eval", "train_bn")


def golden(case: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    stored = load_file(FOLDER / f"case_{case}.safetensors")
    weights = {name.removeprefix("w/"): value for name, value in stored.items() if name.startswith("w/")}
    return {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}, stored


def loaded(case: str) -> tuple[ULSAM, dict[str, Tensor]]:
    weights, stored = golden(case)
    module = ULSAM(16, groups=4, momentum=0.9)
    assert module.load_official(weights).complete
    return module.train(case == "train_bn"), stored


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_maps_agree(case: str) -> None:
    module, stored = loaded(case)
    with torch.no_grad():
        torch.testing.assert_close(module(stored["in/x"]), stored["out/y"], atol=1e-6, rtol=0)
        module, _ = loaded(case)
        torch.testing.assert_close(module.maps(stored["in/x"]).flatten(2), stored["mid/maps"], atol=1e-6, rtol=0)


def test_running_statistics_follow_the_last_batch_as_in_the_released_code() -> None:
    (weights, stored), (module, _) = golden("train_bn"), loaded("train_bn")
    x = stored["in/x"]
    module(x)
    first = torch.nn.functional.conv2d(
        x[:, :4], weights["subspaces.0.conv_dws.weight"], weights["subspaces.0.conv_dws.bias"], groups=4
    )
    wanted = 0.1 * weights["subspaces.0.bn_dws.running_mean"] + 0.9 * first.mean((0, 2, 3))
    torch.testing.assert_close(module.official_state()["subspaces.0.bn_dws.running_mean"], wanted)


def test_official_names_both_ways() -> None:
    (weights, _), (module, _) = golden("plain_eval"), loaded("plain_eval")
    exported = module.official_state()
    assert exported.keys() == weights.keys()
    assert all(torch.equal(exported[name], weights[name]) for name in weights)


@pytest.mark.parametrize("groups", [1, 2, 16])
def test_names_of_any_number_of_groups_also_behind_a_wrapper(groups: int) -> None:
    module, again = ULSAM(16, groups=groups), ULSAM(16, groups=groups)
    state = module.official_state()
    assert len(state) == 14 * groups
    assert again.load_official({"model": {f"module.{name}": value for name, value in state.items()}}).complete
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in module.state_dict().items())


def test_what_is_not_of_this_module_is_refused() -> None:
    weights, _ = golden("plain_eval")
    for wrong in (
        weights | {"subspaces.0.conv_extra.weight": torch.zeros(1)},
        {name: value for name, value in weights.items() if name != "subspaces.1.bn_dws.bias"},
        {f"other.{name}": value for name, value in weights.items()} | {"more": torch.zeros(1)},
    ):
        with pytest.raises(LoadError, match="does not fit this ULSAM"):
            ULSAM(16, groups=4).load_official(wrong)
    with pytest.raises(LoadError, match="of another shape"):
        ULSAM(16, groups=8).load_official(weights)
    with pytest.raises(ValueError, match="norm_act=False has no official names"):
        ULSAM(16, norm_act=False).official_state()
