"""What all architectures share: a configuration with published sizes, storage, official names, parameter counts."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from saccade.core.catalogue import modules
from saccade.models.checkpoint_names import SAME, LoadError, Names, Report, export, load
from saccade.models.macs import macs
from saccade.models.stored import make_config, read_config, read_weights
from saccade.models.unwrapping import State
from saccade.nn.part import Losses

WEIGHTS, CONFIG = "model.safetensors", "config.json"
# modules of saccade.models that define architectures
OWN = ("causal_lm", "classifier", "dit", "pair_classifier", "text_classifier", "vit")


class Prediction(NamedTuple):
    """What the objective asked for, with auxiliary losses: 0-d, weighted, to be added to the objective in training."""

    out: Float[Tensor, "b ..."]
    losses: Losses


class Architecture(nn.Module):
    """A model made from one frozen configuration.

    >>> from saccade.models import DiT
    >>> model = DiT.of("S/2", classes=10)
    """

    config_class: ClassVar[type[Any]]
    sizes: ClassVar[dict[str, Any]]
    names: ClassVar[Names] = ()
    noise_at: ClassVar[int] = 1  # time of pure noise of a flow; at 0 its velocity leads to the picture
    _kinds: ClassVar[dict[str, type["Architecture"]]] = {}

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        Architecture._kinds[cls.__name__] = cls

    @staticmethod
    def kinds() -> dict[str, type["Architecture"]]:
        """Every architecture by its class's name: those of the library, and those defined by whoever asks."""
        for name in OWN:
            import_module(f"saccade.models.{name}")
        modules("models")  # those of papers
        return dict(sorted(Architecture._kinds.items()))

    def __init__(self, config: Any = None, **changes: Any) -> None:
        super().__init__()
        self.config = replace(config, **changes) if config else self.config_class(**changes)

    @classmethod
    def of(cls, size: str, **changes: Any) -> Self:
        """A fresh model of a published size, with some of its options changed.

        Raises ValueError for an unknown size.
        """
        if size not in cls.sizes:
            raise ValueError(f"size='{size}' of {cls.__name__} is unknown; choose one of {', '.join(cls.sizes)}")
        return cls(cls.sizes[size], **changes)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stored = {"_class_name": type(self).__name__, **asdict(self.config)}
        (folder / CONFIG).write_text(json.dumps(stored, indent=2) + "\n")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read what `save_pretrained` wrote; on `Architecture` itself, a model of any kind.

        Raises FileNotFoundError for a folder without a model or its weights; ValueError for one of another class, for
        files that are cut or of another format, and for options or weights that are not the model's.
        """
        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            raise FileNotFoundError(f"{folder} holds no {CONFIG}; give a folder that save_pretrained wrote")
        stored, kinds = read_config(folder / CONFIG), Architecture.kinds()
        name = stored.pop("_class_name", None)
        if not isinstance(name, str) or name not in kinds:
            known = ", ".join(kinds)
            raise ValueError(
                f"{folder / CONFIG} says _class_name={json.dumps(name)}, no architecture; choose from {known}"
            )
        if not issubclass(kind := kinds[name], cls):
            raise ValueError(f"{folder} holds a '{name}', not a {cls.__name__}; load it by that class")
        config = make_config(kind.config_class, stored, folder / CONFIG)
        try:
            model = kind(config)
            load(model, read_weights(folder / WEIGHTS), (SAME,))
        except LoadError as error:
            raise ValueError(f"{folder / WEIGHTS} is not of the model in {CONFIG}: {error.report}") from None
        return model  # type: ignore[return-value]

    @property
    def namings(self) -> tuple[Names, ...]:
        """Those that official checkpoints may follow; the first is the one that `official_state` writes."""
        return (self.names,)

    def load_official(self, state: Mapping[str, Any], *, strict: bool = True) -> Report:
        """Copy weights that bear the official checkpoint's names, wrapped as training programs store them or not.

        Raises LoadError with all names that do not match, and copies nothing; `strict=False` copies what fits, and the
        report says what did not. Raises ValueError for a state that is no dictionary of tensors.
        """
        return load(self, state, self.namings, strict=strict, adapt=self.from_official)

    def from_official(self, state: State) -> State:
        """The official weights in our shapes."""
        return state

    def official_state(self) -> State:
        """The weights under the official checkpoint's names.

        Raises ValueError where some have none, since the official code knows no such configuration.
        """
        return export(self, self.namings[0])

    def macs(self, *inputs: Any) -> int:
        """Multiply-adds of a forward of these inputs; a model whose cost varies by picture counts what it aims at."""
        return macs(self, *inputs)

    @classmethod
    def parameters_of(cls, config: Any) -> int:
        """How many numbers a model of `config` stores, frozen ones included; nothing is allocated."""
        with torch.device("meta"):
            model = cls(config)
        return sum(value.numel() for value in model.state_dict().values())


def check_config(config: Any, **least: float) -> None:
    """Raise ValueError where a named field of `config` is below its least value."""
    for name, bound in least.items():
        value = getattr(config, name)
        if value < bound:
            raise ValueError(f"{name}={value} must be at least {bound}")


def check_picture(x: Float[Tensor, "b c h w"], config: Any) -> None:
    """Raise ValueError unless x has the `channels` and, both ways, the `side` of a configuration."""
    wanted = (config.channels, config.side, config.side)
    if tuple(x.shape[1:]) != wanted:
        sizes = ", ".join(map(str, wanted))
        raise ValueError(f"x of shape {tuple(x.shape)} must be (batch, {sizes}), as the config says")
