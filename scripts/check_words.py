"""Refuse the words that docs/words.md replaces: `python scripts/check_words.py`, part of `make lint`."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "words.md"
TEXTS = ("src/**/*.py", "tests/**/*.py", "examples/*.py", "docs/**/*.md", "*.md")
FREE = {TABLE, ROOT / "CHANGELOG.md", ROOT / "LICENSE.md"}  # the table itself, and what old versions were called


def table(text: str) -> dict[re.Pattern[str], str]:
    """What must not stand in a text, and the better word, from the rows of the table."""
    rows = re.findall(r"^\| (`.+`) \| (.+) \|$", text, re.MULTILINE)
    patterns = {pattern: better for left, better in rows for pattern in re.findall(r"`([^`]+)`", left)}
    return {re.compile(rf"(?<![\w`])(?:{pattern})(?![\w`])", re.IGNORECASE): word for pattern, word in patterns.items()}


def found(path: Path, words: dict[re.Pattern[str], str]) -> list[str]:
    """A line for each such word in a file."""
    lines = path.read_text().splitlines()
    return [
        f"{path.relative_to(ROOT)}:{number}: '{match[0]}', better: {better}"
        for number, line in enumerate(lines, 1)
        for pattern, better in words.items()
        for match in pattern.finditer(line)
    ]


def main() -> int:
    """Print what is found; 1 if anything is."""
    words = table(TABLE.read_text())
    paths = sorted({path for pattern in TEXTS for path in ROOT.glob(pattern)} - FREE)
    problems = [line for path in paths for line in found(path, words)]
    sys.stdout.write("".join(f"{line}\n" for line in problems))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
