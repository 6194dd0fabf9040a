"""Dense attention as a system: nothing changes, except, if asked, the kernel that runs it.

Two exact kernels never agree to the last bit; how far apart they lie on a whole generation is the numeric floor that a
comparison needs. The system is also the neutral element of a stack.
"""

from dataclasses import dataclass

from saccade.core.clock import Clock
from saccade.core.mechanism import KernelChoice, PlanItem
from saccade.core.site import EVERYWHERE, Site, Where


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Attention as the host runs it, or by a named kernel.

    kernel   name of the kernel that must run every chosen site, as `reference` or `sdpa`; None leaves the host alone
    where    sites and share of the steps
    """

    kernel: str | None = None
    where: Where = EVERYWHERE

    @property
    def name(self) -> str:
        return "dense"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if self.kernel is None or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        return (KernelChoice(self.kernel),)
