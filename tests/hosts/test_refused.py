"""Classes that are refused exist, and are known to no family."""

from importlib import import_module

import pytest

from saccade.families.library import FAMILIES
from saccade.families.refused import REFUSED
from tests.hosts.vits import library

pytestmark = pytest.mark.host
LIBRARIES = (lambda: import_module("diffusers"), lambda: import_module("transformers"), lambda: library().models)


def classes(name: str) -> list[type]:
    """Those of this name in the libraries of hosts."""
    found = (getattr(library(), name, None) for library in LIBRARIES)
    return [cls for cls in found if isinstance(cls, type)]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_exists_and_is_known_to_no_family(name: str) -> None:
    known = {cls for family in FAMILIES for cls in family.classes}
    found = classes(name)
    assert found or "MultiControlNet" in name  # those of diffusers are not at its top
    for cls in found:
        home = cls.__module__.partition(".")[0]
        assert not known & {n for c in cls.__mro__ for n in (c.__name__, f"{home}.{c.__name__}")}
