"""FreeFlux on tiny random models of the real classes."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from saccade.analysis.layers import LayerSets
from saccade.attach import attach
from saccade.core.errors import ConflictError, MissingError, SelectorError
from saccade.core.rows import Rows
from saccade.core.site import at
from saccade.core.state import Tape
from saccade.papers.clear import Clear
from saccade.papers.consistedit import ConsistEdit
from saccade.papers.freeflux import AddObject, FreeFlux, KeepRegion, Reshape
from saccade.systems.operand_recorder import OperandRecorder
from saccade.systems.word_map import WordMap
from tests.hosts.tiny import BY_NAME, output
from tests.papers.consistedit.test_consistedit_hosts import GRIDS, LEVELS, PAIR, built, schedule, walk

pytestmark = pytest.mark.host
HOSTS = ("flux", "qwen_image", "hunyuan_video", "wan", "cogvideox", "sd3")
every_host = pytest.mark.parametrize("name", HOSTS)


def layers(model: Any) -> LayerSets:
    """The first layer hangs on positions, the last goes by content."""
    with attach(model) as run:
        names = [site.name for site in run.sites if site.kind != "cross"]
    return LayerSets.numbered(names, position=(0,), content=(len(names) - 1,))


def middle(name: str) -> Tensor:
    mask = torch.zeros(GRIDS[name])
    mask[..., 0, 0] = 1
    return mask


def kinds(name: str) -> tuple[Any, ...]:
    keep = middle(name)
    return AddObject(free=keep), Reshape(), KeepRegion(keep=keep), KeepRegion(keep=keep, by=(1, 1))


@every_host
def test_source_rows_are_bitwise_their_own_and_targets_differ(name: str) -> None:
    model, inputs = built(name)
    sets = layers(model)
    for kind in kinds(name):
        with attach(model, FreeFlux(edit=kind, layers=sets), rows=PAIR, schedule=schedule()):
            out = walk(model, inputs, name)
        with attach(model, rows=PAIR, schedule=schedule()):
            without = walk(model, inputs, name)
        assert all(torch.equal(a[0], b[0]) for a, b in zip(out, without, strict=True))
        assert (out[-1][1] - without[-1][1]).abs().max() > 1e-7


@every_host
def test_twins_stay_twins_and_nothing_is_left_behind(name: str) -> None:
    model, inputs = built(name)
    sets, plain = layers(model), output(model, inputs)
    twins = {k: v[[0, 0]] if isinstance(v, Tensor) and len(v) == 2 else v for k, v in inputs.items()}
    for kind in (*kinds(name)[:3],):
        with attach(model, FreeFlux(edit=kind, layers=sets), rows=PAIR, schedule=schedule()):
            for out in walk(model, twins, name):
                torch.testing.assert_close(out[0], out[1], atol=1e-5, rtol=1e-5)
    assert torch.equal(output(model, inputs), plain)


def test_twins_are_bitwise_the_same_picture_on_flux() -> None:
    model, inputs = built("flux")
    twins = {k: v[[0, 0]] if isinstance(v, Tensor) and len(v) == 2 else v for k, v in inputs.items()}
    for kind in kinds("flux")[:3]:
        with attach(model, FreeFlux(edit=kind, layers=layers(model)), rows=PAIR, schedule=schedule()):
            assert all(torch.equal(*out) for out in walk(model, twins, "flux"))


def test_what_each_layer_attends_with() -> None:
    model, inputs = built("flux")
    source, target, sets = Tape(), Tape(), layers(model)
    tapes = [OperandRecorder(tape=t, role=r, where=at()) for t, r in ((source, "source"), (target, "target"))]
    with attach(model, FreeFlux(edit=Reshape(), layers=sets), *tapes, rows=PAIR, schedule=schedule()) as run:
        walk(model, inputs, "flux")
    for site in run.sites[1:]:  # before any text was attended to both rows are the same of themselves
        for sigma in LEVELS[1:]:
            theirs, own = source.at(sigma, site.name), target.at(sigma, site.name)
            same = [operand for operand in "qkv" if torch.equal(theirs[operand], own[operand])]
            assert same == (["k", "v"] if site.name in sets.content else [])


@pytest.mark.parametrize("kind", [AddObject(), Reshape(), KeepRegion(keep=torch.eye(4), steps=0.5)], ids=str)
def test_a_tape_stands_for_the_source_row(kind: Any) -> None:
    model, inputs = built("flux")
    second = {k: v[1:] if isinstance(v, Tensor) and len(v) == 2 else v for k, v in inputs.items()}
    tape, sets = Tape(), layers(model)
    record = OperandRecorder(tape=tape, operands="kv", role="source", where=at())
    with attach(model, FreeFlux(edit=kind, layers=sets), record, rows=PAIR, schedule=schedule()):
        both = walk(model, inputs, "flux")
    with attach(model, FreeFlux(edit=kind, layers=sets, tape=tape), rows=Rows.of("target"), schedule=schedule()):
        alone = walk(model, second, "flux")
    for a, b in zip(alone, both, strict=True):
        torch.testing.assert_close(a[0], b[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["flux", "hunyuan_video", "qwen_image"])
def test_words_are_watched_before_what_the_first_pass_shares(name: str) -> None:
    """The order of the systems does not count, and the picture stays bitwise that of the pass without watching."""
    model, inputs = built(name)
    sets = LayerSets.numbered(layers(model).sites, position=range(len(layers(model).sites)))
    first, found = FreeFlux(edit=AddObject(), layers=sets), []
    watched = WordMap(tokens={"it": (0, 1)}, mutual=True, role="target", where=at())
    with attach(model, first, rows=PAIR, schedule=schedule()):
        plain = walk(model, inputs, name)
    for stack in ((watched, first), (first, watched)):
        with attach(model, *stack, rows=PAIR, schedule=schedule()) as run:
            out = walk(model, inputs, name)
            found.append(watched.heat(run.state)["it"])
        assert all(torch.equal(a, b) for a, b in zip(out, plain, strict=True))
    assert torch.equal(*found) and found[0].shape == (1, *((1,) * (3 - len(GRIDS[name])) + GRIDS[name]))


def test_half_precision_and_guidance_rows() -> None:
    model, inputs = built("sd3")
    four = {k: v.repeat(2, *[1] * (v.ndim - 1)) if isinstance(v, Tensor) else v for k, v in inputs.items()}
    half = {k: v.bfloat16() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in four.items()}
    system = FreeFlux(edit=KeepRegion(keep=middle("sd3")))
    with attach(model, system, rows=PAIR.under("uncond", "cond")):
        out = output(model, four)
    with attach(model, system, rows=PAIR):
        pair = output(model, inputs)
    torch.testing.assert_close(out, pair.repeat(2, 1, 1, 1), atol=1e-5, rtol=1e-5)
    with attach(model.bfloat16(), system, rows=PAIR.under("uncond", "cond")):
        low = output(model, half)
    assert low.dtype == torch.bfloat16 and (low.float() - out).abs().max() < 0.2


def test_beside_other_systems() -> None:
    model, inputs = built("flux")
    system = FreeFlux(edit=Reshape(), layers=layers(model))
    with attach(model, Clear(radius=2), system, rows=PAIR):
        assert output(model, inputs).isfinite().all()
    with attach(model, ConsistEdit(), system, rows=PAIR):
        with pytest.raises(ConflictError, match="'consistedit' and 'freeflux' both change"):
            output(model, inputs)


@pytest.mark.compile
def test_compiled_agrees_with_eager_with_no_graph_per_step() -> None:
    torch._dynamo.reset()
    counters.clear()
    model, inputs = built("flux", shallow=True)
    sets = layers(model)
    watched = WordMap(tokens={"it": (0, 1)}, mutual=True, role="target", where=at())
    for kind in (AddObject(free=middle("flux")), KeepRegion(keep=middle("flux"), by=(1, 1), steps=0.5)):
        stack = (watched, FreeFlux(edit=kind, layers=sets))
        with attach(model, *stack, rows=PAIR, schedule=schedule()):
            eager = walk(model, inputs, "flux")
        outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
        with attach(outer, *stack, rows=PAIR, schedule=schedule()):
            for a, b in zip(walk(outer, inputs, "flux"), eager, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.bad_input
def test_what_cannot_be_done_is_refused_by_name() -> None:
    model, inputs = built("flux")
    system = FreeFlux(edit=Reshape(), layers=layers(model))
    with pytest.raises(MissingError, match=r"no 'rows.target' .*pass rows=Rows.of"), attach(model, system):
        output(model, inputs)
    with pytest.raises(ValueError, match="rows of 3 were given to attach, this forward has 2 batch rows"):
        with attach(model, system, rows=Rows(("source", "target", "target"), (0, 0, 0))):
            output(model, inputs)
    other, given = BY_NAME["wan"].build()
    with pytest.raises(SelectorError, match="they are of another model: probe this one"):
        with attach(other, system, rows=PAIR):
            output(other, given)
