"""`saccade cost`: its rows, configs of files, and what it refuses."""

import json
from pathlib import Path

import pytest
from transformers import LlamaConfig
from typer.testing import CliRunner

from saccade.cli import app


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["cost", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_row_for_each_model_length_and_budget() -> None:
    rows = json.loads(run("8B", "0.6B", "--generated", "8192", "--top", "128", "--top", "1024", "--json"))
    assert [(row["model"], row["keys"]) for row in rows] == [
        (model, keys) for model in ("8B", "0.6B") for keys in ("all", "128", "1024")
    ]
    assert rows[0]["total"] == pytest.approx(3112.298, abs=1e-3)
    assert "32B" in run() and "24.2" not in run("8B", "--intensity", "0")


def test_a_config_is_a_model(tmp_path: Path) -> None:
    LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    ).save_pretrained(tmp_path / "tiny")
    folder = json.loads(run(str(tmp_path / "tiny"), "--generated", "16", "--json"))
    file = json.loads(run(str(tmp_path / "tiny" / "config.json"), "--generated", "16", "--json"))
    assert folder == file and folder[0]["model"] == "tiny" and folder[0]["cache_bytes"] == 2 * 2 * 2 * 32 * (256 + 16)


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    run("4B", "--top", "128", "--plot", str(tmp_path / "cost.svg"))
    assert "</svg>" in (tmp_path / "cost.svg").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("9B",), "model='9B' is neither a file, a folder, nor one of 0.6B, 1.7B"),
        (("8B", "--intensity", "-1"), "intensity=-1.0 FLOPs a byte must not be negative"),
        (("8B", "--plot", "cost.html"), "plot='cost.html' must end in .png, .svg or .pdf"),
        (("8B", "--top", "10", "--block", "4"), "top=10 must be a multiple of block=4"),
        (("8B", "--generated", "0"), "generated=0 must be at least 1"),
        (("8B", "--prompt", "-1"), "prompt=-1 must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(*words)
