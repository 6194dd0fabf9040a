"""Attention VAT with a tenth of SST-2's labels, the other sentences without; and on sentences whose evidence is known.

Unlabelled text is none, nine times what is labelled, or the pool of reviews that the task's sentences came from; plain
and adversarial training with labels alone stand beside.
Expected: unlabelled text helps, that of the pool nearly as much; predictions move less under attack;
attention finds planted words better.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from saccade.analysis.attention_importance import attacked, judged
from saccade.data.sentences import Sentences
from saccade.experiments import ArmTable, Bench, Column, Experiment, Lines, Note, Row, Verdicts, higher
from saccade.experiments.sentences import Corpus, SentenceRun, corpus, trained_classifier
from saccade.papers.attention_vat.kl import divergence

PLAIN, AT, VAT, MORE, IVAT, OTHER = "supervised", "AT", "VAT, none", "VAT, 9 x", "iVAT, 9 x", "VAT, reviews"
VIRTUAL = "attention_vat(eps=5.0)"
ARMS = {  # method, and unlabelled sentences as a multiple of the labelled; None: of another source
    PLAIN: ("", 0),
    AT: ("attention_at(eps=5.0)", 0),
    VAT: (VIRTUAL, 0),
    MORE: (VIRTUAL, 9),
    IVAT: ("attention_vat(kind='ivat', eps=5.0)", 9),
    OTHER: (VIRTUAL, None),
}
EVIDENCE = {PLAIN: "", AT: "attention_at(eps=5.0)", "VAT": VIRTUAL}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`labelled`: share of the sentences whose labels are kept; `attack`: norm of the perturbation at test time.

    lengths   steps of the trainings on planted evidence
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    run: SentenceRun = field(default_factory=lambda: SentenceRun(steps=150, batch=32))
    evidence: SentenceRun = field(default_factory=lambda: SentenceRun(corpus="planted", width=32, hidden=32, batch=32))
    lengths: tuple[int, ...] = (40, 80)
    labelled: float = 0.1
    attack: float = 5.0


CLAIMS = (
    higher("VAT with nine times as much unlabelled text has a higher F1 than none", "runs.f1", MORE, than=PLAIN),
    higher("more unlabelled text gives a higher F1: nine times against none under VAT", "runs.f1", MORE, than=VAT),
    higher("unlabelled reviews give a higher F1 than supervised training", "runs.f1", OTHER, than=PLAIN),
    higher("VAT has a higher F1 than AT", "runs.f1", MORE, than=AT),
    higher("iVAT has a higher F1 than supervised training", "runs.f1", IVAT, than=PLAIN),
    higher("predictions move more under attack after supervised training than after VAT", "runs.kl", PLAIN, than=MORE),
    higher("VAT: attention agrees more with gradients", "runs.pearson", MORE, than=PLAIN),
    higher("VAT: attention finds planted evidence better", "evidence.auprc", "VAT", than=PLAIN),
    higher("attention finds planted evidence better after VAT than after AT", "evidence.auprc", "VAT", than=AT),
)  # fmt: skip
EXPERIMENT = Experiment(
    name="attention_vat",
    settings=Settings(),
    quick=Settings(
        seeds=(0,),
        run=SentenceRun(corpus="planted", width=8, hidden=4, steps=2, batch=8),
        evidence=SentenceRun(corpus="planted", width=8, hidden=4, batch=8),
        lengths=(1, 2),
    ),
    hours=0.2,
    sections={
        "arms": (
            ArmTable(
                columns=(
                    Column(source="runs.f1", title="F1", show=".3f"),
                    Column(source="runs.accuracy", title="accuracy", show=".3f"),
                    Column(source="runs.accuracy", title="against supervised", show=".3f", against=PLAIN),
                    Column(source="runs.kl", title="KL under attack", show=".3f"),
                    Column(source="runs.pearson", title="Pearson, gradients", show=".3f"),
                    Column(source="runs.entropy", title="entropy", show=".3f"),
                ),
                title="training, unlabelled text",
            ),
            Note("{run[steps]} steps of {run[batch]} sentences, {labelled:.0%} with labels; attacks of norm {attack}."),
        ),
        "evidence": (
            Lines(
                source=("evidence.auprc", "evidence.iou_f1"),
                x="steps",
                name="evidence",
                titles=("area under precision and recall", "IOU-F1"),
                about="How well attention ranks the two planted words, by steps of training",
            ),
            ArmTable(
                columns=(
                    Column(source="evidence.accuracy", title="accuracy", show=".3f"),
                    Column(source="evidence.auprc", title="AUPRC", show=".3f"),
                    Column(source="evidence.precision", title="precision at 2", show=".3f"),
                    Column(source="evidence.iou_f1", title="IOU-F1", show=".3f"),
                ),
                of="evidence.arm",
                title="training",
            ),
        ),
        "claims": (Verdicts(CLAIMS, differences=True),),
    },
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part(per_seed=True, name="runs")
def few_labels(bench: Bench[Settings]) -> Iterable[Row]:
    """Every method, on the same labelled sentences."""
    settings, texts = bench.settings, corpus(bench.settings.run.corpus)
    for number, (arm, (method, times)) in enumerate(ARMS.items()):
        bench.progress(number, len(ARMS), arm)
        labelled, unlabelled = parted(texts, settings.labelled, times, bench.seed)
        folder = bench.work / f"{number}-{bench.seed}"
        model = trained_classifier(settings.run, method, labelled, bench.seed, folder, unlabelled)
        moves = [divergence(clean, moved) for _, clean, moved in attacked(model, texts.test, settings.attack)]
        yield {"arm": arm, "kl": float(torch.cat(moves).mean())} | judged(model, texts.test)


@EXPERIMENT.part(per_seed=True)
def evidence(bench: Bench[Settings]) -> Iterable[Row]:
    """Sentences in which two words decide, after trainings of several lengths."""
    run, lengths = bench.settings.evidence, bench.settings.lengths
    texts = corpus(run.corpus)
    for number, (arm, method) in enumerate(EVIDENCE.items()):
        bench.progress(number, len(EVIDENCE), arm)
        for steps in lengths:
            folder = bench.work / f"{number}-{bench.seed}-{steps}"
            model = trained_classifier(replace(run, steps=steps), method, texts.train, bench.seed, folder)
            yield {"arm": arm, "steps": steps} | judged(model, texts.test)


def parted(texts: Corpus, share: float, times: int | None, seed: int) -> tuple[Sentences, Sentences | None]:
    """Some sentences with their labels, the same for every method; and `times` as many others without."""
    order = torch.randperm(len(texts.train), generator=torch.Generator().manual_seed(seed))
    count = round(share * len(order))
    labelled = texts.train.take(order[:count])
    if times is None:
        return labelled, texts.other.unlabelled()
    rest = order[count : count + times * count]
    return labelled, texts.train.take(rest).unlabelled() if len(rest) else None
