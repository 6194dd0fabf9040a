"""The report's density is the share of pairs that was computed, over all forwards of each site's own model."""

from math import isnan
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.core.site import at
from saccade.mechanisms.block_grid import BlockGrid, share_open
from saccade.papers.clear import Clear
from saccade.papers.flashbias import FlashBias, LearnedDistance
from saccade.papers.sparsed import SparseD
from tests.hosts.stand_ins import WINDOW, Masked
from tests.hosts.test_generations import STEPS, run, two_models
from tests.hosts.tiny import BY_NAME, output
from tests.papers.sparsed.test_sparsed_hosts import TIMES, moved

pytestmark = pytest.mark.host
SPARSE = SparseD(keep=0.4, block=4)


def test_each_of_two_models_is_measured_by_its_own_forwards() -> None:
    report = run(two_models(), Masked()).report()
    video = Layout.image_only((3, 2, 3))
    share = WINDOW.bind(video, video).density()
    sites = [site for site in report.sites if not site.note]
    assert [site.density for site in sites] == [pytest.approx(share)] * len(sites) and share < 0.6
    assert report.density == pytest.approx(share)
    assert sum({site.name.partition(".")[0]: site.forwards for site in sites}.values()) == report.forwards == 2 * STEPS


def walked(*systems: Any, name: str = "flux", **options: Any) -> tuple[Any, dict[str, Tensor]]:
    """The report of five steps, and the blocks each site found."""
    model, inputs = BY_NAME[name].build()
    with attach(model, *systems, schedule=TIMES, **options) as attached:
        for step in range(len(TIMES)):
            output(model, moved(inputs, step))
        found = {site: m.now["blocks"] for (_, site, _), m in attached.state.memories.items() if "blocks" in m.now}
    return attached.report(), found


def test_a_pattern_found_at_run_time_is_measured() -> None:
    report, blocks = walked(SPARSE)
    sparse = len(TIMES) - SPARSE.last_dense(len(TIMES)) - 1
    for site in report.sites:
        share = BlockGrid(blocks[site.name], 4, 22).materialize(Layout.plain(22), Layout.plain(22)).float().mean()
        assert site.density == pytest.approx((len(TIMES) - sparse + sparse * float(share)) / len(TIMES))
        assert share < 0.9
    assert report.density == pytest.approx(sum(site.density for site in report.sites) / len(report.sites))


def test_blocks_at_the_end_may_be_short() -> None:
    blocks = torch.rand(2, 3, 4, 4) > 0.5
    grid = BlockGrid(blocks, 5, 17).materialize(Layout.plain(17), Layout.plain(17))
    assert float(share_open(blocks, 5, 17)) == pytest.approx(float(grid.double().mean()))


def test_what_adds_a_bias_at_run_time_computes_every_pair() -> None:
    report, _ = walked(FlashBias(prior=LearnedDistance(weight=torch.ones(16))))
    assert {site.density for site in report.sites} == {1.0} and report.density == 1


def test_sites_that_ran_dense_count() -> None:
    some = SparseD(keep=0.4, block=4, where=at("transformer_blocks*"))
    report, _ = walked(some)
    dense = [site.density for site in report.sites if site.name.startswith("single")]
    assert set(dense) == {1.0} and len(dense) == 2
    assert report.density == pytest.approx(sum(site.density for site in report.sites) / 4)


def test_a_stack_without_systems_is_dense() -> None:
    report, _ = walked()
    assert report.density == 1 and {site.density for site in report.sites if not site.note} == {1.0}


def test_two_masks_of_which_one_is_found_are_not_guessed_at() -> None:
    report, _ = walked(Clear(radius=1.5), SPARSE)
    assert {site.density for site in report.sites} == {None} and isnan(report.density)
    assert "chosen" in str(report)
