"""What the cost model says, and what it does not: the size that pays, the time of a token, and sums written out.

laws    a made-up law of accuracy: the size chosen at a budget, by FLOPs alone and with the cache's reading
speed   attention of one new token, to all keys and to the best pages, against what the model predicts
sums    small models trained on running sums, their answers drawn with all keys and with few
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.attach import attach
from saccade.experiments import Bench, Experiment, Row
from saccade.nn.eval_mode import eval_mode
from saccade.papers.kinetics.cost import B200, Budget, Use, cost_of
from saccade.papers.kinetics.coverage import pass_at
from saccade.papers.kinetics.frontier import best_fixed
from saccade.papers.kinetics.paged_cache import PagedCache
from saccade.papers.kinetics.sections import CLAIMS, DENSE, PAGED, SECTIONS
from saccade.papers.kinetics.selection import Selection
from saccade.papers.kinetics.shapes import QWEN3, Shape
from saccade.papers.kinetics.sums import Sums, Writer, written
from saccade.papers.kinetics.system import SparseDecode
from saccade.train.causal import CausalStage, CausalTask
from saccade.train.checkpoint import trained
from saccade.train.loop import Fit, finished, fit
from saccade.train.optimisers import Optim

LENGTHS = tuple(2**i for i in range(8, 16))
BUDGETS = np.geomspace(45e12, 1e17, 100)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the three parts.

    seeds       of laws and of trainings
    tokens      of the caches timed, `rounds` times each; pages of 16 tokens, `pages` of them read
    models      (width, depth) of the writers; steps of their training, on sums of `digits` digits
    questions   asked, each answered `trials` times
    tops        keys chosen, in blocks of 4, beside 4 newest and 4 first ones
    intensity   FLOPs a byte of the machine whose frontier is drawn
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    laws: int = 20
    tokens: tuple[int, ...] = (2048, 8192, 32768)
    pages: int = 64
    rounds: int = 9
    models: tuple[tuple[int, int], ...] = ((32, 2), (64, 3), (96, 4))
    steps: int = 1200
    digits: int = 24
    questions: int = 48
    trials: int = 8
    tops: tuple[int, ...] = (8, 16)
    intensity: float = 50.0


EXPERIMENT = Experiment(
    name="kinetics",
    settings=Settings(),
    quick=Settings(
        seeds=(0, 1), laws=3, tokens=(64, 128), pages=2, rounds=2, models=((32, 1), (32, 2)), steps=2, digits=6,
        questions=3, trials=2, tops=(4,),
    ),
    hours=0.2,
    sections=SECTIONS,
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part()
def laws(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each law: logs of how much larger a model and how much shorter a text pay, means over budgets.

    Accuracy a(P) (1 - exp(-Lout / tau(P))), its numbers drawn: larger models are better, and need fewer tokens.
    """
    settings = [(shape, n) for shape in QWEN3.values() for n in LENGTHS]
    size = np.array([shape.parameters for shape, _ in settings]) / QWEN3["0.6B"].parameters
    length = np.array([n for _, n in settings])
    for number in range(bench.settings.laws):
        rng = np.random.default_rng(number)
        worst, gain, reach, hurry = rng.uniform((0.7, 0.3, 3000, 0.1), (0.95, 0.6, 12000, 0.4))
        accuracy = (1 - worst * size**-gain) * (1 - np.exp(-length * size**hurry / reach))
        alone, whole = (chosen(settings, accuracy, intensity) for intensity in (0.0, B200))
        both = (alone >= 0) & (whole >= 0)
        sizes, lengths = (np.log(each[whole[both]] / each[alone[both]]).mean() for each in (size, length))
        yield {"law": number, "larger": float(sizes), "shorter": float(-lengths)}


def chosen(settings: list[tuple[Shape, int]], accuracy: np.ndarray, intensity: float) -> np.ndarray:
    """The setting that is best at each budget; -1 where none is cheap enough."""
    costs = [cost_of(shape, Use(prompt=256, generated=n)).equivalent(intensity) for shape, n in settings]
    return best_fixed(np.array(costs)[:, None], accuracy[:, None], BUDGETS).chosen


@EXPERIMENT.part()
def speed(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each length and round: times of one token's attention, and the ratio predicted by what is read."""
    said = bench.settings
    noise = torch.Generator().manual_seed(0)
    for tokens in said.tokens:
        k, v = (torch.randn(1, 8, tokens, 128, generator=noise) for _ in range(2))
        q = torch.randn(1, 32, 1, 128, generator=noise)
        cache = PagedCache(k, v, pages=said.pages)
        read = min((said.pages + 1) * 16, tokens) * 2 + tokens / 16  # keys and values, and means
        for number in range(said.rounds + 1):
            dense = seconds(lambda k=k, v=v, q=q: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
            paged = seconds(lambda cache=cache, q=q: cache.attend(q))
            if number:  # the first warms up
                yield {
                    "arm": f"{tokens:,}", "round": number, DENSE: 1e3 * dense, PAGED: 1e3 * paged,
                    "measured": dense / paged, "predicted": 2 * tokens / read,
                }  # fmt: skip


def seconds(run: object) -> float:
    """Median of three runs."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        run()  # type: ignore[operator]
        taken.append(time.perf_counter() - start)
    return median(taken)


@EXPERIMENT.part(per_seed=True)
def sums(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each model, budget of keys, and number of answers: coverage, and cost of a question."""
    said, task = bench.settings, Sums(digits=bench.settings.digits)
    asked = task.questions(np.random.default_rng(1000 + bench.seed), said.questions)
    for done, (width, depth) in enumerate(said.models):
        bench.progress(done, len(said.models), f"width {width}")
        writer = learned(bench, task, width, depth)
        with eval_mode(writer):
            for top in (None, *said.tops):
                right = answered(writer, task, asked, top, said.trials, bench.seed)
                yield from rows(bench, writer, f"{width} x {depth}", top, right)


def rows(bench: Bench[Settings], writer: Writer, model: str, top: int | None, right: Tensor) -> Iterator[Row]:
    """Of one model and budget, for one answer, two, four ..."""
    said = bench.settings
    budget = None if top is None else Budget(top=top, local=8, block=4)
    counts = right.sum(0).tolist()
    k = 1
    while k <= said.trials:
        use = Use(prompt=said.digits + 1, generated=said.digits, trials=k)
        spent = cost_of(writer.shape, use, budget)
        coverage = [pass_at(k, trials=said.trials, correct=int(c)) for c in counts]
        yield {
            "arm": DENSE if top is None else f"{top} keys", "model": model, "answers": k,
            "coverage": float(np.mean(coverage)), "flops": spent.compute / 1e6,
            "cost": spent.equivalent(said.intensity) / 1e6,
        }  # fmt: skip
        k *= 2


def answered(writer: Writer, task: Sums, asked: Tensor, top: int | None, trials: int, seed: int) -> Tensor:
    """Whether each answer (trials questions) is right."""
    system = SparseDecode(keys=Selection(top=top or task.digits * 4, local=4, block=4))
    torch.manual_seed(seed)
    found = []
    with attach(writer.host, *(() if top is None else (system,))):
        for _ in range(trials):
            found.append(task.right(asked, written(writer.host, asked, task.digits)))
    return torch.stack(found)


def learned(bench: Bench[Settings], task: Sums, width: int, depth: int) -> Writer:
    """A model trained on texts drawn for every step."""
    torch.manual_seed(bench.seed)
    writer = Writer(width, depth)
    optim = Optim(kind="adamw", lr=3e-3)
    options = Fit(steps=bench.settings.steps, seed=bench.seed, precision="no", decay=0.98, optim=optim)
    folder = bench.work / f"{width}-{depth}-{bench.seed}"
    lesson = Lesson(writer, task, CausalStage(fit=options, length=2 * task.digits, batch=64))
    if not finished(options, folder):
        fit(lesson, options, folder)
    lesson.module.load_state_dict(trained(folder))
    return writer


class Lesson(CausalTask):
    """Fresh sums in every batch."""

    def __init__(self, writer: Writer, task: Sums, stage: CausalStage) -> None:
        super().__init__(writer, torch.zeros(stage.length + 1, dtype=torch.long), stage)
        self.task = task

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"ids": self.task.texts(self.task.questions(rng, self.stage.batch))}
