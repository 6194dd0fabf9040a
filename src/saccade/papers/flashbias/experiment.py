"""What FlashBias gives on a small machine: time and memory, learned tables in vision, ALiBi in a language model.

timing      a dense bias against its factors at growing length, in time and memory
exactness   priors whose factors are exact, in float64
vision      a small vision transformer's learned tables, factored by energy; CIFAR-10 from the folder SACCADE_DATA, or
            synthetic scenes
language    a character model with ALiBi, dense, factored, and with the sign turned round; tiny Shakespeare from
            SACCADE_DATA, or captions of scenes

Expected: factors faster from some thousand tokens on, and memory that grows with n, not n^2; accuracy kept at energy
0.995, with tables so rough after a short training that most heads need more than 16 columns; the same loss dense and
factored, and a worse one with the sign turned round.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from saccade.experiments import Bench, Experiment, Row
from saccade.metrics.machine import device_name
from saccade.papers.flashbias import alibi_lm, table_classifier
from saccade.papers.flashbias.bias_costs import PRIORS, Setting, costs
from saccade.papers.flashbias.exact_cases import gaps
from saccade.papers.flashbias.sections import COSTS, RANKS, SECTIONS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of all parts.

    lengths   tokens that are timed, in `dtypes`, `heads` of `channels`, `repeats` rounds
    pictures  "CIFAR-10" or "scenes", of which `scenes` are rendered; `tested` are held out
    """

    lengths: tuple[int, ...] = (256, 1024, 4096, 8192)
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    heads: int = 1
    channels: int = 64
    repeats: int = 7
    pictures: str = "CIFAR-10"
    scenes: int = 16384
    tested: int = 4000
    classifier_steps: int = 500
    language_steps: int = 300


EXPERIMENT = Experiment(
    name="flashbias",
    settings=Settings(),
    quick=Settings(
        lengths=(64, 128), dtypes=("float32",), repeats=1, pictures="scenes", scenes=128, tested=32,
        classifier_steps=2, language_steps=2,
    ),
    hours=0.05,
    sections=SECTIONS,
    claims=(*COSTS, *RANKS),
)  # fmt: skip


@EXPERIMENT.part()
def timing(bench: Bench[Settings]) -> Iterable[Row]:
    """Two rows for each prior, type and length."""
    said = bench.settings
    cases = list(product(PRIORS, said.dtypes, said.lengths))
    for done, (prior, dtype, n) in enumerate(cases):
        bench.progress(done, len(cases), f"{prior} {dtype} n={n}")
        setting = Setting(prior=prior, dtype=dtype, n=n, heads=said.heads, channels=said.channels)
        yield from costs(setting, said.repeats)


@EXPERIMENT.part()
def exactness(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each prior."""
    return gaps()


@EXPERIMENT.part(tables=True)
def vision(bench: Bench[Settings]) -> Iterable[Row]:
    """Tables "energies", "columns", and "classifier", which is one row."""
    said, started = bench.settings, time.process_time()
    name, source = table_classifier.opened(said.pictures, said.scenes)
    found = table_classifier.trained(
        source, steps=said.classifier_steps, tested=said.tested, progress=bench.progress
    )  # fmt: skip
    right = found.right()
    yield from ({"table": "energies"} | row for row in table_classifier.factored(found))
    yield from ({"table": "columns"} | row for row in table_classifier.columns(found.model))
    about = {"pictures": name, "train": len(source.train), "tested": len(found.test[1]), "right": right}
    yield {"table": "classifier"} | about | spent(started)


@EXPERIMENT.part(tables=True)
def language(bench: Bench[Settings]) -> Iterable[Row]:
    """Tables "language" and "text", which is one row."""
    started = time.process_time()
    for row in alibi_lm.arms(bench.settings.language_steps, bench.progress):
        yield row | spent(started) if row["table"] == "text" else row


def spent(started: float) -> Row:
    """The device, and the processor's seconds since."""
    return {"device": device_name("cpu"), "cpu_seconds": time.process_time() - started}
