"""Small hosts with learned relations whose terms are no zeros."""

from typing import Any

import torch
from torch import Tensor, nn

from saccade.papers.dreamrelation import Placement, RelationLora
from tests.hosts.host import output
from tests.hosts.models import videos
from tests.hosts.tiny import BY_NAME

KNOWN = BY_NAME | {host.name: host for host in videos.HOSTS}
HOSTS = ("mochi", "wan", "cogvideox", "hunyuan_video", "sd3", "flux")
ALL = ("relation", "subject1", "subject2")


def build(name: str) -> tuple[Any, dict[str, Any]]:
    """A tiny transformer of this family, and inputs."""
    return KNOWN[name].build()


def learned(model: nn.Module, *, rank: int = 3, alpha: float | None = 6.0, zero: bool = False, **more: Any) -> Any:
    """Sets for a model; with `zero` as they begin, else as if trained."""
    torch.manual_seed(1)
    made = RelationLora.fresh(model, rank=rank, alpha=alpha, placement=Placement(**more))
    for name in () if zero else made.sets:
        for up in made.low(name).up.values():
            nn.init.normal_(up, std=0.2)
    return made


def run(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """The output of a forward, without gradients."""
    with torch.no_grad():
        return output(model, inputs)
