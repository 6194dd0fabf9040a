"""What a draft does to the bundled picture model, and what choosing it costs."""

import time
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import Any

import numpy as np
import torch

from saccade.attach import attach
from saccade.core.call import AttentionCall, plain_call
from saccade.core.layout import Grid, Layout
from saccade.core.state import Memory
from saccade.data.scenes import judge, prompts
from saccade.experiments import Row
from saccade.experiments.summary import ends
from saccade.metrics import paired_difference, share
from saccade.metrics.fidelity import psnr
from saccade.metrics.intervals import t_interval
from saccade.ops import attend, prepare, warm
from saccade.papers.draft_attention.arms import Arm
from saccade.papers.draft_attention.draft import Pool
from saccade.papers.draft_attention.draft_regions import DraftRegions

PIXELS = 8  # per image token, along a side
TEXT = 32
SEED = 23


def pictures(pipe: Any, side: int, arms: Iterable[Arm], *, captions: int, steps: int) -> Iterable[Row]:
    """For each arm the PSNR to dense pictures of the same noise, and how many keep what captions promise.

    Rows of the table "orders" say how far the draft lies above what it is compared with, picture by picture.
    """
    from saccade.train.sampling import draw

    wanted = prompts(captions, seed=SEED, count=1, split="held-out")
    texts, dense, drafts = [p.text for p in wanted], None, {}
    for arm in arms:
        with attach(pipe, arm.system):
            made = draw(pipe, texts, steps=steps, side=PIXELS * side, seed=SEED, text_tokens=TEXT)
        dense = made if dense is None else dense
        found = None if made is dense else decibels(made, dense)
        kept = ends(share([bool(judge(image, prompt).all) for image, prompt in zip(made, wanted, strict=True)]))
        about = {"arm": arm.label, "sparsity": arm.sparsity, "skip": arm.skip}
        fidelity = None if found is None else ends(t_interval(found))
        yield {"table": "pictures", **about, "pairs": arm.pairs, "psnr": fidelity, "kept": kept}
        if arm.label == "draft":
            drafts[arm.sparsity, arm.skip] = found
        elif found is not None:
            gap = paired_difference(drafts[arm.sparsity, arm.skip], found)
            yield {"table": "orders", **about, "gap": ends(gap)}


def decibels(made: np.ndarray, dense: np.ndarray) -> Sequence[float]:
    """Of each picture; 60 dB where rounding to bytes leaves no difference."""
    found = (psnr(a[None] / 255, b[None] / 255) for a, b in zip(made, dense, strict=True))
    return [x if isfinite(x) else 60.0 for x in found]


def cost(grid: Grid, pool: Pool, sparsity: float, heads: int, columns: int) -> Row:
    """Seconds of one core for one call: choosing regions, that and preparing the kernel, all of it, dense attention.

    Processor time, which others on the machine do not lengthen.
    """
    lacks, layout = warm(), Layout.image_only(grid)
    g = torch.Generator().manual_seed(0)
    call = plain_call(*(torch.randn(1, heads, layout.n, columns, generator=g) for _ in range(3)), layout=layout)
    mechanism = DraftRegions(sparsity=sparsity, pool=pool)
    choosing, masked = timed(lambda: _masked(mechanism, call))
    both, _ = timed(lambda: prepare(_masked(mechanism, call)))
    sparse, _ = timed(lambda: attend(_masked(mechanism, call)), 1)
    dense, _ = timed(lambda: attend(call), 1)
    kernel = prepare(masked).kernel
    return {
        "tokens": layout.n, "sparsity": sparsity, "heads": heads, "columns": columns, "kernel": kernel, "lacks": lacks,
        "choosing": choosing, "both": both, "sparse": sparse, "dense": dense,
    }  # fmt: skip


def timed(work: Callable[[], Any], times: int = 5) -> tuple[float, Any]:
    """The least of some, after one that is not timed."""
    found, spent = work(), []
    for _ in range(times):
        begin = time.process_time()
        found = work()
        spent.append(time.process_time() - begin)
    return min(spent), found


def _masked(mechanism: DraftRegions, call: AttentionCall) -> AttentionCall:
    return call.replace(mask=mechanism.pairs(call, Memory()).mask)
