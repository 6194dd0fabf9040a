"""`saccade bench patterns`: a row for each mask and selector, kept in the file."""

import json
from pathlib import Path

from typer.testing import CliRunner

from saccade.cli import app


def test_each_mask_and_selector_is_a_row(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    result = CliRunner().invoke(
        app, ["bench", "patterns", "--tokens", "4096", "--mask", "sparsed", "--json", str(file)]
    )
    assert result.exit_code == 0, result.output
    mask, selector = json.loads(file.read_text())["rows"]
    assert (mask["case"], mask["size"], mask["computed"]) == ("sparsed 4096", [128, 128], 1.0)
    assert (selector["case"], selector["queries"]) == ("selector 4096", 3)


def test_a_kernel_without_costs_is_refused() -> None:
    result = CliRunner().invoke(app, ["bench", "patterns", "--kernel", "sdpa"])
    assert result.exit_code == 2 and "must be one of native, gather" in result.output
