"""What a trained choice of keys brings at an equal number of keys, against the latest ones and against all.

recall   pairs of keys and values, asked again later: the share that a small model of two layers answers rightly
text     tiny Shakespeare by characters: nats of text held out
kernels  seconds of attention by its kernels as texts grow, and what they read
Expected: the choice recalls nearly as well as full attention and far better than a sliding window; on text it lies
between both; without the score in the logits nothing trains the choice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from saccade.data.text import Source, read_text
from saccade.experiments import Bench, Experiment, Row
from saccade.metrics.stopwatch import in_turn
from saccade.models.causal_lm import CausalLM
from saccade.models.shakespeare_lm import character_tokenizer
from saccade.papers.dma.attention import Choice, dynamic_mask_attention
from saccade.papers.dma.lifetimes import BLOCK
from saccade.papers.dma.recall import Recall, RecallTask, keys_kept, lives, recalled
from saccade.papers.dma.sections import ALONE, CLAIMS, FULL, OURS, SECTIONS, WINDOW, WINDOWED
from saccade.papers.dma.usage import key_usage
from saccade.train.causal import CausalStage, CausalTask, held_out_nats
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim

ASKED = 256  # texts of the recall that are judged


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Two layers of `width` and `heads`; of the recall, of the text, and of the kernels.

    window     keys kept in the recall;  windows: on text
    lengths    of the timed texts, which keep `kept` keys;  rounds: of timing
    windows_judged   of the text held out
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    width: int = 64
    heads: int = 2
    vocabulary: int = 32
    length: int = 32
    pairs: int = 5
    window: int = 8
    steps: int = 500
    batch: int = 32
    corpus: Source = "shakespeare"
    characters: int = 256
    windows: tuple[int, ...] = (32, 64)
    text_steps: int = 150
    text_batch: int = 4
    windows_judged: int = 48
    lengths: tuple[int, ...] = (256, 512, 1024, 2048)
    kept: int = 64
    rounds: int = 3


def arms(window: int, length: int) -> dict[str, str]:
    """What each is made of, keeping as many keys."""
    return {
        OURS: f"dma(window={window}, base=100.0)",
        WINDOW: f"latest_keys(window={window}, base=100.0)",
        ALONE: f"dma(window={window}, base=100.0, additive=False)",
        FULL: f"latest_keys(window={length}, base=100.0)",
    }


EXPERIMENT = Experiment(
    name="dma",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), width=16, vocabulary=8, length=12, pairs=2, window=4, steps=3, batch=4, corpus="captions",
        characters=24, windows=(8,), text_steps=2, text_batch=2, windows_judged=2, lengths=(64,), kept=16, rounds=1,
    ),
    hours=0.15,
    sections=SECTIONS,
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part(per_seed=True, tables=True)
def recall(bench: Bench[Settings]) -> Iterable[Row]:
    """Every arm by this seed, judged on the same texts; what its layers keep."""
    s = bench.settings
    task, found = Recall(vocabulary=s.vocabulary, length=s.length, pairs=s.pairs), arms(s.window, s.length)
    held = task.texts(np.random.default_rng(10**6), ASKED)
    for number, (arm, mixer) in enumerate(found.items()):
        bench.progress(number, len(found), arm)
        model = fresh(s, s.vocabulary, mixer, bench.seed)
        folder = bench.work / f"{number}-{bench.seed}"
        fit(RecallTask(model, task, s.batch), schedule(s.steps, bench.seed), folder, cpu=True)
        yield {"table": "recall", "arm": arm, "right": recalled(model, held)}
        for layer, (keys, values) in enumerate(keys_kept(model, held, task.values)):
            yield {"table": "kept", "arm": arm, "layer": layer, "keys": keys, "values": values}
        if bench.seed == 0 and arm in (OURS, WINDOW):
            yield {"table": "lives", "arm": arm, "until": lives(model, held["ids"][:1])}


@EXPERIMENT.part(per_seed=True)
def text(bench: Bench[Settings]) -> Iterable[Row]:
    """Every arm and window by this seed, full attention once."""
    s = bench.settings
    found = {
        f"{arm}, {WINDOWED.format(window)}" if arm != FULL else arm: mixer
        for window in s.windows
        for arm, mixer in arms(window, s.characters).items()
        if arm != ALONE or window == s.windows[0]
    }
    ids, held = (characters(s.corpus, split == "train") for split in ("train", "held-out"))
    stage = CausalStage(length=s.characters, batch=s.text_batch, fit=schedule(s.text_steps, bench.seed))
    for number, (arm, mixer) in enumerate(found.items()):
        bench.progress(number, len(found), arm)
        model = fresh(s, int(ids.max()) + 1, mixer, bench.seed)
        fit(CausalTask(model, ids, stage), stage.fit, bench.work / f"{number}-{bench.seed}", cpu=True)
        nats = held_out_nats(model, held, length=s.characters, windows=s.windows_judged)
        yield {"arm": arm, "nats": float(nats.mean())}


@EXPERIMENT.part()
def kernels(bench: Bench[Settings]) -> Iterable[Row]:
    """One layer's attention, forward and backward, with random operands and scores."""
    s, choice = bench.settings, Choice(window=bench.settings.kept)
    for number, length in enumerate(s.lengths):
        bench.progress(number, len(s.lengths), f"{length} tokens")
        given = operands(length)
        works = {arm: partial(attended, arm, choice, *given) for arm in ("full", "gathered", "tiles")}
        used, read = key_usage(choice, given[3].detach()), s.kept + BLOCK
        shares = {
            "full": (length + 1) / (2 * length),
            "gathered": min(read / length, 1.0),
            "tiles": used.tiles[0] / used.tiles[1],
        }
        for arm, seconds in in_turn(works, s.rounds).items():
            for round_, each in enumerate(seconds):
                yield {"arm": arm, "length": length, "round": round_, "ms": 1e3 * each, "share": shares[arm]}


def fresh(s: Settings, vocabulary: int, mixer: str, seed: int) -> CausalLM:
    """The same first weights for every arm of a seed, where they have the same."""
    torch.manual_seed(seed)
    ffn = f"swiglu(hidden={s.width})"
    return CausalLM(vocabulary=vocabulary, depth=2, width=s.width, heads=s.heads, mixer=mixer, ffn=ffn, norm="layer")


def schedule(steps: int, seed: int) -> Fit:
    """The training of every arm."""
    optim = Optim(lr=3e-3, muon_lr=1e-2, cooldown=0.3)
    return Fit(
        steps=steps, seed=seed, precision="no", decay=0.98, save_every=10**9, sheet_every=10**9, log_every=10**9,
        optim=optim,
    )  # fmt: skip


def characters(corpus: Source, train: bool) -> Tensor:
    """A text as numbers."""
    found = character_tokenizer()(read_text(corpus, "train" if train else "held-out"), verbose=False)
    return torch.tensor(found.input_ids)


def operands(length: int) -> list[Tensor]:
    """q, k, v and scores of four heads, two of keys."""
    make = torch.Generator().manual_seed(length)
    shapes = ((1, 4, length, 32), (1, 2, length, 32), (1, 2, length, 32), (1, 2, length))
    return [torch.randn(shape, generator=make).requires_grad_() for shape in shapes]


def attended(arm: str, choice: Choice, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> None:
    """Forward and backward."""
    if arm == "full":
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    else:
        out = dynamic_mask_attention(q, k, v, bias, choice, kernel=arm)  # type: ignore[arg-type]
    out.sum().backward()
