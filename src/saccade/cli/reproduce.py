"""`saccade reproduce NAME`: run a declared experiment, print its verdicts, and fill its page."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from saccade.cli.printing import console
from saccade.core.catalogue import experiments

DOCS = Path("docs")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How experiments are run."""

    only: tuple[str, ...]
    quick: bool
    page: bool
    work: Path
    docs: Path


def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="of a paper or a study; without it, and without --all: a list")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="only this part; may be given several times")] = None,
    every: Annotated[bool, typer.Option("--all", help="all experiments, one after the other")] = False,
    quick: Annotated[bool, typer.Option(help="seconds instead of hours: whether it runs, not what it finds")] = False,
    page: Annotated[bool, typer.Option(help="keep the figures and fill the page in the documentation")] = False,
    work: Annotated[Path, typer.Option(help="folder of checkpoints and rows; what it holds is not run again")] = Path(
        "runs"
    ),
    docs: Annotated[Path, typer.Option(help="folder of the documentation")] = DOCS,
) -> None:
    """Run an experiment of a paper or a study again. Repeating the command after a kill goes on."""
    known = experiments()
    if name is None and not every:
        console().print(listed(known))
        return
    if name is not None and name not in known:
        raise ValueError(f"no experiment is named '{name}'; there are {', '.join(known)}")
    if page and quick:
        raise ValueError("--page keeps figures and --quick makes none worth keeping; choose one of them")
    if page and only:
        raise ValueError(
            "--page keeps all parts and --only leaves some out; parts that are done are not run again without it"
        )
    options = Options(only=tuple(only or ()), quick=quick, page=page, work=work, docs=docs)
    for each in known if every else [str(name)]:
        run(import_module(known[each]).EXPERIMENT, options)


def run(experiment: Any, options: Options) -> Any:
    """The results of one experiment, its pictures kept with its work; that of a quick one is thrown away.

    Prints verdicts on its claims; where it has none, what stands on its page.
    """
    from saccade.experiments.page import Figures, made
    from saccade.ui.progress import progress_bar

    with TemporaryDirectory() as scratch, progress_bar() as progress:
        work = Path(scratch) if options.quick else options.work / experiment.name
        found = experiment.run(work, only=options.only, quick=options.quick, progress=progress)
        if not options.only:
            text = made(experiment.sections, found, Figures(folder=work, name=experiment.name))
    if not options.only:
        console().print(verdicts(experiment, found) if experiment.claims else Text("\n\n".join(text.values())))
    if options.page:
        experiment.publish(found, options.docs)
    return found


def verdicts(experiment: Any, found: Any) -> Table:
    """A line for each claim."""
    from saccade.ui.markdown import signed

    table = Table(title=experiment.name, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for title in ("claim", "verdict", "by"):
        table.add_column(title)
    for claim in experiment.claims:
        table.add_row(claim.text, claim.verdict(found), signed(claim.measure(found), claim.digits))
    return table


def listed(known: dict[str, str]) -> Table:
    """Name, hours and parts of every experiment."""
    table = Table(box=None, padding=(0, 2, 0, 0), caption="saccade reproduce NAME runs one; hours on two CPU cores")
    for title in ("experiment", "hours", "parts", "page"):
        table.add_column(title)
    for name, module in known.items():
        found = import_module(module).EXPERIMENT
        table.add_row(name, f"{found.hours:g}", ", ".join(found.parts), f"docs/{found.page}")
    return table
