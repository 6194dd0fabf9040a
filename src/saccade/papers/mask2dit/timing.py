"""Time of the mask in runs beside the dense mask, by the number of scenes."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from saccade.core.call import AttentionCall, plain_call
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import Mask
from saccade.core.site import Site
from saccade.experiments import Row
from saccade.metrics.stopwatch import in_turn
from saccade.ops import attend, choose
from saccade.papers.mask2dit.scene_mask import count_scores
from saccade.papers.mask2dit.system import Mask2DiT

TEXT, GRID, HEADS, WIDTH = 64, (2, 16, 16), 2, 64  # of a caption, a clip, and the attention
RUNS, DENSE, BARE = "runs", "dense mask", "no mask"


def scene_call(scenes: int) -> AttentionCall:
    """Joint attention over n captions and clips, under the mask."""
    layout = Layout.joint(text=scenes * TEXT, grid=(scenes * GRID[0], *GRID[1:]))
    (mask,) = Mask2DiT(text_tokens=TEXT).plan(Site(name="attention", kind="joint"), Clock())
    assert isinstance(mask, Mask)
    g = torch.Generator().manual_seed(scenes)
    q, k, v = (torch.randn(1, HEADS, layout.n, WIDTH, generator=g) for _ in range(3))
    return plain_call(q, k, v, layout=layout, mask=mask)


def timed(scenes: int, rounds: int) -> Iterator[Row]:
    """A row for each round: seconds of all ways, run in turn, and what each holds and computes."""
    call = scene_call(scenes)
    plain = call.replace(mask=None)
    ways: dict[str, Callable[[], Any]] = {
        RUNS: lambda: attend(call, "spans"), DENSE: lambda: attend(call, "sdpa"), BARE: lambda: attend(plain, "sdpa"),
    }  # fmt: skip
    n = call.layout_q.n
    video = GRID[0] * GRID[1] * GRID[2]
    said = {
        "scenes": scenes, "tokens": n, "scores": count_scores(scenes, TEXT, video) / n**2, "map": 4 * n * n / 1e6,
        "chosen": choose(call).kernel,
    }  # fmt: skip
    seconds = in_turn(ways, rounds)
    for number in range(rounds):
        runs, dense, bare = (seconds[name][number] for name in (RUNS, DENSE, BARE))
        yield {
            **said, "round": number, "seconds": runs, "dense": dense, "faster": dense / runs, "than_bare": bare / runs,
        }  # fmt: skip
