"""Parts of a forward that run again in backward, as gradient checkpointing has it, run under that forward's own plans.

What a forward keeps for backward passes through hooks of its own, the inputs of checkpointed parts included. So when
backward takes something out, the forward it belongs to is known, and its plans are put back at their sites before a
part of it runs again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from saccade.core.errors import StateError
from saccade.core.state import Memory
from saccade.seam.checkpointing import called_by_checkpointing
from saccade.seam.entry import HERE
from saccade.seam.interceptor import SiteInterceptor

_autograd = torch._C._autograd  # type: ignore[attr-defined]
PER_FORWARD = ("active", "open", "plan", "added", "layout_q", "layout_k", "rows", "ahead", "heads", "memories")
Hooks = tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]


@dataclass(frozen=True, eq=False)
class Kept:
    """A tensor kept for backward, its version, the site it was kept in, and whether a checkpointed part starts here."""

    value: Any
    version: int | None
    site: SiteInterceptor | None
    checkpoint: bool


@dataclass(eq=False)
class Forwards:
    """The forwards of one run: the one in progress, and the one whose plans stand at the sites."""

    name: str
    running: "SavedForward | None" = None
    standing: "SavedForward | None" = None
    detached: bool = False

    def begin(self, interceptors: Iterable[SiteInterceptor]) -> None:
        """A forward of these sites, planned already, is about to run."""
        self.running = self.standing = SavedForward(self, tuple(interceptors))
        self.running.begin()

    def end(self) -> None:
        """It has run, or failed."""
        if self.running is not None:
            self.running.end()
        self.running = self.standing = None


@dataclass(eq=False)
class SavedForward:
    """One forward: the settings of its sites, read when the first tensor is kept, and the hooks that keep tensors."""

    forwards: Forwards
    interceptors: tuple[SiteInterceptor, ...]
    settings: list[dict[str, Any]] = field(default_factory=list)
    others: Hooks | None = None
    hooks: saved_tensors_hooks | None = None

    def begin(self) -> None:
        """Keep tensors by these hooks from here on, within whatever hooks there are."""
        HERE.interceptor = None
        if not _autograd._saved_tensors_hooks_is_enabled() or not torch.is_grad_enabled():
            return
        self.others = _autograd._top_saved_tensors_default_hooks(False)
        self.hooks = saved_tensors_hooks(self.keep, self.give)
        self.hooks.__enter__()

    def end(self) -> None:
        """Until here. Then the sites belong to no forward."""
        if self.hooks is not None:
            self.hooks.__exit__()
            self.hooks = None
        for interceptor in self.interceptors:
            interceptor.active, interceptor.open = True, False

    def keep(self, x: Tensor) -> Kept:
        """Pack hook."""
        if not self.settings:
            self.settings = [_settings(interceptor) for interceptor in self.interceptors]
        value, version = (x, x._version) if self.others is None else (self.others[0](x), None)
        return Kept(value, version, HERE.interceptor, called_by_checkpointing(frames=3))

    def give(self, kept: Kept) -> Tensor:
        """Unpack hook.

        Raises StateError where a part is about to run again and its plans cannot stand, RuntimeError for a tensor that
        was changed in place since.
        """
        if self.forwards.detached or self.forwards.running not in (None, self):
            if kept.checkpoint and any(settings["plan"] is not None for settings in self.settings):
                raise StateError(self._too_late())
        elif self.forwards.running is None:
            self._stand(kept.site)
        if self.others is not None:
            return self.others[1](kept.value)
        if kept.version != kept.value._version:
            raise RuntimeError(
                f"a tensor {tuple(kept.value.shape)} needed for gradients was changed in place after the forward "
                f"(version {kept.value._version}, kept at {kept.version}); change a copy instead"
            )
        return kept.value

    def _stand(self, site: SiteInterceptor | None) -> None:
        HERE.interceptor = site
        if self.forwards.standing is self:
            return
        self.forwards.standing = self
        for interceptor, settings in zip(self.interceptors, self.settings, strict=True):
            interceptor.view.table, interceptor.view.noisiest = settings["table"], settings["noisiest"]
            for name in PER_FORWARD:
                setattr(interceptor, name, settings[name])

    def _too_late(self) -> str:
        if self.forwards.detached:
            return (
                f"{self.forwards.name} was detached before backward, where gradient checkpointing runs parts of its "
                "forward again; call backward() before detach, inside the `with` block"
            )
        return (
            f"{self.forwards.name} is in another forward while gradient checkpointing runs parts of an earlier one "
            "again; call backward() between forwards"
        )


def _settings(interceptor: SiteInterceptor) -> dict[str, Any]:
    """What a site was given for this forward; memories as they are now, so that running again changes no state."""
    memories = {name: _as_now(memory) for name, memory in interceptor.memories.items()}
    own = {"memories": memories, "table": interceptor.view.table, "noisiest": interceptor.view.noisiest}
    return {name: getattr(interceptor, name) for name in PER_FORWARD} | own


def _as_now(memory: Memory) -> Memory:
    return Memory(memory.owner, now=dict(memory.now), forward=dict(memory.forward), run=memory.run)
