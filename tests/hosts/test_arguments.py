"""Wrong arguments are answered by name, value and mend, before anything is touched."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from saccade import attach, edit
from saccade.core.errors import SaccadeError
from saccade.core.site import at
from saccade.papers import Clear, ConsistEdit, MoH, SparseD
from saccade.papers.dydila.differential_linear import DifferentialLinearAttention
from tests.hosts.stand_ins import Masked, Same
from tests.hosts.tiny import BY_NAME
from tests.tiny_flux import tiny_flux

pytestmark = [pytest.mark.host, pytest.mark.bad_input]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Clear, r"Clear is a class; give a system made from it, Clear\(...\)"),
        ("clear", "'clear' is a name; give the system itself, one of saccade.papers, as Clear"),
        (DifferentialLinearAttention, "DifferentialLinearAttention is a class"),
        (nn.Linear(2, 2), r"Linear is no system: it has no name and plan\(site, clock\). `saccade list` shows"),
        (None, "NoneType is no system"),
    ],
)
def test_what_is_no_system(given: Any, message: str) -> None:
    model, inputs = BY_NAME["flux"].build()
    with pytest.raises(TypeError, match=message):
        attach(model, Same(), given)
    with attach(model, Same()):  # nothing was left behind
        model(**inputs)


@pytest.mark.parametrize("name", ["where", "layout", "family", "rows"])
def test_arguments_of_another_type(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}='\*single\*' must be a {name.capitalize()}"):
        attach(BY_NAME["flux"].build()[0], Same(), **{name: "*single*"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: at(heads=()), r"heads=\(\) must hold the number of at least one head, each once; None is all heads"),
        (lambda: at(heads=(1, 1)), r"heads=\(1, 1\) must hold"),
        (lambda: at(heads=3), "heads=3 must hold"),  # type: ignore[arg-type]
        (lambda: at(heads=("a",)), "heads=.* must hold"),  # type: ignore[arg-type]
        (lambda: at(kind="x"), r"kind='x' must be one of \('joint', 'self', 'cross'\)"),  # type: ignore[arg-type]
        (lambda: at(3), "pattern=3 must be a pattern of site names"),  # type: ignore[arg-type]
        (lambda: at(during=0.5), "during=0.5 must be a rising pair within"),  # type: ignore[arg-type]
        (lambda: at(depth=("0", "1")), r"depth=\('0', '1'\) must be a rising pair"),  # type: ignore[arg-type]
        (lambda: Clear(radius="2"), "radius='2' must be a number"),  # type: ignore[arg-type]
        (lambda: Clear(radius=2, ntk="x"), "ntk='x' must be a number"),  # type: ignore[arg-type]
        (lambda: SparseD(keep="0.3"), "keep='0.3' must be a number"),  # type: ignore[arg-type]
        (lambda: MoH(shared=True), "shared=True must be a number"),
        (lambda: ConsistEdit(strength="1"), "strength='1' must be a number"),  # type: ignore[arg-type]
    ],
)
def test_options_of_another_type_or_out_of_range(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_numbers_of_numpy_and_whole_ones_are_numbers() -> None:
    assert Clear(radius=np.float32(2.0)) == Clear(radius=2) and at(during=(0, 1)) == at()


def test_explain_needs_a_step() -> None:
    with attach(BY_NAME["flux"].build()[0], Same()) as run:
        with pytest.raises(ValueError, match="num_steps=0 must be at least 1"):
            run.explain(0)
        assert "steps 0-0" in run.explain(1)


@pytest.mark.parametrize("source", [3, None, ["a red circle"], b"png"])
def test_a_source_of_another_type(source: Any) -> None:
    with pytest.raises(ValueError, match=r"source=.* must be a prompt, a picture .* or an edit"):
        edit(object(), source=source, target="a blue circle")


class Wrapper(nn.Module):
    """As adapters and parallel wrappers hold a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base_model = nn.Sequential(model)

    def forward(self, **inputs: Any) -> Any:
        return self.base_model[0](**inputs)


@pytest.mark.parametrize(("wrap", "path"), [(Wrapper, r"base_model\.0"), (nn.DataParallel, "module")])
def test_a_wrapper_names_the_model_inside(wrap: Any, path: str) -> None:
    model, inputs = BY_NAME["flux"].build()
    outer = wrap(model)
    with pytest.raises(ValueError, match=rf"is a wrapper around a FluxTransformer2DModel, which is '{path}' in it"):
        attach(outer, Same())
    plain = outer(**inputs)[0]
    with attach(outer.get_submodule(path.replace("\\", "")), Masked()):
        assert not torch.allclose(outer(**inputs)[0], plain)


def test_a_model_put_in_place_of_the_attached_one_is_noticed() -> None:
    pipe = tiny_flux()
    given = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "latent", "max_sequence_length": 16}
    own, other = pipe.transformer, tiny_flux().transformer
    with attach(pipe, Masked()) as run:
        pipe.transformer = other
        with pytest.raises(
            SaccadeError, match="a model of FluxPipeline was replaced after attach, so run .* sees none"
        ):
            pipe("a red circle", **given)
        pipe.transformer = own
        pipe("a red circle", **given)
    assert run.report().forwards == 2 and "progress_bar" not in vars(pipe)
    pipe.transformer = other
    pipe("a red circle", **given)
