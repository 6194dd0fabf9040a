"""AdaSpa's page: its tables and lines, and what is claimed of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saccade.experiments import Claim, Figures, Lines, Note, Results, Verdicts
from saccade.experiments.claims import Measure, margin
from saccade.metrics.intervals import Interval, t_interval
from saccade.ui.markdown import markdown_table

STAYS = 0.05  # of recall, within which a mask counts as good as when it was found
AGREES = 0.95  # of the blocks
NEGLIGIBLE = 0.5  # dB


def against_another_prompt(results: Results) -> Interval:
    """How much more a prompt's own mask holds in later steps."""
    return t_interval([row["own_later"] - row["other_later"] for row in results.rows("prompts")])


def stays(results: Results) -> Interval:
    """How far its change of recall is within what counts as none."""
    return margin(t_interval([row["own_later"] - row["own"] for row in results.rows("prompts")]), STAYS)


def closer(arm: str, *, than: str) -> Measure:
    """By how many dB the pictures of an arm are closer to dense ones, at the usual sparsity on the small grid."""
    return lambda results: t_interval(_differences(results, arm, than, {results.settings["sparsity"]: 1}))


def slower(arm: str, *, than: str) -> Measure:
    """How many dB less an arm loses from the least sparsity to the most."""

    def measure(results: Results) -> Interval:
        first, *_, last = results.settings["small"]["sparsities"]
        return t_interval(_differences(results, arm, than, {last: 1, first: -1}))

    return measure


def agrees(results: Results) -> Interval:
    """How much more of the blocks than `AGREES` both masks have in common."""
    return t_interval([row["agreement"] - AGREES for row in results.rows("refreshes")])


def same_fidelity(results: Results) -> Interval:
    """How far the change of PSNR by a fresh lse is within what is negligible."""
    return margin(t_interval([row["psnr_fresh"] - row["psnr_cached"] for row in results.rows("refreshes")]), NEGLIGIBLE)


def _differences(results: Results, arm: str, than: str, signs: Mapping[float, int]) -> list[float]:
    """PSNR of one arm less that of another, by caption, summed over sparsities with their signs."""
    grid = results.settings["small"]["grid"]
    terms = [
        (sign * side, results.by("samples.psnr", "caption", arm=name, grid=grid, sparsity=sparsity))
        for sparsity, sign in signs.items()
        for name, side in ((arm, 1), (than, -1))
    ]
    shared = set.intersection(*({*values} for _, values in terms))  # a picture equal to the dense one has no PSNR
    return [sum(sign * values[caption] for sign, values in terms) for caption in sorted(shared)]


CLAIMS = (
    Claim(text="a mask holds more of later attention than another prompt's does (recall)",
          measure=against_another_prompt),
    Claim(text=f"its recall over later steps is within {STAYS} of that when it was found", measure=stays),
    Claim(text="AdaSpa's pictures are closer to dense ones than with one sparsity for all heads (dB)",
          measure=closer("AdaSpa", than="one sparsity"), digits=2),
    Claim(text="blocks found by mass are closer to dense than a band about the diagonal (dB)",
          measure=closer("one sparsity", than="band"), digits=2),
    Claim(text="a band is closer to dense than random blocks (dB)", measure=closer("band", than="random"), digits=2),
    Claim(text="AdaSpa loses less from the least sparsity to the most than one sparsity for all heads (dB)",
          measure=slower("AdaSpa", than="one sparsity"), digits=2),
    Claim(text="AdaSpa loses less from the least sparsity to the most than a band (dB)",
          measure=slower("AdaSpa", than="band"), digits=2),
    Claim(text=f"masks by the kept lse and by a fresh one agree on more than {AGREES:.0%} of the blocks",
          measure=agrees),
    Claim(text=f"a fresh lse changes fidelity by less than {NEGLIGIBLE} dB", measure=same_fidelity, digits=2),
)  # fmt: skip


def recall_table(results: Results, figures: Figures) -> str:
    """Means over captions: of all heads, and of the lowest head."""
    search = results.rows("prompts")[0]["search"]
    steps = {"when found": search, "next step": search + 1, "last step": max(results.distinct("recalls.step"))}
    rows = [
        [arm, *(f"{results.rows('recalls', arm=arm, step=step)[0][name]:.3f}"
                for step in steps.values() for name in ("recall", "lowest"))]
        for arm in results.distinct("recalls.arm")
    ]  # fmt: skip
    return markdown_table(["mask", *(f"{at}{of}" for at in steps for of in ("", ", lowest head"))], rows)


@dataclass(frozen=True)
class Pictures:
    """A line for each arm and sparsity on one of the grids: means over captions with their 95 % intervals."""

    size: str

    def __call__(self, results: Results, figures: Figures) -> str:
        about, rows = results.settings[self.size], []
        for sparsity in (0.0, *about["sparsities"]):
            for arm in results.distinct("samples.arm", grid=about["grid"], sparsity=sparsity):
                found = results.rows("samples", grid=about["grid"], arm=arm, sparsity=sparsity)
                psnr = [row["psnr"] for row in found if row["psnr"] is not None]
                rows.append(
                    [arm, f"{sparsity:g}" if sparsity else "", f"{found[0]['pairs']:.3f}", _interval(psnr),
                     f"{_mean([row['ssim'] for row in found]):.3f}", f"{_mean([row['kept'] for row in found]):.2f}"]
                )  # fmt: skip
        head = ["attention", "sparsity", "pairs", "PSNR to dense, dB", "SSIM", "captions kept"]
        text = (
            f"{about['grid']} x {about['grid']} image tokens in blocks of {about['block']}, {about['captions']} "
            f"held-out captions of one object, {results.settings['steps']} steps, the same noise for all; pairs are "
            "those of the whole run, its dense steps included; captions are judged by the scene parser."
        )
        return f"{text}\n\n{markdown_table(head, rows)}"


def refresh_table(results: Results, figures: Figures) -> str:
    """Agreement, and PSNR to dense by the lse that the refresh had; means over captions."""
    rows = results.rows("refreshes")
    head = ["blocks on which both masks agree", "kept by both", "kept lse, dB", "fresh lse, dB", "dense refresh, dB"]
    cells = [f"{_mean([row[name] for row in rows]):.3f}" for name in ("agreement", "common")]
    cells += [_interval([row[f"psnr_{name}"] for row in rows]) for name in ("cached", "fresh", "dense")]
    return markdown_table(head, [cells])


def _interval(values: Sequence[float]) -> str:
    if not values:
        return "same"
    found = t_interval(values)
    return f"{found.mid:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


SECTIONS = {
    "recalls": (
        Lines(source="recalls.recall", x="step", about="Recall by step", name="recall", label="recall"),
        recall_table,
        Note("Model `{model}`, {steps} steps, sparsity {sparsity}, one for all heads."),
    ),
    "samples": (
        Lines(
            source="samples.psnr",
            x="sparsity",
            about="PSNR by sparsity",
            name="psnr",
            panels="grid",
            label="PSNR to dense, dB",
        ),
        Pictures("small"),
        Pictures("large"),
    ),
    "refreshes": (refresh_table,),
    "claims": (Verdicts(CLAIMS, differences=True),),
}
