"""Finding a word must not hold a map: its pass allocates little more than plain generation, at FLUX's own lengths."""

import json
import subprocess
import sys

import pytest

TOKENS, TEXT = 64 * 64, 512
WORK = """
import json, sys
import torch
from saccade import attach
from saccade.models.random_flux import flux
from saccade.metrics.allocations import peak_allocated
from saccade.systems.word_map import WordMap

torch.set_num_threads(1)
model, inputs = flux(text={text}, height=64, width=64, heads=2, layers=1)
watched = [WordMap(tokens={{"word": (3, 4)}})] if sys.argv[1] == "watched" else []
with torch.no_grad(), attach(model, *watched) as run:
    peak = peak_allocated(lambda: model(**inputs)[0])
    heat = watched[0].heat(run.state)["word"].shape if watched else None
print(json.dumps({{"peak": peak, "heat": heat}}))
"""


def peak(kind: str) -> tuple[int, list[int] | None]:
    code = WORK.format(text=TEXT)
    ran = subprocess.run([sys.executable, "-c", code, kind], capture_output=True, text=True, check=True)
    stored = json.loads(ran.stdout.splitlines()[-1])
    return stored["peak"], stored["heat"]


@pytest.mark.slow
@pytest.mark.host
def test_finding_a_word_takes_less_than_half_as_much_memory_again_as_drawing() -> None:
    plain, watched = peak("plain"), peak("watched")
    assert watched[1] == [1, 1, 64, 64]
    assert plain[0] > 0
    assert watched[0] < 1.5 * plain[0], f"{watched[0] / plain[0]:.2f} times"
    assert watched[0] < 4 * (TOKENS + TEXT) ** 2, "a whole map of one head alone would be more"
