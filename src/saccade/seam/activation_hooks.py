"""Hooks that catch what enters an attention module and its block, set only where a mechanism asks for it."""

from dataclasses import dataclass, field
from typing import Any

from saccade.seam.view import HostView


@dataclass(eq=False)
class ActivationHooks:
    """The hooks of one run, by site and item."""

    handles: dict[tuple[str, str], list[Any]] = field(default_factory=dict)

    def ensure(self, view: HostView, need: str) -> None:
        """Set the hook that `need` ("host.hidden", "host.stream", "host.enter") asks for, once."""
        item = {"host.hidden": "hidden", "host.stream": "stream", "host.enter": "stream"}.get(need)
        key = (view.site.name, item or "")
        if item is None or key in self.handles:
            return
        owner, caught, let_go = {
            "hidden": (view.module, view.catch_entered, view.release_entered),
            "stream": (view.block, view.catch_block, view.release_block),
        }[item]
        self.handles[key] = [
            owner.register_forward_pre_hook(caught, with_kwargs=True),
            owner.register_forward_hook(let_go),
        ]

    def remove(self) -> None:
        """Take every hook away."""
        for handle in (h for pair in self.handles.values() for h in pair):
            handle.remove()
        self.handles.clear()
