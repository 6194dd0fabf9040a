"""What each family lets mechanisms read of their site, on every class of `tests.hosts.models`, against the operands."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.run.attached_model import family_of
from tests.hosts.host import Host, output
from tests.hosts.stand_ins import looking
from tests.hosts.tiny import MORE

pytestmark = pytest.mark.host
more_hosts = pytest.mark.parametrize("host", MORE, ids=lambda host: host.name)


def read(host: Host, look: Callable[[AttentionCall], Any], *items: str) -> list[Any]:
    """What `look` returns where the site has image tokens; skips a host that lacks one of the items."""
    model, inputs = host.build()
    family, found = family_of(model), []
    lacking = [item for item in items if item in family.unsupported]
    if lacking or not {"joint", "self"} & set(family.sites.values()):
        pytest.skip(f"offers no {lacking or items}")

    def keep(call: AttentionCall) -> None:
        if call.layout_k.of("image"):
            found.append(look(call))

    with attach(model, looking(keep, *(f"host.{item}" for item in items))):
        output(model, inputs)
    assert found
    return found


@more_hosts
def test_projecting_what_entered_gives_the_values_of_the_call(host: Host) -> None:
    def look(call: AttentionCall) -> tuple[Tensor, Tensor]:
        image = call.layout_k.span("image")
        return call.v[:, :, image], call.host.project(call.host.hidden[:, image])[1]

    for v, projected in read(host, look, "hidden", "project"):
        torch.testing.assert_close(v, projected, rtol=1e-4, atol=2e-6)


@more_hosts
def test_the_rotary_table_undoes_the_hosts_rotation(host: Host) -> None:
    """Raw k is the one the module's own projection and norm give before rotary."""

    def look(call: AttentionCall) -> tuple[Tensor, Tensor]:
        image = call.layout_k.span("image")
        return call.host.raw(call.k)[:, :, image], call.host.project(call.host.hidden[:, image])[0]

    for raw, projected in read(host, look, "rotary", "raw", "hidden", "project"):
        torch.testing.assert_close(raw, projected, rtol=1e-4, atol=1e-5)
