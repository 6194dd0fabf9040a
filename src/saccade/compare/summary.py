"""What a comparison says in figures: one `Summary` per arm, each against the reference of the same run."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan

import numpy as np

from saccade.compare.comparison import ArmResult, Comparison
from saccade.metrics.intervals import Interval, paired_difference, paired_ratio, share, t_interval


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds: median and quartiles over visits; `speedup` is the reference's time over this one, pair by pair."""

    median: float
    low: float
    high: float
    speedup: Interval


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One arm.

    efficiency   speedup of attention x density: 1 where every pair left out saved its share of the time
    psnr         dB, over the pictures that differ; `same` counts those equal in every bit
    accuracy     share of pictures that keep every promise of their prompt
    change       accuracy minus the reference's, picture by picture
    """

    label: str
    role: str
    density: float
    total: Timing
    attention: Timing | None
    efficiency: Interval | None
    psnr: Interval | None
    ssim: Interval | None
    lpips: Interval | None
    same: int
    pictures: int
    accuracy: Interval | None
    change: Interval | None
    kept: dict[str, float]
    peak_bytes: int | None


def summarise(comparison: Comparison) -> tuple[Summary, ...]:
    """A summary per arm, in order."""
    return tuple(summary(arm, comparison.reference) for arm in comparison.arms)


def summary(arm: ArmResult, reference: ArmResult) -> Summary:
    """The figures of one arm against the reference."""
    scores = [drawn.fidelity for drawn in arm.drawn if drawn.fidelity is not None]
    attention = timing(arm.attention, reference.attention) if arm.attention and reference.attention else None
    verdicts, before = _whole(arm), _whole(reference)
    return Summary(
        label=arm.label,
        role=arm.role,
        density=arm.density,
        total=timing(arm.seconds, reference.seconds),
        attention=attention,
        efficiency=None if attention is None or isnan(arm.density) else _scaled(attention.speedup, arm.density),
        psnr=_mean([s.psnr for s in scores]),
        ssim=_mean([s.ssim for s in scores]),
        lpips=_mean([s.lpips for s in scores if s.lpips is not None]),
        same=sum(s.same for s in scores),
        pictures=len(arm.drawn),
        accuracy=share([bool(v) for v in verdicts]) if verdicts else None,
        change=paired_difference(verdicts, before) if verdicts and arm is not reference else None,
        kept=_kept(arm),
        peak_bytes=arm.peak_bytes,
    )


def timing(seconds: Sequence[float], reference: Sequence[float]) -> Timing:
    """Median, quartiles and paired speedup of one arm's visits."""
    low, median, high = (float(x) for x in np.quantile(seconds, (0.25, 0.5, 0.75)))
    return Timing(median=median, low=low, high=high, speedup=paired_ratio(reference, seconds))


def differences(comparison: Comparison) -> dict[tuple[str, str], Interval]:
    """PSNR of one arm minus another's, picture by picture, for every pair of arms that differ from the reference."""
    scores = {
        arm.label: [drawn.fidelity.psnr for drawn in arm.drawn if drawn.fidelity is not None]
        for arm in comparison.arms
        if arm.role == "system"
    }
    pairs = [(a, b) for a in scores for b in scores if a != b and _comparable(scores[a], scores[b])]
    return {(a, b): paired_difference(scores[a], scores[b]) for a, b in pairs}


def _comparable(a: Sequence[float], b: Sequence[float]) -> bool:
    return any(isfinite(x) and isfinite(y) for x, y in zip(a, b, strict=True))


def _mean(values: Sequence[float]) -> Interval | None:
    return t_interval(values) if any(isfinite(v) for v in values) else None


def _scaled(x: Interval, by: float) -> Interval:
    return Interval(low=x.low * by, mid=x.mid * by, high=x.high * by, n=x.n)


def _whole(arm: ArmResult) -> list[float]:
    """1 for each judged picture that keeps every promise, 0 for the others."""
    return [drawn.verdict["all"] for drawn in arm.drawn if drawn.verdict is not None]


def _kept(arm: ArmResult) -> dict[str, float]:
    """Mean share kept by kind of promise, over the pictures whose prompt makes it."""
    verdicts = [drawn.verdict for drawn in arm.drawn if drawn.verdict is not None]
    kinds = verdicts[0] if verdicts else {}
    columns = {kind: [v[kind] for v in verdicts if not isnan(v[kind])] for kind in kinds}
    return {kind: float(np.mean(values)) if values else nan for kind, values in columns.items()}
