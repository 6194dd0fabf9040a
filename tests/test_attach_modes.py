"""One attachment over forwards of different modes and devices; what an attached model refuses."""

import copy
import io
import pickle
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import RefusedError, SaccadeError
from saccade.core.mechanism import Mechanism
from saccade.core.site import at
from saccade.core.state import Memory
from saccade.papers.flashbias import Alibi, FlashBias
from saccade.papers.sparsed import SparseD
from saccade.run import run as run_module
from saccade.seam.kernel_choice import site_device
from saccade.systems.dense import Dense
from tests.hosts.stand_ins import Looking, Masked, Same, Scaled
from tests.hosts.tiny import BY_NAME, PLAIN, output

pytestmark = pytest.mark.host


@dataclass(frozen=True)
class Carried(Mechanism):
    """Multiplies v by the mean of v of the step before."""

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        mem.put("mean", call.v.mean(dim=2, keepdim=True))
        return call.replace(v=call.v * mem.get("mean")) if mem.has("mean") else call


SYSTEMS = {
    "mask": Masked(), "gathered": (Masked(), Dense(kernel="gather")), "bias": FlashBias(prior=Alibi(), tokens="*"),
    "state": Looking(Carried()), "scale": Looking(Scaled()),
}  # fmt: skip


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("where", [at(), at(heads=(1,))], ids=["all-heads", "one-head"])
def test_a_forward_that_trains_may_follow_one_in_inference_mode(name: str, where: Any) -> None:
    systems = SYSTEMS[name] if isinstance(SYSTEMS[name], tuple) else (SYSTEMS[name],)
    model, inputs = BY_NAME["plain"].build()
    found = []
    for mode in (torch.no_grad, torch.inference_mode):
        with attach(model, *systems, layout=PLAIN, where=where) as run:
            run.step(0, of=2)
            with mode():
                output(model, inputs)
            run.step(1, of=2)
            model(**inputs).square().sum().backward()
        found.append(model[0].qkv.weight.grad.clone())
        model.zero_grad()
    torch.testing.assert_close(found[0], found[1])


def test_flux_trains_after_a_look_in_inference_mode() -> None:
    model, inputs = BY_NAME["flux"].build()
    with attach(model, Masked()):
        with torch.inference_mode():
            model(**inputs)
        model(**inputs)[0].square().sum().backward()
    assert model.x_embedder.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["flux", "plain", "llama"])
@pytest.mark.parametrize("what", [pickle.dumps, lambda model: torch.save(model, io.BytesIO()), copy.deepcopy])
def test_pickling_and_copying_any_part_of_an_attached_model_is_refused(name: str, what: Any) -> None:
    model, _ = BY_NAME[name].build()
    with attach(model, Same(), **({"layout": PLAIN} if name == "plain" else {})) as run:
        site = next(module for module in model.modules() if "_saccade_interceptor" in vars(module))
        parts = [model, site, *([site.processor] if hasattr(site, "processor") else [])]
        for part in parts:
            with pytest.raises(SaccadeError, match="is attached by (a )?run.*detach before copying or pickling"):
                what(part)
        assert run.name in str(pytest.raises(SaccadeError, what, site).value) or name == "flux"
    pickle.dumps(model.state_dict())
    copy.deepcopy(model)


def test_a_named_kernel_waits_for_the_pattern_a_system_finds() -> None:
    """Early steps attend densely and find; those after gather the blocks that were found."""
    model, inputs = BY_NAME["plain"].build()
    found = SparseD(keep=0.4, block=4, skip=0.0)

    def walk(*systems: Any) -> list[Tensor]:
        with attach(model, found, *systems, layout=PLAIN) as run:
            outs = []
            for step in range(4):
                run.step(step, of=4)
                outs.append(output(model, inputs))
            kernels = {site.kernel for site in run.report().sites}
        assert not systems or all("gather" in kernel for kernel in kernels)
        return outs

    own, gathered = walk(), walk(Dense(kernel="gather", where=at(during=(0.5, 1.0))))
    for a, b in zip(own, gathered, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    with pytest.raises(RefusedError, match="no mask fixed before the call"):
        walk(Dense(kernel="gather"))


def test_a_named_kernel_that_cannot_take_what_was_found_still_refuses() -> None:
    model, inputs = BY_NAME["plain"].build()
    with attach(model, Same(), Dense(kernel="flex"), layout=PLAIN) as run, pytest.raises(SaccadeError):
        output(model, inputs)
    assert run.report().forwards == 1


def on(device: str, sample: str = "cuda:0", moved: str | None = None) -> torch.device:
    """`site_device` of attention whose weights are on one device under a batch on another, all of it pretended."""
    module = nn.Module()
    with FakeTensorMode():
        module.weight = nn.Parameter(torch.empty(2, device=device))
        if moved is not None:
            module._hf_hook = SimpleNamespace(execution_device=moved)
        return site_device(module, torch.empty(1, device=sample))


def test_a_site_computes_where_its_weights_are_or_will_be() -> None:
    assert on("cuda:1") == torch.device("cuda:1")
    assert on("cuda:1", sample="cpu") == torch.device("cuda:1")
    assert on("cpu") == torch.device("cuda:0")  # offloaded: it comes to the batch
    assert on("meta") == torch.device("cuda:0")
    assert on("meta", moved="cuda:1") == torch.device("cuda:1")
    assert on("cpu", sample="cpu") == torch.device("cpu")


def test_a_model_over_two_devices_has_plans_tables_and_heads_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = BY_NAME["flux"].build()
    with attach(model, Masked()):
        wanted = output(model, inputs)
    seen: list[torch.device] = []

    def pretended(module: nn.Module, sample: Tensor) -> torch.device:
        seen.append(torch.device("cpu", 0) if module is model.transformer_blocks[1].attn else torch.device("cpu"))
        return seen[-1]

    monkeypatch.setattr(run_module, "site_device", pretended)
    with attach(model, Masked()) as run:
        assert torch.equal(output(model, inputs), wanted)
        assert {key[3] for key in run.planner.shared} == {"cpu", "cpu:0"}
    assert len(seen) == 4
