"""Published attention systems, one file per paper. Each is a frozen value to hand to `saccade.attach`."""

from importlib import import_module

__all__ = ["Clear", "Dense", "FlashBias"]

_HOMES = {"Clear": "clear", "Dense": "dense", "FlashBias": "flashbias"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"saccade.systems.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'saccade.systems' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
