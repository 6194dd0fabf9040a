"""Everything saccade raises on purpose.

SaccadeError
├── BuildError        the compiled kernel could not be built (`saccade.ops.native_build`)
├── ConflictError     two systems claim the same thing at one site (both are named)
├── DivergedError     a training's loss became NaN or infinite (`saccade.train.records`)
├── LoadError         a checkpoint's names do not match the model's (`saccade.models.checkpoint_names`)
├── MissingError      a mechanism needs what its host does not offer (host, site and mend are named)
├── NoFixationError   no stretch of a path is a fixation (`saccade.metrics.trajectories`)
├── RefusedError      no kernel takes a call (every reason of every kernel is listed)
├── SelectorError     a selector matches no site
├── SilentSiteError   an attached site ran without its call being seen
└── StateError        state read before it was written, or reused with another shape
"""


class SaccadeError(Exception):
    """Base of all errors below; plain bad arguments stay `ValueError`."""


class ConflictError(SaccadeError):
    """Two systems change the same operand, or append a segment of one name, at one site."""


class MissingError(SaccadeError):
    """A host does not offer what a mechanism needs."""

    def __init__(self, *, host: str, site: str, item: str, mend: str) -> None:
        super().__init__(f"{host} offers no '{item}' at site '{site}'; {mend}")
        self.item = item


class RefusedError(SaccadeError):
    """No kernel accepts the call; `reasons` maps each kernel's name to why."""

    def __init__(self, what: str, reasons: dict[str, list[str]]) -> None:
        lines = [f"  {name}: {'; '.join(why)}" for name, why in reasons.items()]
        super().__init__("\n".join((f"no kernel takes {what}", *lines)))
        self.reasons = reasons


class SelectorError(SaccadeError):
    """A selector matches nothing."""


class SilentSiteError(SaccadeError):
    """A site ran, or should have run, without its attention call passing through saccade."""


class StateError(SaccadeError):
    """Carried state is missing, or does not fit the call."""
