"""ULSAM, for each of g groups of channels F_n a map A_n of attention over the positions.

    a = relu(norm(point(pool(relu(norm(scale(F_n)))))))        scale: a number and a bias for each channel
    A_n = softmax over positions of a                          pool: the maximum of 3 x 3; point: to one channel
    out_n = A_n F_n + F_n

Cost: 2 m parameters and 2 m h w multiply-adds for m channels, for any g; norms and biases add 3 m + 3 g parameters.
Source: Saini et al., ULSAM (2020).
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models.checkpoint_names import Names, Report, export, load
from saccade.models.unwrapping import State, unwrapped
from saccade.nn.map_mixer import MapPart
from saccade.nn.registry import mixer

SUBSPACE = re.compile(r"subspaces\.(\d+)\.(.+)")
COUNTER = "num_batches_tracked"


class ULSAM(nn.Module):
    """A feature map, weighed position by position, one map of weights for each group of channels.

    width      channels, a multiple of `groups`; groups   1: one map for all, `width`: one for each channel
    norm_act   batch norms, ReLUs and biases, as the released code has them; without, as the equations
    momentum   of the running statistics; the released code has 0.9, which keeps little but the last batch
    Raises ValueError for options out of range.
    """

    names: ClassVar[Names] = (
        ("scale.", "conv_dws."),
        ("scale_norm.", "bn_dws."),
        ("point.", "conv_point."),
        ("point_norm.", "bn_point."),
    )

    def __init__(self, width: int, *, groups: int = 4, norm_act: bool = True, momentum: float = 0.1) -> None:
        super().__init__()
        if groups < 1 or width < 1 or width % groups:
            raise ValueError(f"groups={groups} must be at least 1 and divide the width={width}")
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum={momentum} must be in (0, 1], the weight of the newest batch")
        self.width, self.groups, self.norm_act = width, groups, norm_act
        self.scale = nn.Conv2d(width, width, 1, groups=width, bias=norm_act)
        self.point = nn.Conv2d(width, groups, 1, groups=groups, bias=norm_act)
        self.scale_norm = nn.BatchNorm2d(width, momentum=momentum) if norm_act else nn.Identity()
        self.point_norm = nn.BatchNorm2d(groups, momentum=momentum) if norm_act else nn.Identity()

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """x (b m h w), any h and w; the same shape.

        Raises ValueError for another number of axes or channels, and for one position in all to train norms on.
        """
        maps = self.maps(x)
        parts = x.unflatten(1, (self.groups, -1))
        return (parts + maps[:, :, None] * parts).flatten(1, 2)

    def maps(self, x: Float[Tensor, "..."]) -> Float[Tensor, "b g h w"]:
        """A_n of every group: at least 0, each adding up to 1. Raises ValueError as `forward` does."""
        self._check(x)
        a = F.max_pool2d(self._active(self.scale_norm, self.scale(x)), 3, stride=1, padding=1)
        a = self._active(self.point_norm, self.point(a))
        wide = torch.promote_types(x.dtype, torch.float32)
        return a.flatten(2).softmax(-1, dtype=wide).unflatten(2, a.shape[2:]).to(x.dtype)

    def load_official(self, state: Mapping[str, Any]) -> Report:
        """Copy the weights of the released module, `subspaces.0.conv_dws.weight` and so on.

        Raises LoadError, a ValueError, for names or shapes that are not this module's; nothing is copied then.
        """
        known = {f"subspaces.{n}.{name}" for name in export(self, self.names) for n in range(self.groups)}
        return load(self, _joined(unwrapped(state, known)), (self.names,))

    def official_state(self) -> State:
        """The weights under the names of the released module.

        Raises ValueError without norms, which the released module always has.
        """
        if not self.norm_act:
            raise ValueError("norm_act=False has no official names: the released module always has norms and biases")
        found: State = {}
        for name, value in export(self, self.names).items():
            parts = [value] * self.groups if name.endswith(COUNTER) else value.chunk(self.groups)
            found |= {f"subspaces.{n}.{name}": part.clone() for n, part in enumerate(parts)}
        return found

    def _active(self, norm: nn.Module, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return norm(x).relu() if self.norm_act else x

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.width:
            raise ValueError(f"x of shape {tuple(x.shape)} must be a feature map (b, {self.width}, h, w)")
        if self.norm_act and self.training and x.numel() == self.width:
            raise ValueError(
                f"x of shape {tuple(x.shape)} has one position to train batch norms on; give a larger map or batch, "
                "or call eval()"
            )


@mixer("ulsam")
class ULSAMMixer(MapPart):
    """ULSAM over the tokens of a grid in place of attention; a token looks no further than its neighbours.

    groups, norm_act   as `ULSAM` has them
    """

    def __init__(self, width: int, heads: int = 1, *, groups: int = 4, norm_act: bool = True) -> None:
        super().__init__("ulsam", ULSAM(width, groups=groups, norm_act=norm_act))


def _joined(state: State) -> State:
    """The weights of all subspaces joined, as ours are; counters of batches are the same in all."""
    parts: dict[str, dict[int, Tensor]] = {}
    for name in state:
        if found := SUBSPACE.fullmatch(name):
            parts.setdefault(found[2], {})[int(found[1])] = state[name]
    rest = {name: value for name, value in state.items() if not SUBSPACE.fullmatch(name)}
    return rest | {name: _in_order(name, found) for name, found in parts.items()}


def _in_order(name: str, found: dict[int, Tensor]) -> Tensor:
    values = [found[n] for n in sorted(found)]
    return values[0] if name.endswith(COUNTER) else torch.cat(values)
