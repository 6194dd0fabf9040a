"""HeadHunter's page: its tables and pictures, and what is claimed of it."""

from statistics import fmean, pstdev

from saccade.experiments import Claim, Figures, Results, Verdicts
from saccade.experiments.claims import Measure
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.headhunter.plots import plot_heads
from saccade.runs.head_search import Head, HeadSearch
from saccade.ui.markdown import markdown_table, signed

DENSE, FOUND, CFG = "no guidance", "heads found", "classifier-free guidance"


def kept_more(table: str, arm: str, column: str = "kept") -> Measure:
    """A measure: by how much an arm keeps more captions than no guidance, caption by caption."""
    return lambda found: gain(found, table, arm, column)


def gain(found: Results, table: str, arm: str, column: str = "kept") -> Interval:
    """The paired difference to no guidance."""
    ours, plain = (found.by(f"{table}.{column}", "caption", arm=name) for name in (arm, DENSE))
    return t_interval([ours[caption] - plain[caption] for caption in ours])


def spread(found: Results) -> Interval:
    """Deviation of the scores of heads within a layer less that of layers' means, caption by caption."""
    apart: list[float] = []
    for caption in found.distinct("heads.caption"):
        rows = [row for row in found.rows("heads", caption=caption) if row["layer"] is not None]
        layers = [
            [row["score"] for row in rows if row["layer"] == layer] for layer in sorted({r["layer"] for r in rows})
        ]
        apart.append(fmean(map(pstdev, layers)) - pstdev(map(fmean, layers)))
    return t_interval(apart)


def heads_over_layers(found: Results) -> Interval:
    """The best arm of heads less the best whole layer, at one strength, on the captions of the search."""
    said = found.settings
    alike = f"{said['kind']}, {said['scope']}, w {said['weights'][0]:g}"
    arms = [arm for arm in found.distinct("strengths.arm") if arm.endswith(alike)]
    best = {
        kind: max((a for a in arms if a.startswith(kind)), key=lambda a: fmean(found.values("strengths.score", arm=a)))
        for kind in ("best", "layer")
    }
    heads, layer = (found.by("strengths.score", "caption", arm=best[kind]) for kind in ("best", "layer"))
    return t_interval([heads[caption] - layer[caption] for caption in heads])


def in_rounds(found: Results) -> Interval:
    """Brightness of the heads found in rounds less that of those found at once."""
    step, once = (found.by("rounds.score", "caption", arm=arm) for arm in ("in rounds", "at once"))
    return t_interval([step[caption] - once[caption] for caption in step])


CLAIMS = (
    Claim(text="heads of one layer differ more in the objective than layers do", measure=spread),
    Claim(text="a few heads do better than the best whole layer", measure=heads_over_layers),
    Claim(text="heads found in rounds make brighter pictures than as many found at once", measure=in_rounds),
    Claim(text="steering away keeps more unseen captions than no guidance", measure=kept_more("held", FOUND)),
    Claim(text="the same on larger pictures", measure=kept_more("large", FOUND)),
    Claim(text="classifier-free guidance keeps more than no guidance", measure=kept_more("held", CFG)),
)


def plot_search(results: Results, figures: Figures) -> str:
    """The objective of every head, against none."""
    rows = results.rows("heads")
    plain = fmean(row["score"] for row in rows if row["layer"] is None)
    scores: dict[Head, list[float]] = {}
    for row in rows:
        if row["layer"] is not None:
            scores.setdefault((row["layer"], row["head"]), []).append(row["score"])
    means = {head: fmean(values) for head, values in scores.items()}
    best = tuple(sorted(means, key=lambda head: -means[head]))[: max(results.settings["sizes"])]
    found = HeadSearch(chosen=best, scores=(means,), values=({head: tuple(x) for head, x in scores.items()},))
    return figures.save("heads", plot_heads(found, baseline=plain), "The objective of every head, against no guidance")


def strengths_table(results: Results, figures: Figures) -> str:
    """A line for each arm tried on the captions of the search."""
    plain = {row["caption"]: row["score"] for row in results.rows("heads", layer=None)}
    lines = []
    for arm in results.distinct("strengths.arm"):
        scores = results.by("strengths.score", "caption", arm=arm)
        heads = results.rows("strengths", arm=arm)[0]["heads"]
        named = ", ".join(f"({layer}, {head})" for layer, head in heads) or "all"
        apart = signed(t_interval([scores[i] - plain[i] for i in scores]), 3)
        lines.append([arm, named, f"{fmean(scores.values()):.3f}", apart])
    return markdown_table(["weakened", "heads", "objective", "against no guidance"], lines)


def held_table(results: Results, figures: Figures) -> str:
    """A line for each size and arm, on captions the search has not seen."""
    said, lines = results.settings, []
    for table, side in (("held", said["side"]), ("large", said["large"])):
        for arm in results.distinct(f"{table}.arm"):
            kept = results.values(f"{table}.kept", arm=arm)
            apart = ["", ""] if arm == DENSE else [signed(gain(results, table, arm, c), 3) for c in ("kept", "score")]
            lines.append([side, arm, len(kept), f"{fmean(kept):.3f}", *apart])
    return markdown_table(["pixels", "arm", "captions", "kept", "kept, paired", "objective, paired"], lines)


def rounds_table(results: Results, figures: Figures) -> str:
    """Brightness."""
    lines = []
    for arm in results.distinct("rounds.arm"):
        heads = ", ".join(f"({layer}, {head})" for layer, head in results.rows("rounds", arm=arm)[0]["heads"])
        lines.append([arm, heads or "none", f"{fmean(results.values('rounds.score', arm=arm)):.4f}"])
    return markdown_table(["found", "heads", "mean brightness"], lines)


SECTIONS = {
    "heads": (plot_search,),
    "strengths": (strengths_table,),
    "held": (held_table,),
    "rounds": (rounds_table,),
    "claims": (Verdicts(CLAIMS, differences=True),),
}
