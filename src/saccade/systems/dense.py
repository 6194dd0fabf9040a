"""Dense attention as a system: nothing changes, except, if asked, the kernel that runs it.

Two exact kernels never agree to the last bit; how far apart they lie on a whole generation is the numeric floor that a
comparison needs. The system is also the neutral element of a stack.
"""

from dataclasses import dataclass

from saccade.core.clock import Clock
from saccade.core.mechanism import KernelChoice, PlanItem
from saccade.core.registry import GRID_HOSTS, TEXT_HOSTS, Paper, system
from saccade.core.site import EVERYWHERE, Site, Where

PAPER = Paper(
    title="Attention Is All You Need",
    year=2017,
    arxiv="1706.03762",
    bibtex="""@inproceedings{vaswani2017attention,
  title     = {Attention Is All You Need},
  author    = {Vaswani, Ashish and Shazeer, Noam and Parmar, Niki and Uszkoreit, Jakob and Jones, Llion and
               Gomez, Aidan N. and Kaiser, Lukasz and Polosukhin, Illia},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2017}
}""",
)


@system(
    "dense",
    paper=PAPER,
    kind="baseline",
    seam="call",
    hosts=(*GRID_HOSTS, *TEXT_HOSTS),
)
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
