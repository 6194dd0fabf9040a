"""Arms run side by side, as one value: what was measured, per picture, per run and per site.

Table, report and JSON are views of it; nothing is measured twice and nothing derived is stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from saccade.metrics.fidelity import Fidelity, Picture
from saccade.run.report import mean_density

Role = Literal["floor", "reference", "system"]


@dataclass(frozen=True, kw_only=True)
class SiteUse:
    """What ran at one attention site over a run, and why not otherwise.

    forwards  of its model, with or without a plan
    density   share of query-key pairs computed over these forwards, in [0, 1]; None where it is decided inside the call
              by a system that does not say
    reasons   kernels that refused, or why the site was left alone
    """

    name: str
    kind: str
    systems: tuple[str, ...] = ()
    forwards: int = 0
    density: float | None = 1.0
    kernel: str = ""
    calls: int = 0
    seconds: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One picture: `prompt` and `seed` number its place; `fidelity` to the reference's, None for the reference itself.

    `verdict` maps a kind of promise of the prompt to the share kept, nan where it makes none; None if not judged.
    """

    prompt: int
    seed: int
    picture: Picture = field(repr=False)
    fidelity: Fidelity | None = None
    verdict: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmResult:
    """One stack of systems. `seconds[i]` and `attention[i]` of all arms come from visit i: same prompts, same seeds."""

    label: str
    role: Role
    stack: tuple[str, ...]
    seconds: tuple[float, ...]
    attention: tuple[float, ...] = ()
    peak_bytes: int | None = None
    sites: tuple[SiteUse, ...] = ()
    drawn: tuple[Drawn, ...] = field(default=(), repr=False)

    @property
    def density(self) -> float:
        """Mean share of pairs computed over the forwards of all sites; nan where a site's is not known."""
        return mean_density((site.forwards, site.density) for site in self.sites)


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """All arms of one run, with what they share. The floor comes first, then the reference, then the systems."""

    model: str
    device: str
    started: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    arms: tuple[ArmResult, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def reference(self) -> ArmResult:
        """The dense arm that all others are measured against."""
        return next(arm for arm in self.arms if arm.role == "reference")

    def arm(self, label: str) -> ArmResult:
        """One arm by its label.

        Raises ValueError for a label that no arm has.
        """
        for arm in self.arms:
            if arm.label == label:
                return arm
        raise ValueError(f"label='{label}' names no arm; there are {', '.join(arm.label for arm in self.arms)}")
