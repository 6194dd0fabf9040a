"""Attention AT on SST-2: accuracy, whether attention agrees with gradients, and what is left of it under attack.

A small BiLSTM learned from scratch, trained plainly, under random perturbations, and by AT and iAT of several sizes.
Expected: attention agrees more with the importance of words by gradient, accuracy is no worse, an attack costs less,
and the size of the perturbation matters little. Refuted if the agreement does not rise.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from saccade.analysis.attention_importance import attacked, judged, score_spread
from saccade.experiments import (
    ArmTable,
    Bench,
    Claim,
    Column,
    Experiment,
    Lines,
    Note,
    Results,
    Row,
    Verdicts,
    higher,
    margin,
)
from saccade.experiments.claims import difference
from saccade.experiments.sentences import SentenceRun, corpus, trained_classifier
from saccade.metrics.intervals import Interval
from saccade.nn.classification import predicted

PLAIN, RANDOM, AT, IAT = "plain", "random, 5", "AT, 5", "iAT, 5"
SMALL, LARGE = "AT, 1", "AT, 10"
ARMS = {
    PLAIN: "",
    RANDOM: "attention_at(kind='rp', eps=5.0)",
    SMALL: "attention_at(eps=1.0)",
    AT: "attention_at(eps=5.0)",
    LARGE: "attention_at(eps=10.0)",
    IAT: "attention_at(kind='iat', eps=5.0)",
    "released iAT, 5": "attention_at(kind='released_iat', eps=5.0)",
}
FLAT = 0.02  # accuracy


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`attacks`: sizes of the perturbation at test time."""

    seeds: tuple[int, ...] = (0, 1, 2)
    run: SentenceRun = field(default_factory=SentenceRun)
    attacks: tuple[float, ...] = (0.5, 1.0, 2.0, 5.0, 10.0)


def flatness(found: Results) -> Interval:
    """How far within two points of accuracy the smallest and the largest perturbation lie."""
    return margin(difference(found, "runs.accuracy", LARGE, SMALL), FLAT)


CLAIMS = (
    higher("AT: attention agrees more with gradients than after plain training", "runs.pearson", AT, than=PLAIN),
    higher("iAT: attention agrees more with gradients than after plain training", "runs.pearson", IAT, than=PLAIN),
    higher("AT: attention agrees more with gradients than under random perturbations", "runs.pearson", AT, than=RANDOM),
    higher("AT: accuracy is higher than after plain training", "runs.accuracy", AT, than=PLAIN),
    higher("iAT: accuracy is higher than after plain training", "runs.accuracy", IAT, than=PLAIN),
    higher("an attack costs more accuracy after plain training than after AT", "attack.lost", PLAIN, than=AT),
    Claim(text="accuracy after AT of size 1 and of size 10 differs by less than 0.02", measure=flatness),
)
EXPERIMENT = Experiment(
    name="attention_at",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), run=SentenceRun(corpus="planted", width=8, hidden=4, steps=2, batch=8), attacks=(1.0, 5.0)
    ),
    hours=0.2,
    sections={
        "arms": (
            Lines(
                source="attack.accuracy",
                x="eps",
                name="attack",
                label="accuracy",
                about="Accuracy under the worst perturbation of attention scores, by its size and by training",
            ),
            ArmTable(
                columns=(
                    Column(source="runs.accuracy", title="accuracy", show=".3f"),
                    Column(source="runs.f1", title="F1", show=".3f"),
                    Column(source="attack.lost", title="lost under attack", show=".3f"),
                    Column(source="runs.pearson", title="Pearson, gradients", show=".3f"),
                    Column(source="runs.kendall", title="Kendall", show=".3f"),
                    Column(source="runs.entropy", title="entropy", show=".3f"),
                    Column(source="runs.spread", title="spread of scores", show=".2f"),
                ),
                title="training, eps",
            ),
            Note("{run[steps]} steps of {run[batch]} sentences; attacks of norm {attacks}, their mean in the table."),
        ),
        "claims": (Verdicts(CLAIMS, differences=True),),
    },
    claims=CLAIMS,
)


@EXPERIMENT.part(per_seed=True, tables=True)
def training(bench: Bench[Settings]) -> Iterable[Row]:
    """Every method on the same model and sentences."""
    texts = corpus(bench.settings.run.corpus)
    for number, (arm, method) in enumerate(ARMS.items()):
        bench.progress(number, len(ARMS), arm)
        folder = bench.work / f"{number}-{bench.seed}"
        model = trained_classifier(bench.settings.run, method, texts.train, bench.seed, folder)
        found = judged(model, texts.test)
        yield {"table": "runs", "arm": arm, "spread": score_spread(model, texts.test)} | found
        for eps in (0.0, *bench.settings.attacks):
            right = [predicted(moved) == labels for labels, _, moved in attacked(model, texts.test, eps)]
            accuracy = float(torch.cat(right).float().mean())
            lost = found["accuracy"] - accuracy if eps else None
            yield {"table": "attack", "arm": arm, "eps": eps, "accuracy": accuracy, "lost": lost}
