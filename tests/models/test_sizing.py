"""Architectures by text, at a common budget."""

import pytest

from saccade.models.dit import DiT
from saccade.models.sizing import Arm, build, parameters, sized

BASE = {"depth": 2, "width": 32, "heads": 2, "side": 8, "channels": 3, "classes": 4, "unknown_to_all": 1}


def test_text_goes_before_base() -> None:
    model = build('DiT(ffn="swiglu(hidden=24)", heads=4)', **BASE)
    assert isinstance(model, DiT) and model.config.heads == 4 and model.config.width == 32
    assert model.config.ffn == "swiglu(hidden=24)"


@pytest.mark.parametrize("share", [0.5, 1.0, 3.0])
def test_nearest_width_is_found(share: float) -> None:
    target = share * parameters(build("DiT", **BASE))
    arm = Arm(name="swiglu", model='DiT(ffn="swiglu")', step=8)
    width = sized(arm, BASE, parameters, target)
    costs = {w: parameters(build(arm.model, **BASE | {"width": w})) / target for w in (width - 8, width, width + 8)}
    assert width % 8 == 0 and min(costs, key=lambda w: max(costs[w], 1 / costs[w])) == width


def test_messages() -> None:
    with pytest.raises(ValueError, match="model 'DeiT' is unknown; choose one of .*DiT"):
        build("DeiT")
    with pytest.raises(ValueError, match="model 'DiT' has no option 'hight'"):
        build("DiT(hight=3)")
    with pytest.raises(ValueError, match=r"model 'DiT\(' cannot be read"):
        build("DiT(")
    with pytest.raises(ValueError, match="arm 'big' cannot come near a budget of 10"):
        sized(Arm(name="big"), BASE, parameters, 10)
    with pytest.raises(ValueError, match=r"cannot come near .* by its width \(mixer names 3 parts for depth=2"):
        sized(Arm(name="three", model='DiT(mixer=("linear", "linear", "linear"))'), BASE, parameters, 10)
