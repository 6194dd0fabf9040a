"""A comparison as plain values for JSON: all that was measured but the pictures, and the summary of each arm."""

from dataclasses import asdict, fields, is_dataclass
from math import isfinite
from typing import Any

from saccade.compare.comparison import ArmResult, Comparison, Drawn
from saccade.compare.summary import differences, summarise

SCHEMA = 1


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Nested dicts, lists, numbers and text; what is not finite is None, and equal pictures are marked `same`."""
    plain = {f.name: getattr(comparison, f.name) for f in fields(comparison) if f.name != "arms"}
    arms = [
        {**_arm(arm), "summary": asdict(figures)}
        for arm, figures in zip(comparison.arms, summarise(comparison), strict=True)
    ]
    gaps = [{"arm": a, "minus": b, "psnr": asdict(gap)} for (a, b), gap in differences(comparison).items()]
    return clean({"schema": SCHEMA, **plain, "arms": arms, "paired_differences": gaps})


def _arm(arm: ArmResult) -> dict[str, Any]:
    kept = {f.name: getattr(arm, f.name) for f in fields(arm) if f.name != "drawn"}
    return {**kept, "density": arm.density, "pictures": [_drawn(drawn) for drawn in arm.drawn]}


def _drawn(drawn: Drawn) -> dict[str, Any]:
    scores = {} if drawn.fidelity is None else {**asdict(drawn.fidelity), "same": drawn.fidelity.same}
    verdict = {} if drawn.verdict is None else {"verdict": dict(drawn.verdict)}
    return {"prompt": drawn.prompt, "seed": drawn.seed, **scores, **verdict}


def clean(value: Any) -> Any:
    """Plain values for JSON; what is not finite is None."""
    if is_dataclass(value) and not isinstance(value, type):
        return clean(asdict(value))
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
