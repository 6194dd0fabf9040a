"""Re-ttention's experiment: what it measures, and what its page makes of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.core.call import plain_call
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.core.stack import make_plan, run_plan
from saccade.core.state import Memory
from saccade.experiments import Figures, Results
from saccade.experiments.page import made
from saccade.experiments.results import newest
from saccade.ops.parts import attend_parts
from saccade.papers.re_ttention import RasterWindow
from saccade.papers.re_ttention.drawing import Studio
from saccade.papers.re_ttention.experiment import EXPERIMENT, Settings, arms_of
from saccade.papers.re_ttention.probe import Look, Probe, Seen
from saccade.papers.re_ttention.sections import BOTH, CLAIMS, PLAIN
from saccade.papers.re_ttention.system import ReTtention
from tests.tiny_flux import tiny_flux

DOCS = Path(__file__).resolve().parents[3] / "docs"
LAYOUT = Layout.joint(text=3, grid=(1, 4, 5))


def test_a_look_measures_image_rows_and_changes_nothing() -> None:
    g, seen, window = torch.Generator().manual_seed(0), Seen(), RasterWindow(0.3)
    site = Site(name="blocks.0.attn", kind="joint", heads=2)
    allowed = window.materialize(LAYOUT, LAYOUT)
    for step in range(2):
        q, k, v = torch.randn(3, 1, 2, LAYOUT.n, 8, generator=g, dtype=torch.float64)
        look = Look(window=window, step=step, seen=seen)
        plan = make_plan({"probe": (window, look)}, site, LAYOUT, LAYOUT, torch.device("cpu"))
        out = run_plan(plan, plain_call(q, k, v, layout=LAYOUT), {"probe": Memory()}, attend_parts).total
        scores = q @ k.mT * 8**-0.5
        weights = scores.softmax(-1)
        torch.testing.assert_close(out, weights @ v, atol=1e-12, rtol=0)
        post, pre = weights * allowed, scores.masked_fill(~allowed, -torch.inf).softmax(-1)
        row, wanted = seen.rows[step], (weights @ v)[:, :, 3:]
        assert row["share"] == pytest.approx(float(post[:, :, 3:].sum(-1).mean()))
        for name, p in (("before", pre), ("after", post)):
            error = ((p @ v)[:, :, 3:] - wanted).square().sum() / wanted.square().sum()
            assert row[name] == pytest.approx(float(error))
    assert "share_moves" not in seen.rows[0] and seen.rows[1]["sum_moves"] > 0


def test_sites_are_measured_apart() -> None:
    """Equal plans are shared, so those of two sites must differ."""
    probe, (one, other) = Probe(window=RasterWindow(0.3)), (Site(name=f"blocks.{i}.attn") for i in range(2))
    assert probe.plan(one, Clock()) == probe.plan(one, Clock()) != probe.plan(other, Clock())


@pytest.mark.host
@pytest.mark.slow
def test_arms_are_drawn_from_the_same_noise_and_decoded_as_the_pipeline_decodes() -> None:
    studio = Studio(pipe=tiny_flux(), grid=6, captions=2, steps=4)
    dense = studio.draw()
    assert [row["error"] for row in studio.rows(dense, dense)] == [0, 0]
    some = studio.draw(ReTtention(keep=0.2, dense=0.25))
    assert all(row["error"] > 0 for row in studio.rows(some, dense))
    layout = Layout.joint(text=32, grid=(1, 6, 6))
    share = RasterWindow(0.2).bind(layout, layout).density()
    assert some.density == pytest.approx((2 + 3 * share) / 4)  # dense, with statistics, sparse, sparse
    texts = [prompt.text for prompt in studio.wanted]
    seeds = [torch.Generator().manual_seed(17 + i) for i in range(2)]
    shown = studio.pipe(
        texts, num_inference_steps=4, height=48, width=48, max_sequence_length=32, generator=seeds, output_type="np"
    ).images
    assert abs(studio.pictures(dense).astype(float) - 255 * shown).max() <= 0.5 + 1e-3


def test_every_arm_has_a_name_of_its_own_at_its_width() -> None:
    arms = [(one_in, arm) for one_in, arm, _ in arms_of(Settings())]
    assert len(set(arms)) == len(arms) == 5 * 4 + 5


def test_a_claim_is_decided_caption_by_caption() -> None:
    def rows(arm: str, *errors: float) -> list[dict[str, Any]]:
        return [{"arm": arm, "one_in": 8, "caption": i, "error": error} for i, error in enumerate(errors)]

    found = Results(
        device="a machine", date="2026-01-01", versions={}, settings={"ablated": 8},
        tables={"runs": rows(PLAIN, 0.5, 0.9, 0.7) + rows(BOTH, 0.1, 0.5, 0.3)},
    )  # fmt: skip
    assert CLAIMS[0].verdict(found) == "confirmed" and CLAIMS[0].measure(found).mid == pytest.approx(0.4)


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    page = (DOCS / EXPERIMENT.page).read_text()
    figures = Figures(folder=tmp_path, name="re_ttention")
    parts = made(EXPERIMENT.sections, newest(DOCS / "results", "re_ttention"), figures)
    assert [name for name, text in parts.items() if f"<!-- figures: {name} -->\n{text}\n<!-- end -->" not in page] == []
