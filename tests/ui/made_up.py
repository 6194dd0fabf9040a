"""A comparison made by hand, so that its views can be tested without a model."""

import numpy as np

from saccade.compare.comparison import ArmResult, Comparison, Drawn, Role, SiteUse
from saccade.metrics import fidelity

PROMPTS = ("a red circle left of a <b>blue</b> square", "a large green star at the top & a small cyan cross")
SITES = ("transformer_blocks.0.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn")


def comparison(systems: int = 4, side: int = 64, frames: int = 1) -> Comparison:
    """Floor, dense and `systems` arms; noise grows and density falls from arm to arm."""
    rng = np.random.default_rng(0)
    clean = {(p, s): rng.random((frames, side, side, 3), dtype=np.float32) for p in (0, 1) for s in (0, 1)}
    names = ["dense (reference kernel)", "dense", *(f"clear(radius={8 - i})" for i in range(systems))]
    arms = [_arm(name, i, clean, rng) for i, name in enumerate(names)]
    return Comparison(
        model="scenes-flux",
        device="Some CPU, 2 threads",
        started="2026-01-02T03:04:05+00:00",
        prompts=PROMPTS,
        seeds=(0, 1),
        arms=tuple(arms),
        settings={"steps": 20, "height": side, "width": side, "batch": 2, "options": {}},
        versions={"python": "3.11", "saccade": "0.1.0", "torch": "2.13.0"},
        remarks=("LPIPS is left out: no weights",),
    )


def _arm(name: str, i: int, clean: dict[tuple[int, int], np.ndarray], rng: np.random.Generator) -> ArmResult:
    role: Role = ("floor", "reference")[i] if i < 2 else "system"
    density, fell_back = (1.0, 0.6, 0.45, 0.3, 0.2)[max(0, min(i - 1, 4))], i == 3
    seconds = tuple(float(1.1 - 0.1 * i + 0.05 * x) for x in rng.random(5))
    sites = tuple(
        SiteUse(
            name=site,
            kind="joint",
            systems=(name,) if i != 1 else (),
            density=min(1, density * (1 + 0.1 * j)),
            kernel="sdpa" if fell_back or i < 2 else "gather",
            calls=20,
            forwards=20,
            seconds=0.1,
            reasons=("flex: no C++ compiler",) if fell_back else (),
        )
        for j, site in enumerate(SITES)
    )
    drawn = tuple(_drawn(place, picture, i, rng) for place, picture in clean.items())
    attention = tuple(s * 0.4 for s in seconds)
    return ArmResult(label=name, role=role, stack=(name,) if i != 1 else (), seconds=seconds, attention=attention,
               peak_bytes=600_000_000 + i, sites=sites, drawn=drawn)  # fmt: skip


def _drawn(place: tuple[int, int], clean: np.ndarray, i: int, rng: np.random.Generator) -> Drawn:
    spread = (1e-6, 0, *(0.01 * 2**k for k in range(8)))[i]
    picture = (clean + rng.normal(0, spread, clean.shape)).astype(np.float32) if spread else clean
    whole = float(i < 4 or place[0] == 0)
    verdict = {"colour": 1.0, "shape": 0.5 + whole / 2, "relation": float("nan"), "count": 1.0, "all": whole}
    return Drawn(
        prompt=place[0],
        seed=place[1],
        picture=picture,
        fidelity=None if i == 1 else fidelity(picture, clean),
        verdict=verdict,
    )
