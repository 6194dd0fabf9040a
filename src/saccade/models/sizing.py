"""Architectures written as text, and brought to a common budget: `DiT(mixer="moh(shared=2, routed=2)")`."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import log
from typing import Any, Literal, get_args

from torch import nn

from saccade.core.text_calls import check_options, read_call
from saccade.models.architecture import Architecture
from saccade.models.labelled import LabelWords

Budget = Literal["macs", "parameters"]
Cost = Callable[[nn.Module], float]
TRIED = 256  # values that may be refused before the first that is not


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of those that are compared.

    model    as text; options it does not name come from the comparison's base
    scaled   the option that is varied, in multiples of `step`, until the budget is met
    """

    name: str
    model: str = "DiT"
    scaled: str = "width"
    step: int = 4


def build(text: str, **base: Any) -> nn.Module:
    """The architecture of a text, with those options of `base` that it has and the text does not name.

    One conditioned on words and not labels gets a few learned words for each of the base's `classes`, if it has any.
    Raises ValueError for an unknown architecture or option.
    """
    name, options = read_call(text, "model")
    kinds = Architecture.kinds()
    if name not in kinds:
        raise ValueError(f"model '{name}' is unknown; choose one of {', '.join(kinds)}")
    cls = kinds[name]
    known = [field.name for field in fields(cls.config_class)]
    check_options(f"model '{name}'", options, known)
    model = cls(**{key: value for key, value in base.items() if key in known} | options)
    return (
        model
        if "classes" in known or "classes" not in base
        else LabelWords(model, base["classes"], width=model.config.words_width)
    )


def sized(arm: Arm, base: dict[str, Any], cost: Cost, target: float) -> int:
    """The value of `arm.scaled` whose model costs nearest to `target`, by ratio.

    Raises ValueError where even the smallest that can be built costs twice the target or more.
    """
    found: dict[int, float] = {}
    refused = ""
    for value in range(arm.step, 4096 * arm.step, arm.step):
        try:
            spent = cost(build(arm.model, **base | {arm.scaled: value}))
        except ValueError as error:  # a width that this architecture cannot have
            refused = f" ({error})"
            if len(found) == 0 and value > TRIED * arm.step:
                break
            continue
        found[value] = abs(log(spent / target))
        if spent > target:
            break
    if not found or min(found.values()) >= log(2):
        raise ValueError(f"arm '{arm.name}' cannot come near a budget of {target:,.0f} by its {arm.scaled}{refused}")
    return min(found, key=lambda value: found[value])


def check_budget(budget: str) -> None:
    """Raise ValueError for a budget there is not."""
    if budget not in get_args(Budget):
        raise ValueError(f"budget='{budget}' must be one of {', '.join(get_args(Budget))}")


def parameters(model: nn.Module) -> int:
    """Trained numbers of a model."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
