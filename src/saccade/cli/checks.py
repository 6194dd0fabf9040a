"""Options looked at when the command line is read, before anything is loaded. An error names option, value and mend."""

from typing import Any

import typer


def positive(param: typer.CallbackParam, value: Any) -> Any:
    """A number, or each of several, is 1 or more; ValueError otherwise."""
    for number in value if isinstance(value, list | tuple) else [value]:
        if number is not None and number < 1:
            raise ValueError(f"{param.name}={number} must be at least 1")
    return value


def usable(param: typer.CallbackParam, value: str) -> str:
    """A device that this torch knows and this machine has; ValueError otherwise."""
    if value == "cpu":
        return value
    import torch

    try:
        kind = torch.device(value).type
    except RuntimeError:
        raise ValueError(f"{param.name}='{value}' is no device of torch; name it cpu, cuda, cuda:1 ...") from None
    try:
        torch.empty(1, device=value)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"{param.name}='{value}' is not there ({why}); use {param.name}=cpu") from None
    if kind == "meta":
        raise ValueError(f"{param.name}='meta' holds no numbers; use {param.name}=cpu")
    return value
