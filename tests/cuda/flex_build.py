"""Have inductor write FlexAttention's CUDA kernel for a card that is not here, and the assembler report on it.

    python flex_build.py CAPABILITY GUARD WIDTH:VALUE_WIDTH ...

Prints a line of JSON for each pair of widths: registers, bytes spilled, bytes of shared memory. A process of its own,
since torch and Triton are made to believe in a card; nothing is launched. GUARD is the compiled `device_guard.cpp`;
the environment must hold `ENVIRONMENT`.
"""

import contextlib
import ctypes
import io
import json
import re
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from saccade.ops import flex_blocks
from saccade.ops.flex import _flex
from saccade.ops.flex_blocks import BlockLists

ENVIRONMENT = {"TRITON_DUMP_PTXAS_LOG": "1", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1", "OMP_NUM_THREADS": "1"}
N, HEADS, TILES = 1024, 2, 4
SHARED = {8: 101376, 9: 232448, 10: 232448, 12: 101376}  # bytes a block may have, the least of each major number
BUILT: list[Any] = []
INDEX = torch.int32


def believe(major: int) -> None:
    """One card of this compute capability, for torch, inductor and Triton."""
    card = SimpleNamespace(
        major=major, minor=0, name="pretended", multi_processor_count=132, total_memory=1 << 36, warp_size=32,
        max_threads_per_multi_processor=2048, regs_per_multiprocessor=65536, gcnArchName="",
        shared_memory_per_block_optin=SHARED[major],
    )  # fmt: skip
    torch.version.cuda = "13.0"
    answers = {
        "is_available": True, "is_initialized": True, "_lazy_init": None, "device_count": 1, "current_device": 0,
        "get_device_capability": (major, 0), "get_device_properties": card, "is_bf16_supported": True,
        "synchronize": None, "_exchange_device": 0, "_maybe_exchange_device": 0,
        "get_rng_state": torch.zeros(16, dtype=torch.uint8), "set_rng_state": None,
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch.cuda.device = torch.cuda._DeviceGuard = lambda *_: contextlib.nullcontext()
    for name in ("_cuda_getDevice", "_cuda_getCurrentRawStream", "_cuda_setDevice"):
        setattr(torch._C, name, lambda *_: 0)
    _believe_in_triton(major)
    _believe_in_inductor()


def _believe_in_triton(major: int) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    limits = {"max_shared_mem": SHARED[major], "max_num_regs": 65536, "multiprocessor_count": 132, "warpSize": 32}
    utils = SimpleNamespace(
        get_device_properties=lambda _: limits, load_binary=lambda *_: (1, 1, 0, 0, 1024), unload_module=lambda _: None
    )
    driver.set_active(
        SimpleNamespace(
            utils=utils, binary_ext="cubin", get_current_target=lambda: GPUTarget("cuda", 10 * major, 32),
            get_current_device=lambda: 0, set_current_device=lambda _: None, get_current_stream=lambda _=None: 0,
            get_active_torch_device=lambda: torch.device("cuda", 0), get_device_interface=lambda: torch.cuda,
            launcher_cls=lambda *_: lambda *_, **__: None, get_benchmarker=lambda: lambda *_, **__: [1.0, 1.0, 1.0],
        )
    )  # fmt: skip


def _believe_in_inductor() -> None:
    import torch._inductor.config as config
    import torch._inductor.runtime.triton_helpers as helpers
    from torch._C._dynamo import guards
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner
    from torch._subclasses import fake_tensor

    config.joint_graph_constant_folding, config.use_static_triton_launcher, config.compile_threads = False, False, 1
    helpers.set_driver_to_gpu = lambda: None
    fake_tensor.FakeTensorMode.avoid_device_init = property(lambda self: True)
    guards._empty_strided_cuda = lambda *how: torch.empty_strided(*how[:2], dtype=how[2], device="cuda")
    guards.assert_size_stride = guards.assert_alignment = lambda *_, **__: None
    CachingAutotuner._make_launcher = _keep
    CachingAutotuner.bench = lambda *_, **__: 1.0


def _keep(tuner: Any, result: Any) -> tuple[Any, None]:
    """Keep what was compiled, and launch nothing."""
    kernel = result.kernel
    BUILT.append(kernel)

    def launch(*_: Any, **__: Any) -> None:
        pass

    about = {"config": result.config, "n_regs": 0, "n_spills": 0, "shared": kernel.metadata.shared, "cache_hash": ""}
    vars(launch).update(about, fn=tuner.fn, bin=kernel, num_warps=kernel.metadata.num_warps, store_cubin=False)
    return launch, None


def build(w: int, dv: int) -> dict[str, Any]:
    """Compile the kernel of one call with lse, block lists and padding."""
    from torch._subclasses import FakeTensorMode

    def made(*shape: int, dtype: torch.dtype = INDEX) -> torch.Tensor:
        return torch.empty(*shape, dtype=dtype, device="cuda")

    log, blocks = io.StringIO(), N // 128
    BUILT.clear()
    torch._dynamo.reset()
    with FakeTensorMode(), torch.no_grad(), contextlib.redirect_stdout(log):
        q, k, v = (made(1, HEADS, N, width, dtype=torch.bfloat16) for width in (w, w, dv))
        listed = made(1, 1, blocks), made(1, 1, blocks, blocks)
        tiles, keep = made(TILES, 128, 128, dtype=torch.bool), made(1, N, dtype=torch.bool)
        map_ = made(1, 1, blocks, blocks, dtype=torch.uint8)
        lists = BlockLists(map_, listed, listed, None, made(1, 1, blocks, blocks), tiles, keep)
        torch.compile(_flex, fullgraph=True, dynamic=False)(q, k, v, lists, 0.1, (128, 128), True)
    return {"w": w, "dv": dv, **next(_reports(log.getvalue()))}


def _reports(log: str) -> Iterator[dict[str, int]]:
    for kernel in BUILT:
        if "flex_attention" in kernel.metadata.name:
            said = log[log.index(f"Compiling entry function '{kernel.metadata.name}'") :]
            spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", said)
            assert spilled is not None
            registers = re.search(r"Used (\d+) registers", said)
            assert registers is not None
            yield {
                "registers": int(registers[1]), "spilled": int(spilled[1]) + int(spilled[2]),
                "shared": kernel.metadata.shared,
            }  # fmt: skip


if __name__ == "__main__":
    ctypes.CDLL(sys.argv[2], mode=ctypes.RTLD_GLOBAL)
    major = int(sys.argv[1])
    believe(major)
    flex_blocks.capability = lambda _: major
    for pair in sys.argv[3:]:
        print(json.dumps(build(*map(int, pair.split(":")))), flush=True)
