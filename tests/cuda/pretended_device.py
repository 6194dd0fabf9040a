"""Tensors that say cuda:0 or cuda:1 and hold their numbers on the CPU, for eager code on a machine without a card.

Inside `Cards()` every operator runs for real on the numbers held. Operands on two devices raise as on CUDA, every wait
for the card (a number read back, a copy between devices, a size that depends on data) is noted with the line that asked
for it, and kernel launches are counted. What is compiled cannot run here.
"""

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode

from tests.cuda.pretended_kernels import KERNELS, OWN, attention

HERE = Path(__file__).resolve().parent
OWN_FILES = {"torch", "pretended_device.py", "pretended_kernels.py", "conftest.py"}
READS = {
    "_local_scalar_dense", "equal", "nonzero", "nonzero_numpy", "masked_select", "bincount", "_unique2", "unique_dim",
    "unique_consecutive", "is_nonzero", "allclose",
}  # fmt: skip
MOVES = ("_to_copy", "copy_")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")


class Card(Tensor):
    """A tensor on a pretended card; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> "Card":
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=device, requires_grad=held.requires_grad,
        )  # fmt: skip
        made.held = held
        return made

    def __init__(self, held: Tensor, device: torch.device) -> None:
        pass

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self) -> str:
        return f"Card({self.held!r}, {self.device})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is OWN:  # compiled without CUDA it would write out the map
            return attention(*args, **(kwargs or {}))
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on a pretended card outside Cards()")


class Cards(TorchDispatchMode):
    """Two pretended cards.

    waits     what was waited for, and the line of this library or a host's that asked
    launches  operators that start a kernel
    kernels   names of torch's attention kernels that ran
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.launches = 0
        self.kernels: list[str] = []

    def reset(self) -> None:
        """Forget what was noted."""
        self.waits.clear()
        self.kernels.clear()
        self.launches = 0

    def put(self, x: Tensor, device: str = "cuda:0") -> Card:
        """A copy of x on a card, outside what is noted."""
        return Card(x.detach().clone(), torch.device(device))

    def move(self, module: nn.Module, device: str = "cuda:0") -> None:
        """All parameters, without gradients, and buffers of a model."""
        for part in module.modules():
            for name, x in part._parameters.items():
                part._parameters[name] = x if x is None else nn.Parameter(self.put(x, device), requires_grad=False)
            for name, x in part._buffers.items():
                part._buffers[name] = x if x is None else self.put(x, device)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func._schema.name.partition("::")[2]
        if func.namespace == "saccade":
            with self:
                return OPDEFS[func._schema.name]._init_fn(*args, **kwargs)
        tensors = list(_tensors((*args, *kwargs.values())))
        device = self._device(name, tensors, args, kwargs)
        self._note(name, tensors, args, kwargs)
        if device is not None and not func.is_view and name != "detach":
            self.launches += 1
        run = func
        if device is not None and name in KERNELS:
            self.kernels.append(name.removeprefix("_scaled_dot_product_").removesuffix("_attention"))
            run = KERNELS[name]
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        made = run(*_held(args), **{key: _held(x) for key, x in kwargs.items()})
        return made if device is None else _wrapped(made, device, tensors)

    def _device(self, name: str, tensors: list[Tensor], args: Any, kwargs: Any) -> torch.device | None:
        """Where the result lies: None for the CPU. Raises RuntimeError where devices are mixed."""
        devices = {x.device for x in tensors if isinstance(x, Card)}
        if (asked := kwargs.get("device")) is not None:
            asked = torch.device(asked)
            return None if asked.type != "cuda" else torch.device("cuda", asked.index or 0)
        if name == "copy_":
            return args[0].device if isinstance(args[0], Card) else None
        others = [x for x in tensors if not isinstance(x, Card) and x.ndim and not _is_index(name, x, args)]
        if len(devices) > 1 or (devices and others and name not in MOVES):
            found = sorted({*map(str, devices), *(str(x.device) for x in others)})
            raise RuntimeError(f"expected one device, found {' and '.join(found)} in {name} at {_line()}")
        return next(iter(devices), None)

    def _note(self, name: str, tensors: list[Tensor], args: Any, kwargs: Any) -> None:
        on_card = any(isinstance(x, Card) for x in tensors)
        if name in MOVES:
            to = kwargs.get("device") if name == "_to_copy" else args[0].device
            source = tensors[-1].device
            if (
                to is not None
                and torch.device(to) != source
                and not (kwargs.get("non_blocking") or args[2:3] == (True,))
            ):
                self._wait(f"copy {source} -> {to}")
        elif on_card and (name in READS or (name == "repeat_interleave" and kwargs.get("output_size") is None)):
            self._wait(name)
        elif on_card and name in INDEXING and any(_is_slow(x) for x in args[1]):
            self._wait(f"{name} by a mask or a CPU index")

    def _wait(self, what: str) -> None:
        self.waits.append(f"{what} at {_line()}")


def load_guard(folder: Path, compiler: str) -> Path:
    """Compile and load `device_guard.cpp`."""
    home, library = Path(torch.__file__).parent, folder / "device_guard.so"
    source = [compiler, "-std=c++20", "-shared", "-fPIC", str(HERE / "device_guard.cpp"), "-o", str(library)]
    where = [f"-I{home / 'include'}", f"-L{home / 'lib'}", "-lc10", f"-Wl,-rpath,{home / 'lib'}"]
    subprocess.run([*source, *where], check=True)
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return library


def _tensors(x: Any) -> Iterator[Tensor]:
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, list | tuple):
        for part in x:
            yield from _tensors(part)


def _held(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)(_held(part) for part in x)
    return x.held if isinstance(x, Card) else x


def _wrapped(made: Any, device: torch.device, tensors: list[Tensor]) -> Any:
    """Results as cards; an argument that is returned stays itself."""
    if isinstance(made, list | tuple):
        return type(made)(_wrapped(x, device, tensors) for x in made)
    if not isinstance(made, Tensor):
        return made
    own = next((x for x in tensors if isinstance(x, Card) and x.held is made), None)
    return Card(made, device) if own is None else own


def _is_index(name: str, x: Tensor, args: Any) -> bool:
    return name in INDEXING and any(x is index for index in args[1])


def _is_slow(index: Tensor | None) -> bool:
    return index is not None and (not isinstance(index, Card) or index.dtype in (torch.bool, torch.uint8))


def _line() -> str:
    """The innermost line of a file that is neither torch's nor of these cards."""
    frame = sys._getframe(1)
    while frame.f_back and OWN_FILES & {*Path(frame.f_code.co_filename).parts}:
        frame = frame.f_back
    return f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_lineno}"
