"""Text to train language models on."""

from pathlib import Path
from typing import Any

import pytest

from saccade.data.text import CHARACTERS, read_text


def test_captions_need_no_file_and_keep_the_alphabet() -> None:
    train, held_out = read_text("captions"), read_text("captions", "held-out")
    assert set(train) | set(held_out) <= set(CHARACTERS)
    assert not set(train.splitlines()) & set(held_out.splitlines())


def test_the_last_tenth_of_shakespeare_is_held_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "".join(CHARACTERS[i % len(CHARACTERS)] for i in range(1000))
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text(text, newline="\n")
    monkeypatch.setenv("SACCADE_DATA", str(tmp_path))
    assert read_text() == text[:900]
    assert read_text(split="held-out") == text[900:]


def test_the_alphabet_is_that_of_the_real_text(data_root: Path) -> None:
    assert set(read_text() + read_text(split="held-out")) == set(CHARACTERS)


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SACCADE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="has no tinyshakespeare/input.txt; set it to the folder"):
        read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("poems", "train"), "source='poems' is unknown; choose one of shakespeare, captions"),
        (("captions", "test"), "split='test' is unknown; choose one of train, held-out"),
    ],
)
def test_unknown_names_are_answered(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_text(*given)
