"""Claims on E-MMDiT's parts, and the tables of its page: intervals over pictures or rounds, of one training each."""

from collections.abc import Callable

from saccade.experiments import Claim, Figures, Results, margin
from saccade.metrics.intervals import Interval, affine, bootstrap, paired_ratio, share
from saccade.ui.markdown import markdown_table

PARTS = ("full", "+ compression", "+ subregions", "+ positions")
MODULATIONS = {
    "+ positions": "AdaLN-affine",
    "the same, adaLN-single": "adaLN-single",
    "the same, a linear layer per block": "a linear layer per block",
}
FASTER = 1.5  # what compression is expected to reach at least
LITTLE = 0.05  # share of a loss by which another may differ


def score(results: Results, name: str, arm: str, against: str = "") -> Interval:
    """Mean over held-out pictures, or how much it lies above another arm's."""
    (row,) = results.rows("held_out", arm=arm, score=name, against=against)
    return Interval(**{field: row[field] for field in ("low", "mid", "high", "n")})


def faster(results: Results, arm: str) -> Interval:
    """How many times as fast as the full model a step is."""
    full, own = (results.values("steps.seconds", arm=each) for each in ("full", arm))
    return paired_ratio(full, own)


def changed(text: str, arm: str, base: str, more: Callable[[Results], str] = lambda results: "") -> Claim:
    """The loss of an arm is, but for a little, that of another."""

    def measure(results: Results) -> Interval:
        return margin(score(results, "loss", arm, base), LITTLE * score(results, "loss", base).mid)

    def evidence(results: Results) -> str:
        return f"by {score(results, 'loss', arm, base)} of {score(results, 'loss', base).mid:.3g}{more(results)}"

    return Claim(text=text, measure=measure, evidence=evidence)


def pairs_left(results: Results) -> str:
    """What subregions leave of the pairs."""
    (own,), (before,) = (results.values("runs.pairs", arm=arm) for arm in ("+ subregions", "+ compression"))
    return f", with {own / before:.2f} of the pairs"


CLAIMS = (
    Claim(
        text=f"compression makes a step more than {FASTER} times as fast",
        measure=lambda results: affine(faster(results, "+ compression"), offset=-FASTER),
        evidence=lambda results: str(faster(results, "+ compression")),
    ),
    changed("it costs little loss", "+ compression", "full"),
    changed("subregions cost little loss", "+ subregions", "+ compression", pairs_left),
    Claim(
        text="positions added again improve the overlap",
        measure=lambda results: score(results, "overlap", "+ positions", "+ subregions"),
        evidence=lambda results: f"by {score(results, 'overlap', '+ positions', '+ subregions')}",
    ),
    changed("adaLN-single differs little from AdaLN-affine", "the same, adaLN-single", "+ positions"),
    changed(
        "a linear layer per block differs little from AdaLN-affine", "the same, a linear layer per block", "+ positions"
    ),
)


def little(results: Results, figures: Figures) -> str:
    """What the claims mean by it."""
    return f"Little: {LITTLE:.0%} of the loss compared with."


def parts_table(results: Results, figures: Figures) -> str:
    """A line for each part that is added, and how all were trained."""
    heads = ["", "weights", "pairs a head", "step, ms", "faster", "loss", "more than full", "overlap", "place kept"]
    settings = results.settings
    text = (
        f"{settings['steps']} steps, width {settings['width']}, {sum(settings['groups'])} blocks, "
        f"batch {settings['batch']}; {settings['pictures']} held-out pictures, {settings['samples']} sampled ones; "
        f"{results.seconds.get('training', 0) / 60:.0f} minutes in all."
    )
    return f"{markdown_table(heads, (_part(results, arm) for arm in PARTS))}\n\n{text}"


def _part(results: Results, arm: str) -> list[object]:
    (row,), samples = results.rows("runs", arm=arm), results.settings["samples"]
    others = arm != PARTS[0]
    return [
        arm, f"{row['parameters']:,}", f"{row['pairs']:,}",
        affine(bootstrap(results.values("steps.seconds", arm=arm)), 1000), faster(results, arm) if others else "",
        score(results, "loss", arm), score(results, "loss", arm, PARTS[0]) if others else "",
        score(results, "overlap", arm), share([number < row["place_kept"] for number in range(samples)]),
    ]  # fmt: skip


def modulation_table(results: Results, figures: Figures) -> str:
    """A line for each way to make the modulation."""
    heads = ["", "weights a block and stream", "loss", "more than AdaLN-affine"]
    return markdown_table(heads, (_modulation(results, arm) for arm in MODULATIONS))


def _modulation(results: Results, arm: str) -> list[object]:
    (row,), (base, *_) = results.rows("runs", arm=arm), MODULATIONS
    more = "" if arm == base else score(results, "loss", arm, base)
    return [MODULATIONS[arm], f"{row['modulation']:,}", score(results, "loss", arm), more]
