"""Dense attention as a system."""

import pytest
import torch

from saccade.core.clock import Clock
from saccade.core.errors import ConflictError
from saccade.core.layout import Layout
from saccade.core.mechanism import KernelChoice
from saccade.core.site import Site, at
from saccade.core.stack import Plan, make_plan
from saccade.papers.clear import Clear
from saccade.systems.dense import Dense

SITE = Site(name="blocks.0.attn", kind="joint", heads=2)
LAYOUT = Layout.joint(text=2, grid=(1, 4, 4))


def planned(**systems: object) -> Plan:
    items = {name: system.plan(SITE, Clock()) for name, system in systems.items()}  # type: ignore[attr-defined]
    return make_plan(items, SITE, LAYOUT, LAYOUT, torch.device("cpu"))


def test_dense_without_a_kernel_does_nothing() -> None:
    assert Dense().plan(SITE, Clock()) == ()
    assert planned(dense=Dense()).empty


def test_dense_names_its_kernel_and_nothing_else() -> None:
    plan = planned(dense=Dense(kernel="reference"))
    assert plan.kernel == "reference" and plan.mask is None and plan.bias is None
    assert Dense(kernel="sdpa", where=at("*single*")).plan(SITE, Clock()) == ()


def test_a_kernel_chosen_by_one_system_runs_the_whole_stack() -> None:
    plan = planned(dense=Dense(kernel="reference"), clear=Clear(radius=2))
    assert plan.kernel == "reference" and plan.mask is not None


def test_two_kernels_at_one_site_are_a_conflict() -> None:
    assert planned(a=Dense(kernel="sdpa"), b=Dense(kernel="sdpa")).kernel == "sdpa"
    with pytest.raises(
        ConflictError, match="'a' wants kernel 'sdpa' and 'b' kernel 'reference' at site 'blocks.0.attn'"
    ):
        planned(a=Dense(kernel="sdpa"), b=Dense(kernel="reference"))


def test_the_plan_is_equal_from_step_to_step() -> None:
    dense = Dense(kernel="sdpa")
    assert dense.plan(SITE, Clock()) == dense.plan(SITE, Clock(step=3, num_steps=9)) == (KernelChoice("sdpa"),)
