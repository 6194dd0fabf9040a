"""Weak rows of models of Wan's, LTX's and Sana's make: every argument of a batch row comes along, no other does."""

from dataclasses import dataclass

import pytest
import torch

from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism
from saccade.core.rows import Rows
from tests.hosts.host import Host, attach, output
from tests.hosts.models import flexible, ltx, sana, wan_kin
from tests.hosts.stand_ins import Looking, Scaled

pytestmark = pytest.mark.host
GUIDED = Rows.of("uncond", "cond")
ALONE = ("controlnet", "wan_animate2")  # predict nothing, or take no rows beside their own
MADE = (*ltx.HOSTS, *wan_kin.HOSTS, *sana.HOSTS, *flexible.HOSTS)
PREDICTING = [host for host in MADE if not any(part in host.name for part in ALONE)]
every_host = pytest.mark.parametrize("host", PREDICTING, ids=lambda host: host.name)


@dataclass(frozen=True)
class Weak(Looking):
    """Asks for weak rows, and has one mechanism in all rows."""

    def weak_weight(self, clock: Clock) -> float:
        return 0.5


@every_host
def test_weak_rows_like_their_own_steer_nothing_and_are_cut_off(host: Host) -> None:
    """Attention is changed in all rows alike, so that those added differ from their own in nothing."""
    model, inputs = host.build()
    alike: Mechanism = Scaled()
    with attach(model, Looking(alike)):
        wanted = output(model, inputs)
    with attach(model, Weak(alike), rows=GUIDED):
        torch.testing.assert_close(output(model, inputs), wanted, rtol=1e-4, atol=1e-4)
