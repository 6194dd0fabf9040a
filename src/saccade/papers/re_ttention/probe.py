"""What a window would do at every step of a dense run: its shares of the softmax, and how far its output lies off."""

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.masks import Mask
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.partial import Parts
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.experiments import Row
from saccade.papers.re_ttention.statistics import attend_to_all, window_share


@dataclass(eq=False)
class Seen:
    """What was measured at one site: a row for each step, and the sums of the step before, over image tokens.

    last  log of the share and log of the window's sum of exponentials, each (b h n)
    """

    rows: list[Row] = field(default_factory=list)
    last: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Look(Mechanism):
    """Attend to everything, and measure what the window gives instead, on rows of image tokens.

    seen  of one site, by which the plans of sites differ
    """

    window: Mask
    step: int
    seen: Seen
    needs: ClassVar[frozenset[str]] = frozenset({"lse"})

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        assert parts.lse is not None
        every, image = attend_to_all(call, self.window), call.layout_q.is_("image", call.q.device)
        rho = window_share(parts, every)
        now = rho[:, :, image].log(), parts.lse[:, :, image]
        masked = {"before": parts.total, "after": rho[..., None] * parts.total}
        self.seen.rows.append(
            {"step": self.step, "share": float(rho[:, :, image].mean())}
            | {name: float(off(out[:, :, image], every.total[:, :, image])) for name, out in masked.items()}
            | self._moved(now)
        )
        self.seen.last = now
        return every

    def _moved(self, now: tuple[Tensor, Tensor]) -> Row:
        if self.seen.last is None or self.step == 0:
            return {}
        moved = (float((a - b).abs().mean()) for a, b in zip(now, self.seen.last, strict=True))
        return dict(zip(("share_moves", "sum_moves"), moved, strict=True))


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A dense run in which every site is measured; `rows` gives what was."""

    window: Mask
    seen: dict[str, Seen] = field(default_factory=dict, hash=False, compare=False)
    name: str = "probe"
    timed: bool = True

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        seen = self.seen.setdefault(site.name, Seen())
        return (self.window, Look(window=self.window, step=clock.step, seen=seen))

    def rows(self) -> list[Row]:
        """A row for each site and step."""
        return [{"site": name} | row for name, seen in self.seen.items() for row in seen.rows]


def off(out: Float[Tensor, "b h n d"], wanted: Float[Tensor, "b h n d"]) -> Float[Tensor, ""]:
    """Squared error over the wanted output's square."""
    return (out - wanted).square().sum() / wanted.square().sum()
