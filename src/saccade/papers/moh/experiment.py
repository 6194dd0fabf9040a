"""Mixtures of heads on a small DiT: against all heads, fewer heads and random heads; conversion; load balancing.

Labelled scenes of 16 x 16 pixels, the label their colour; the bundled shakespeare-lm on tiny Shakespeare.
Expected: four of six heads picked by token nearly as good as six, better than the same four for all, better than random
ones; a trained model loses by conversion and gets over 95 % of it back in a tenth of its steps; without the
load-balancing loss some heads take most tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

from saccade.experiments import (
    ArmTable,
    Bench,
    Claim,
    Column,
    Experiment,
    Figures,
    Note,
    Results,
    Row,
    Verdicts,
    above,
    higher,
)  # fmt: skip
from saccade.metrics.intervals import Interval, paired_difference, t_interval
from saccade.models.sizing import parameters
from saccade.papers.moh import trained_arms
from saccade.papers.moh.head_usage import head_usage
from saccade.papers.moh.model import to_mixture_of_heads
from saccade.papers.moh.trained_arms import Trainer
from saccade.papers.moh.tuned_language import LanguageTuning
from saccade.ui.markdown import markdown_table, signed

SIX, FOUR, MOH, RANDOM = "six heads", "four heads", "two shared, two routed", "two shared, two random"
FREE = "two shared, two routed, no balance"
ARMS = {
    SIX: "attention",
    FOUR: "attention(heads=4, head_dim=12)",
    MOH: "moh(shared=2, routed=2, balance=0.0025)",
    RANDOM: "random_heads(shared=2, routed=2, balance=0.0)",
    FREE: "moh(shared=2, routed=2, balance=0.0)",
}
CONVERSIONS = {"five of six": (3, 2), "four of six": (2, 2)}  # shared, routed by norm
EIGHT, FEWER = "eight heads", "six of eight"
BACK = 0.95


@dataclass(frozen=True, kw_only=True)
class Settings(trained_arms.Settings):
    """Of the trainings on scenes, and of the language model's tuning."""

    language: LanguageTuning = field(default_factory=LanguageTuning)


def further_than_chance(text: str, column: str) -> Claim:
    """Use of heads lies further apart than between random groups of pictures."""

    def measure(found: Results) -> Interval:
        ours, chance = (found.by(name, arm=MOH) for name in (column, "usage.apart_by_chance"))
        return t_interval([ours[seed] - chance[seed] for seed in ours])

    return Claim(text=text, measure=measure)


def conversion_claims(arm: str) -> tuple[Claim, ...]:
    """Of one conversion."""
    ratio = f"{arm}, tuned: over {BACK:.0%} of the quality of six, as a ratio of losses"
    return (
        higher(f"{arm}: conversion raises the loss", "conversion.untuned", arm, than=SIX),
        above(f"{arm}: tuning brings over {BACK:.0%} of the difference back", "conversion.regained", BACK, arm=arm),
        above(ratio, "conversion.quality", BACK, arm=arm),
    )


def raised(found: Results, stage: str) -> Interval:
    """How much higher the bound of fewer heads is, text by text."""
    fewer, eight = (list(found.by(f"language.{stage}", "text", arm=arm).values()) for arm in (FEWER, EIGHT))
    return paired_difference(fewer, eight)


def quality_kept(found: Results) -> Interval:
    """Of the bounds after tuning, text by text, above what is claimed."""
    fewer, eight = (found.by("language.tuned", "text", arm=arm) for arm in (FEWER, EIGHT))
    return t_interval([eight[text] / fewer[text] - BACK for text in eight])


ARM_CLAIMS = (
    higher("picked heads do better than all six", "arms.loss", SIX, than=MOH),
    higher("picked heads do better than four for all", "arms.loss", FOUR, than=MOH),
    higher("picked heads do better than random ones", "arms.loss", RANDOM, than=MOH),
)
USAGE_CLAIMS = (
    further_than_chance("heads are used differently at different times", "usage.apart_by_time"),
    further_than_chance("heads are used differently for different colours", "usage.apart_by_colour"),
    higher("without load balancing one head takes a larger share", "usage.largest_share", FREE, than=MOH),
    higher("without load balancing the denoising loss is lower", "arms.loss", MOH, than=FREE),
)
CONVERSION_CLAIMS = tuple(claim for arm in CONVERSIONS for claim in conversion_claims(arm))
LANGUAGE_CLAIMS = (
    Claim(text="conversion raises the bound", measure=lambda found: raised(found, "untuned")),
    Claim(text=f"tuned: over {BACK:.0%} of the quality of eight, as a ratio of bounds", measure=quality_kept),
)
ARM_COLUMNS = (
    Column(source="arms.parameters", title="parameters", show=",d", first=True),
    Column(source="arms.loss", title="loss"),
    Column(source="arms.loss", title=f"above {SIX}", against=SIX),
    Column(source="arms.accuracy", title="right colour", show=".0%"),
)
CONVERSION_COLUMNS = (
    Column(source="conversion.untuned", title="loss, untuned"),
    Column(source="conversion.tuned", title="tuned"),
    Column(
        source="conversion.regained", title="share of the difference that came back", show=".2f", interval=True
    ),
)  # fmt: skip
SETTING = (
    "DiT of depth {depth}, width {width}, side {side}, {steps} steps of {batch} pictures; "
    "{pictures} held-out pictures, {samples} samples."
)


def usage_table(results: Results, figures: Figures) -> str:
    """Entropies by time and by colour, and how far usage lies apart."""
    heads = ["heads", "entropy", "by time", "by colour", "largest share", "apart by time", "by colour", "by chance"]
    apart = ("usage.apart_by_time", "usage.apart_by_colour", "usage.apart_by_chance")
    lines = [
        [
            arm, f"{fmean(results.values('usage.entropy', arm=arm)):.3f}",
            *(spread(results, arm, f"entropy_by_{what}") for what in ("time", "colour")),
            f"{fmean(results.values('usage.largest_share', arm=arm)):.2f}",
            *(f"{fmean(results.values(column, arm=arm)):.3f}" for column in apart),
        ]
        for arm in results.distinct("usage.arm")
    ]  # fmt: skip
    return markdown_table(heads, lines)


def spread(results: Results, arm: str, column: str) -> str:
    """Lowest and highest of the means over seeds."""
    rows = [row[column] for row in results.rows("usage", arm=arm)]
    means = [fmean(values) for values in zip(*rows, strict=True)]
    return f"{min(means):.3f} to {max(means):.3f}"


def language_table(results: Results, figures: Figures) -> str:
    """Bounds, and how far they lie apart."""
    stages = ("untuned", "tuned")
    lines = [
        [arm, *(f"{fmean(results.values(f'language.{stage}', arm=arm)):.3f}" for stage in stages)]
        for arm in (EIGHT, FEWER)
    ]
    lines.append(["apart", *(signed(raised(results, stage), 3) for stage in stages)])
    return markdown_table(["heads", *stages], lines)


def came_back(results: Results, figures: Figures) -> str:
    """Of the bound that the conversion cost, by the tuning."""
    untuned, tuned = (raised(results, stage).mid for stage in ("untuned", "tuned"))
    s = results.settings["language"]
    setting = f"{s['texts']} texts of {s['characters']} characters, source {s['corpus']}"
    return f"Of what the conversion lost {1 - tuned / untuned:.0%} came back in {s['steps']} steps. {setting}."


EXPERIMENT = Experiment(
    name="moh",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), steps=8, tuned=2, batch=4, depth=1, width=24, pictures=32, samples=7, sampling_steps=2,
        judge_steps=2, scenes=256, language=LanguageTuning(corpus="captions", steps=1, characters=16, texts=3),
    ),
    hours=0.15,
    sections={
        "arms": (
            ArmTable(columns=ARM_COLUMNS, of="arms.arm", title="heads"), Verdicts(ARM_CLAIMS, True), Note(SETTING),
        ),
        "usage": (usage_table, Verdicts(USAGE_CLAIMS, True)),
        "conversion": (
            ArmTable(columns=CONVERSION_COLUMNS, of="conversion.arm", title="heads"), Verdicts(CONVERSION_CLAIMS, True),
        ),
        "language": (language_table, Verdicts(LANGUAGE_CLAIMS, True), came_back),
    },
    claims=ARM_CLAIMS + USAGE_CLAIMS + CONVERSION_CLAIMS + LANGUAGE_CLAIMS,
)  # fmt: skip


@EXPERIMENT.part(per_seed=True, tables=True)
def scenes(bench: Bench[Settings]) -> Iterable[Row]:
    """Every arm from scratch; then the one of six heads converted, and tuned on."""
    trainer = Trainer(settings=bench.settings, work=bench.work, seed=bench.seed)
    x, labels = trainer.source.held_out(bench.settings.pictures // 4)
    for number, (arm, mixer) in enumerate(ARMS.items()):
        bench.progress(number, len(ARMS) + 1, arm)
        model = trainer.from_scratch(arm, mixer)
        scores = {"loss": trainer.loss(model), "accuracy": trainer.accuracy(model)}
        yield {"table": "arms", "arm": arm, "parameters": parameters(model)} | scores
        if arm in (MOH, FREE):
            yield {"table": "usage", "arm": arm} | head_usage(model, x, labels)
    bench.progress(len(ARMS), len(ARMS) + 1, "conversion")
    yield from conversion(trainer)


def conversion(trainer: Trainer) -> Iterable[Row]:
    """Losses untuned and tuned; of the difference to six heads, tuned too, the share that came back."""
    six = trainer.from_scratch(SIX, ARMS[SIX])
    converted = {
        arm: to_mixture_of_heads(six, shared=shared, routed=routed, routing="norm", balance=0.0)
        for arm, (shared, routed) in CONVERSIONS.items()
    }
    untuned = trainer.loss(six)
    goal = trainer.loss(trainer.tuned(six, SIX))
    yield {"table": "conversion", "arm": SIX, "untuned": untuned, "tuned": goal}
    for arm, model in converted.items():
        untuned = trainer.loss(model)
        tuned = trainer.loss(trainer.tuned(model, arm))
        shares = {"regained": (untuned - tuned) / (untuned - goal), "quality": goal / tuned}
        yield {"table": "conversion", "arm": arm, "untuned": untuned, "tuned": tuned} | shares


@EXPERIMENT.part()
def language(bench: Bench[Settings]) -> Iterable[Row]:
    """The bundled language model, a trained one of eight heads."""
    return bench.settings.language.rows(bench.work, bench.progress)
