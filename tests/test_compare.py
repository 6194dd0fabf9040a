"""Comparison of systems on a real pipeline: fair, paired, honest about what did not run."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from saccade.compare import compare
from saccade.compare.arms import Setup, candidates, to_spec, turned, visits
from saccade.compare.comparison import Comparison
from saccade.compare.export import to_json
from saccade.compare.summary import differences, summarise
from saccade.core.errors import MissingError, SaccadeError
from saccade.data.scenes import prompts
from saccade.papers.clear import Clear
from saccade.papers.flashbias import FlashBias
from saccade.papers.sparsed import SparseD
from saccade.systems.dense import Dense
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
SETUP = Setup(seeds=(0, 1), steps=2, height=48, width=48, batch=2, options={"max_sequence_length": 24})


@dataclass(frozen=True, kw_only=True)
class Impossible:
    """A system no host takes."""

    name: str = "impossible"

    def plan(self, site: Any, clock: Any) -> tuple[Any, ...]:
        raise MissingError(host="any", site=site.name, item="moon", mend="wait for the night")


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_flux()


@pytest.fixture(scope="module")
def made(pipe: Any) -> Comparison:
    systems = [Clear(radius=1.5), Clear(radius=99), (Clear(radius=2), FlashBias()), Impossible()]
    return compare(pipe, systems, prompts(2, seed=1), setup=SETUP, name="tiny")


def test_arms_are_floor_reference_then_systems_with_what_was_refused_left_out(made: Comparison) -> None:
    assert [arm.role for arm in made.arms] == ["floor", "reference", "system", "system", "system"]
    assert [arm.label for arm in made.arms][2:4] == ["clear(radius=1.5)", "clear(radius=99)"]
    assert any("impossible" in line and "wait for the night" in line for line in made.remarks)


def test_every_arm_draws_every_prompt_with_every_seed(made: Comparison) -> None:
    for arm in made.arms:
        assert [(d.prompt, d.seed) for d in arm.drawn] == [(0, 0), (1, 0), (0, 1), (1, 1)]
        assert len(arm.seconds) == 2 and min(arm.seconds) > 0


def test_the_reference_is_the_pipeline_without_saccade(pipe: Any, made: Comparison) -> None:
    for drawn in made.reference.drawn:
        noise = torch.Generator().manual_seed(drawn.seed)
        plain = pipe(
            made.prompts[drawn.prompt], generator=noise, num_inference_steps=2, height=48, width=48,
            max_sequence_length=24, output_type="np",
        ).images[0]  # fmt: skip
        assert np.abs(plain - drawn.picture[0]).max() < 1e-5  # alone against in a batch of two


def test_the_floor_is_far_above_what_a_window_costs(made: Comparison) -> None:
    floor, dense, narrow, wide, _ = summarise(made)
    assert dense.psnr is None and floor.psnr is not None and narrow.psnr is not None
    assert floor.psnr.mid > 90
    assert narrow.psnr.mid < floor.psnr.mid - 20
    assert narrow.density < 1 and wide.density == 1


def test_a_window_that_covers_the_grid_is_dense(made: Comparison) -> None:
    wide = summarise(made)[3]
    assert wide.same == wide.pictures == 4


def test_the_same_arm_twice_draws_the_same_bits(pipe: Any) -> None:
    setup = Setup(steps=2, height=48, width=48, floor=None)
    twice = compare(pipe, [Clear(radius=1.5), Clear(radius=1.5)], ["a red circle"], setup=setup)
    first, second = twice.arms[1:]
    assert second.label == "clear(radius=1.5) #2"
    assert np.array_equal(first.drawn[0].picture, second.drawn[0].picture)


def test_attention_takes_part_of_the_whole_time(made: Comparison) -> None:
    for arm in made.arms:
        assert len(arm.attention) == len(arm.seconds)
        assert all(0 < part < whole for part, whole in zip(arm.attention, arm.seconds, strict=True))


def test_a_compiled_model_is_timed_as_a_whole_only() -> None:
    pipe = tiny_flux()
    object.__setattr__(pipe.transformer, "_orig_mod", pipe.transformer)  # the mark of torch.compile
    made = compare(pipe, [Clear(radius=2)], ["a"], setup=Setup(steps=1, height=48, width=48, floor=None))
    assert all(arm.attention == () and len(arm.seconds) == 1 for arm in made.arms)
    assert all(figures.attention is None and figures.efficiency is None for figures in summarise(made))


def test_sites_tell_what_ran_where(made: Comparison) -> None:
    narrow = made.arm("clear(radius=1.5)")
    assert [site.name for site in narrow.sites] == ["transformer_blocks.0.attn", "single_transformer_blocks.0.attn"]
    assert all(site.systems == ("clear",) and site.calls == 4 and site.seconds for site in narrow.sites)
    assert 0 < (narrow.sites[0].density or 0) < 1


def test_scenes_are_judged_by_their_prompts_and_plain_texts_are_not(pipe: Any, made: Comparison) -> None:
    assert all(0 <= d.verdict["all"] <= 1 for arm in made.arms for d in arm.drawn if d.verdict)
    assert all(d.verdict is not None for arm in made.arms for d in arm.drawn)
    plain = compare(pipe, [], ["a red circle"], setup=Setup(steps=1, height=48, width=48, floor=None))
    assert plain.reference.drawn[0].verdict is None
    assert summarise(plain)[0].accuracy is None


def test_pictures_that_cannot_be_judged_are_left_unjudged_with_the_reason(pipe: Any) -> None:
    made = compare(pipe, [], prompts(1, seed=1), setup=Setup(steps=1, height=32, width=32, floor=None))
    assert made.reference.drawn[0].verdict is None
    assert any("prompts are not judged: image of side 32 must be 48" in line for line in made.remarks)


def test_nothing_is_left_on_the_pipeline(pipe: Any, made: Comparison) -> None:
    processors = pipe.transformer.attn_processors
    assert not any("saccade" in type(p).__module__ for p in processors.values())
    assert not pipe.transformer._forward_hooks and not pipe.transformer._forward_pre_hooks
    assert pipe._progress_bar_config == {"disable": True}  # as the fixture left it


def test_json_holds_all_figures_and_survives_a_round_trip(made: Comparison) -> None:
    stored = json.loads(json.dumps(to_json(made), allow_nan=False))
    assert [arm["label"] for arm in stored["arms"]] == [arm.label for arm in made.arms]
    summary = summarise(made)[2]
    assert stored["arms"][2]["summary"]["psnr"]["mid"] == summary.psnr.mid
    assert stored["arms"][2]["seconds"] == list(made.arms[2].seconds)
    assert len(stored["arms"][2]["pictures"]) == 4 and stored["versions"]["torch"] == torch.__version__
    assert stored["arms"][3]["pictures"][0]["same"] is True and stored["arms"][3]["pictures"][0]["psnr"] is None


def test_differences_between_systems_are_antisymmetric(made: Comparison) -> None:
    found = differences(made)
    narrow, stack = made.arms[2].label, made.arms[4].label
    assert found[narrow, stack].mid == pytest.approx(-found[stack, narrow].mid)
    assert not any("radius=99" in a for pair in found for a in pair)  # it is dense, without a finite PSNR


def test_progress_counts_every_run(pipe: Any) -> None:
    reports: list[tuple[int, int, str]] = []
    setup = Setup(steps=1, height=48, width=48, floor=None, repeats=2)
    compare(pipe, [Dense()], ["a", "b"], setup=setup, progress=lambda *call: reports.append(call))
    assert [done for done, _, _ in reports] == list(range(len(reports)))
    assert reports[-1][:2] == (len(reports) - 1, len(reports)) and len(reports) == 2 + 2 * 4


def test_if_every_system_is_refused_the_error_says_why(pipe: Any) -> None:
    with pytest.raises(SaccadeError, match="no system could be attached[^$]*impossible was left out: .*moon"):
        compare(pipe, [Impossible()], ["a"], setup=Setup(steps=1, height=48, width=48, floor=None))


def test_arms_run_in_turns() -> None:
    arms = candidates([Clear(radius=r) for r in (1, 2, 3)], floor=None)
    orders = [[arm.label for arm in turned(arms, visit)] for visit in range(8)]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len({order[0] for order in orders}) == len(arms)
    assert len({tuple(order) for order in orders}) > 4


def test_visits_cover_prompts_and_seeds_in_batches() -> None:
    plan = visits(3, Setup(seeds=(5, 6, 7), batch=4, repeats=2))
    assert [len(visit.jobs) for visit in plan] == [4, 4, 1, 4, 4, 1]
    assert [visit.first for visit in plan] == [True] * 3 + [False] * 3
    assert {job for visit in plan if visit.first for job in visit.jobs} == {(p, s) for p in range(3) for s in (5, 6, 7)}


def test_a_mapping_names_the_arms() -> None:
    """What was asked for is what is shown, even where an option is the default."""
    found = candidates({"sparsed(keep=0.3)": SparseD(keep=0.3), "both": (SparseD(), Clear(radius=2))}, None)
    assert [arm.label for arm in found] == ["dense", "sparsed(keep=0.3)", "both"]
    assert [len(arm.stack) for arm in found] == [0, 1, 2]


def test_labels_spell_what_differs_from_the_defaults() -> None:
    assert to_spec(Dense()) == "dense"
    assert to_spec(Clear(radius=8, pool=4)) == "clear(radius=8, pool=4)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": ()}, r"seeds=\(\) leaves nothing to draw"),
        ({"batch": 0}, "batch=0 must be at least 1"),
        ({"steps": -1}, "steps=-1 must be at least 1"),
    ],
)
def test_bad_setups_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Setup(**given)


def test_no_prompt_is_an_error(pipe: Any) -> None:
    with pytest.raises(ValueError, match=r"prompts=\(\) leaves nothing to draw"):
        compare(pipe, [], [])
