"""Options read from source are those of the classes, for every system there is; no torch is loaded for them."""

import subprocess
import sys
from dataclasses import MISSING, fields
from typing import Any

import pytest

from saccade.cli.class_source import class_in, module, options
from saccade.cli.show import known_options
from saccade.core.catalogue import lookup, systems


@pytest.mark.parametrize("name", systems())
def test_they_are_the_fields_of_the_class(name: str) -> None:
    entry = lookup(name)
    made: Any = entry.load()
    real = [f for f in fields(getattr(made, "config_class", made)) if f.init]
    shown = known_options(entry)
    assert [option["name"] for option in shown] == [f.name for f in real]
    for option, f in zip(shown, real, strict=True):
        must = f.default is MISSING and f.default_factory is MISSING
        assert (option["default"] is None) is must
        if f.default is None or isinstance(f.default, bool | str | int):
            assert eval(option["default"]) == f.default, option  # as "64 ** 2 + 512"


def test_names_are_followed_through_assignments_imports_and_bases() -> None:
    where, made = class_in(*_of("dreamrelation"))
    found = {option.name: option for option in options(where, made)}
    assert found["active"].type == "tuple[str, ...]" and found["active"].default == "(RELATION,)"
    where, made = class_in(*_of("draft_attention"))
    assert next(o.type for o in options(where, made) if o.name == "compat") == "Literal['official'] | None"
    assert module("saccade.papers.clear.system").find("nothing") is None
    assert module("saccade.papers.clear.system").find("dataclass") is None  # not ours


def test_a_sheet_loads_no_torch() -> None:
    code = (
        "import sys\nfrom saccade.cli import main\n"
        "try: main(['show', 'clear'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120).returncode == 0


def _of(name: str) -> tuple[str, str]:
    entry = lookup(name)
    path, _, cls = str(entry.make).partition(":")
    return f"{entry.door}.{path}", cls
