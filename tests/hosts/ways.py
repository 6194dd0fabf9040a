"""The ways people run a model, each tried on a tiny model with a mask attached: does it give what it should?

A way prepares a second model of the same weights and returns its output under the mask; the first, run plainly under
the same mask, says what that must be. `python -m tests.hosts.ways` writes down what came of every host.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from saccade.core.errors import SaccadeError
from saccade.ui.markdown import fill_marks, markdown_table
from tests.hosts.host import Host, attach, output
from tests.hosts.pipeline_ways import WAYS as PIPELINE_WAYS
from tests.hosts.stand_ins import Masked

FILE = Path(__file__).with_name("ways.json")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "host_ways.md"
NONE, FAILS = "the class has no such thing", "the class by itself fails so"
RANK = 2
Model = Any
Inputs = dict[str, Any]


class NotOffered(Exception):
    """The class itself does not do this."""


class FailsAlone(Exception):
    """The class cannot run so, with nothing attached."""


def alone(model: Model, inputs: Inputs) -> None:
    """Run it with nothing attached; FailsAlone where it cannot."""
    try:
        model(**inputs)
    except Exception as error:
        raise FailsAlone from error


def masked(host: Host, model: nn.Module, inputs: Inputs) -> Tensor:
    """Its output under the mask; FailsAlone where it has none with nothing attached."""
    with torch.no_grad():
        alone(model, inputs)
    return attached(host, model, inputs)


def attached(host: Host, model: nn.Module, inputs: Inputs) -> Tensor:
    with attach(model, Masked(host.window)):
        return output(model, inputs)


@lru_cache(maxsize=2)  # the ways of a host are tried one after the other
def plainly(host: Host) -> Tensor:
    """What a host gives under the mask, run in no special way."""
    return masked(host, *host.build())


def asked(model: Model, method: str, *args: Any, **kwargs: Any) -> None:
    """Call a method of the class; NotOffered where it has none or says that it cannot."""
    if not hasattr(model, method):
        raise NotOffered
    try:
        getattr(model, method)(*args, **kwargs)
    except (ValueError, NotImplementedError, AttributeError, TypeError, RuntimeError) as error:
        raise NotOffered from error


def cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Inputs with all floating tensors but places, wherever they lie, in another type."""

    def one(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(dtype) if value.is_floating_point() else value
        if isinstance(value, list | tuple):
            return type(value)(one(v) for v in value)
        return {k: one(v) for k, v in value.items()} if isinstance(value, dict) else value

    return {k: v if k.endswith("ids") else one(v) for k, v in inputs.items()}


def near(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    scale = wanted.float().abs().amax()
    assert found.shape == wanted.shape and found.isfinite().all()
    assert (found.float() - wanted.float()).abs().amax() <= tolerance * scale


def as_near(found: Tensor, wanted: Tensor, own: Tensor, fine: Tensor) -> None:
    """Under the mask, a half-precision run is as near to the fine one as without."""
    rounding = float((own.float() - fine.float()).abs().amax() / fine.float().abs().amax())
    near(found, wanted, max(0.1, 3 * rounding))


def bfloat16(host: Host) -> None:
    model, inputs = host.build()
    wanted, fine, half = plainly(host), output(model, inputs), cast(inputs, torch.bfloat16)
    model = model.to(torch.bfloat16)
    found, plain = masked(host, model, half), output(model, half)
    with attach(model):
        assert torch.equal(output(model, half), plain)
    assert found.dtype == plain.dtype
    as_near(found, wanted, plain, fine)


def autocast(host: Host) -> None:
    model, inputs = host.build()
    wanted, fine = plainly(host), output(model, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        as_near(masked(host, model, inputs), wanted, output(model, inputs), fine)


def layerwise_casting(host: Host) -> None:
    model, inputs = host.build()
    asked(model, "enable_layerwise_casting", storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
    rounded, _ = host.build()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            rounded.get_parameter(name).copy_(parameter)
    near(masked(host, model, inputs), masked(host, rounded, inputs), 1e-4)


def _lora(host: Host, order: str) -> None:
    from peft import LoraConfig

    (model, inputs), (merged, _) = host.build(), host.build()
    names = sorted({n.rpartition(".")[2] for n, m in _linears(model) if n.rpartition(".")[2].startswith("to_")})
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=names or "all-linear", init_lora_weights=False)
    if order == "while attached":
        with attach(model, Masked(host.window)):
            _adapt(model, config)
            found = output(model, inputs)
    else:
        _adapt(model, config)
        if order == "fused":
            asked(model, "fuse_lora")
        found = masked(host, model, inputs)
    _merge(merged, model)
    wanted = masked(host, merged, inputs)
    near(found, wanted, 1e-3)
    assert not torch.allclose(found, plainly(host), atol=1e-5)


def _linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def _adapt(model: Model, config: Any) -> None:
    torch.manual_seed(1)
    asked(model, "add_adapter", config)


@torch.no_grad()
def _merge(merged: Model, adapted: Model) -> None:
    """Add to the weights of one what the adapter of the other adds beside them."""
    for name, module in adapted.named_modules():
        if hasattr(module, "lora_A"):
            down, up = (getattr(module, part)["default"].weight for part in ("lora_A", "lora_B"))
            merged.get_submodule(name).weight += module.scaling["default"] * up @ down


def lora_before_attach(host: Host) -> None:
    _lora(host, "before")


def lora_while_attached(host: Host) -> None:
    _lora(host, "while attached")


def lora_fused(host: Host) -> None:
    _lora(host, "fused")


def fused_projections(host: Host) -> None:
    model, inputs = host.build()
    wanted = plainly(host)
    asked(model, "fuse_qkv_projections")
    if not any(getattr(m, "fused_projections", False) for m in model.modules()):
        raise NotOffered
    near(masked(host, model, inputs), wanted, 1e-3)


def gradient_checkpointing(host: Host) -> None:
    grads: list[Tensor] = []
    plain: list[Tensor] = []
    for checkpointing in (False, True):
        model, inputs = host.build()
        model.train()
        if checkpointing:
            asked(model, "enable_gradient_checkpointing")
        alone(model, inputs)
        with torch.enable_grad():
            plain.append(torch.cat([x.flatten() for x in tree_leaves(model(**inputs)) if isinstance(x, Tensor)]))
        if not torch.allclose(plain[-1], plain[0], rtol=1e-3, atol=1e-4):
            raise FailsAlone
        with attach(model, Masked(host.window)):
            outputs = [x for x in tree_leaves(model(**inputs)) if isinstance(x, Tensor)]
            torch.stack([x.float().square().sum() for x in outputs]).sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    near(grads[1], grads[0], 1e-4)


def cpu_offload(host: Host) -> None:
    from accelerate import cpu_offload as offload

    model, inputs = host.build()
    wanted = plainly(host)
    offload(model, execution_device=torch.device("cpu"))
    near(masked(host, model, inputs), wanted, 1e-6)


def group_offload(host: Host) -> None:
    model, inputs = host.build()
    wanted, cpu = plainly(host), torch.device("cpu")
    asked(model, "enable_group_offload", onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
    near(masked(host, model, inputs), wanted, 1e-6)


def native_backend(host: Host) -> None:
    model, inputs = host.build()
    wanted = plainly(host)
    asked(model, "set_attention_backend", "native")
    near(masked(host, model, inputs), wanted, 1e-6)


def first_block_cache(host: Host) -> None:
    from diffusers import FirstBlockCacheConfig

    model, inputs = host.build()
    asked(model, "enable_cache", FirstBlockCacheConfig(threshold=0.1))
    with attach(model, Masked(host.window)), model.cache_context("cond"):
        output(model, inputs)


def regional_compile(host: Host) -> None:
    model, inputs = host.build()
    if not getattr(model, "_repeated_blocks", None):
        raise NotOffered
    torch._dynamo.reset()
    wanted = plainly(host)
    asked(model, "compile_repeated_blocks", backend="eager")  # traced; every family's graph is lowered elsewhere
    try:
        found = attached(host, model, inputs)
    except Exception:  # only then compiled with nothing attached, which takes as long
        masked(host, model, inputs)
        raise
    near(found, wanted, 1e-4)
    torch._dynamo.reset()


WAYS: dict[str, Callable[[Host], None]] = {
    "bfloat16": bfloat16,
    "autocast": autocast,
    "layerwise casting": layerwise_casting,
    "LoRA, then attach": lora_before_attach,
    "attach, then LoRA": lora_while_attached,
    "LoRA fused": lora_fused,
    "fused projections": fused_projections,
    "checkpointing": gradient_checkpointing,
    "offload": cpu_offload,
    "group offload": group_offload,
    "back end chosen": native_backend,
    "first-block cache": first_block_cache,
    "blocks compiled": regional_compile,
}


def outcome(host: Host, way: str) -> str:
    """`works`, NONE, FAILS, or what `attach` said as it refused."""
    try:
        WAYS[way](host)
    except NotOffered:
        return NONE
    except FailsAlone:
        return FAILS
    except SaccadeError as error:
        return f"refused: {error}"
    return "works"


def tables(found: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Markdown of what came of every way: hosts by ways, and what was said where a way is refused."""
    signs = {"works": "yes", NONE: "-", FAILS: "not alone"}
    rows = [(host, *(signs.get(said, "refused") for said in ways.values())) for host, ways in found.items()]
    words = {s.partition(": ")[2].split(" cannot be attached: ")[-1] for ways in found.values() for s in ways.values()}
    pipelines = [(pipeline, ", ".join(ways)) for pipeline, ways in PIPELINE_WAYS.items()]
    return {
        "ways": markdown_table(("host", *WAYS), rows),
        "refusals": "\n".join(f"- {said}" for said in sorted(words - {""})),
        "pipelines": markdown_table(("pipelines", "called so"), pipelines),
    }


def main() -> None:
    """Try every way on every host, write down what came of it, and fill the page."""
    from tests.hosts.tiny import DRAWING

    hosts = DRAWING
    found = {host.name: {way: outcome(host, way) for way in WAYS} for host in hosts}
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(fill_marks(PAGE.read_text(), tables(found)))


if __name__ == "__main__":
    main()
