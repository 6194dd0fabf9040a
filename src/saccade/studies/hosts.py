"""What each host offers: the tables of its page, made from what the families declare. Nothing is measured."""

from dataclasses import dataclass

from saccade.experiments import Experiment
from saccade.families.tables import contract, mends, offers


@dataclass(frozen=True, kw_only=True)
class Settings:
    """There is nothing to set."""


EXPERIMENT = Experiment(
    name="hosts",
    settings=Settings(),
    quick=Settings(),
    hours=0,
    sections={
        "contract": (lambda results, figures: contract(),),
        "offers": (lambda results, figures: offers(),),
        "mends": (lambda results, figures: mends(),),
    },
    page="hosts.md",
)
