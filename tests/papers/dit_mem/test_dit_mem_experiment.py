"""DiT-Mem's experiment: what it measures, and that its page says what its results say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.data.scenes import COLOURS
from saccade.experiments import Figures
from saccade.experiments.page import made
from saccade.experiments.results import newest
from saccade.papers.dit_mem import exact
from saccade.papers.dit_mem.experiment import CLAIMS, EXPERIMENT, SECTIONS
from saccade.papers.dit_mem.rules import RULES, keeps_rule
from saccade.papers.dit_mem.small_model import READ, SmallVideos, any_video, embed_words
from saccade.papers.dit_mem.small_run import HIGH, LOOKS, LOW, RETRIEVED, Shelf, SmallRun, memory_of

pytestmark = pytest.mark.host
DOCS = Path(__file__).resolve().parents[3] / "docs"
SIZES = SmallVideos(layers=1, heads=1)


def shelf(count: int = 2 * len(LOOKS), seed: int = 0) -> Shelf:
    return Shelf.of(SIZES, count, seed=seed)


def test_latents_of_videos_are_read_back_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = shelf(len(LOOKS))
    assert bank.latents.shape == (28, 3, 5, 16, 16) and bank.latents.median() == 0
    monkeypatch.setattr("saccade.papers.dit_mem.small_model.rectified_flow", lambda *_, **__: bank.latents)
    drawn = SIZES.draw(SIZES.transformer(), embed_words(bank.captions), steps=1, seed=0)
    assert drawn.shape == (28, 5, READ, READ, 3)
    kept = [keeps_rule([*frames], video) for frames, video in zip(drawn, bank.videos, strict=True)]
    assert max(each.error for each in kept) < 0.03 and all(each.right and each.seen == 1 for each in kept)
    assert [each.colour for each in kept] == [colour for colour, _ in LOOKS]


def test_the_model_is_taught_any_motion_of_any_shape() -> None:
    videos = [any_video(np.random.default_rng(i), 5) for i in range(200)]
    seen = {(v.scene.things[0].shape, v.motions[0].direction) for v in videos}
    assert len(seen) == len(RULES) ** 2


def test_neighbours_have_the_captions_looks_and_other_colours_none_of_them() -> None:
    bank, asked = shelf(), shelf(len(LOOKS), seed=1)
    near = bank.nearest(asked.captions, 2)
    assert all(bank.looks[row] == look for rows, look in zip(near.tolist(), asked.looks, strict=True) for row in rows)
    other = bank.other_colours(asked.looks, 3)
    for rows, (colour, shape) in zip(other.tolist(), asked.looks, strict=True):
        found = {bank.looks[row] for row in rows}
        assert len(found) == 1 and found.pop() in {(c, shape) for c in COLOURS if c != colour}


def test_a_branch_alone_is_its_part_of_the_memory() -> None:
    from saccade.papers.dit_mem import MemoryEncoder

    run, latents = SmallRun(videos=SIZES), shelf(2).latents[None].expand(2, -1, -1, -1, -1, -1)
    for config, tokens in zip(run.encoders.values(), (5, 1), strict=True):
        encoder = MemoryEncoder(config).eval()
        whole, high, low = (memory_of(encoder, latents, arm) for arm in (RETRIEVED, HIGH, LOW))
        assert high.n == low.n == 2 * tokens and torch.equal(torch.cat((high.tokens, low.tokens), 1), whole.tokens)
        assert whole.expanded().shape[1] == 2 * 2 * config.length


def test_checks_are_exact() -> None:
    found = {row["check"]: row["change"] for row in exact.Forward(seed=5).rows()}
    assert found[exact.OFF] == 0 and found[exact.ORDER] < 1e-6 and found[exact.EQUAL] < 1e-6
    assert found[exact.ZEROS] > 1e-4


@pytest.mark.slow
def test_it_runs_in_seconds_in_quick_form(tmp_path: Path) -> None:
    found = EXPERIMENT.run(tmp_path, quick=True)
    assert len(found.distinct("arms.arm")) == 9 and len(found.rows("arms")) == 9 * len(LOOKS)
    assert made(SECTIONS, found, Figures(folder=tmp_path, name="dit_mem")).keys() == SECTIONS.keys()


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    page, found = (DOCS / EXPERIMENT.page).read_text(), newest(DOCS / "results", "dit_mem")
    parts = made(SECTIONS, found, Figures(folder=tmp_path, name="dit_mem"))
    assert [name for name, text in parts.items() if f"<!-- figures: {name} -->\n{text}" not in page] == []
    assert {claim.verdict(found) for claim in CLAIMS} <= {"confirmed", "refuted", "undecided"}
