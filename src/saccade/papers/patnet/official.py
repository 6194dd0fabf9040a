"""Weights of one operator under the names of the released code, both ways."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from saccade.models.checkpoint_names import SAME, Names, Report, export, load
from saccade.models.unwrapping import State


class OfficialLayer(nn.Module):
    """A layer whose weights have official names, `names`."""

    names: ClassVar[Names] = SAME

    def load_official(self, state: Mapping[str, Any]) -> Report:
        """Copy the weights of the released layer.

        Raises LoadError, a ValueError, for names or shapes that are not this layer's; nothing is copied then.
        """
        return load(self, state, (self.names,))

    def official_state(self) -> State:
        """The weights under the names of the released layer."""
        return export(self, self.names)


def below(ours: str, theirs: str, names: Names) -> Names:
    """The names of a layer that is part of a model, by what its names begin with there."""
    return tuple((ours + one, theirs + other) for one, other in names)
