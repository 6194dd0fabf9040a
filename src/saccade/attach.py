"""Put attention systems on a model that exists: `attach(pipe, Clear(radius=16))`, as a context manager or a handle."""

from typing import Any

from saccade.core.layout import Layout
from saccade.core.mechanism import System, check_system
from saccade.core.rows import Rows
from saccade.core.site import EVERYWHERE, Where
from saccade.run.attached_model import LayoutOverride
from saccade.run.run import Run
from saccade.seam.family import Family

__all__ = ["Run", "attach"]


def attach(
    target: Any,
    *systems: System,
    where: Where = EVERYWHERE,
    layout: Layout | None = None,
    heads: int | None = None,
    family: Family | None = None,
    rows: Rows | None = None,
    schedule: Any = None,
    timing: bool = False,
) -> Run:
    """Attach systems to a pipeline, a transformer of a known family, or any module whose `layout` is given by hand.

    where     which sites and heads, and in which share of the steps
    layout    the tokens of a plain module's attention
    heads     number of heads of a plain module that does not tell
    family    how to read a model saccade does not know, or knows otherwise
    rows      what the batch rows are, where the host cannot tell; those of one branch where it stacks its branches
    schedule  a scheduler, or timesteps in falling order, for a model without a pipeline
    timing    measure attention seconds per site (eager only)
    Raises SelectorError (nothing chosen), MissingError (the host lacks something), SilentSiteError (a site cannot be
    reached), SaccadeError (attached already, or compiled in place), TypeError (no system, or of another type). After
    any error the model is as it was.
    """
    for system in systems:
        check_system(system)
    _check_types(where=(where, Where), layout=(layout, Layout), family=(family, Family), rows=(rows, Rows))
    run = Run(target, systems, where=where, rows=rows, schedule=schedule, timing=timing)
    try:
        run.begin(LayoutOverride(layout=layout, heads=heads, family=family))
    except BaseException:
        run.detach()
        raise
    return run


def _check_types(**given: tuple[object, type]) -> None:
    for name, (value, kind) in given.items():
        if not isinstance(value, kind | None):
            raise TypeError(f"{name}={value!r} must be a {kind.__name__}")
