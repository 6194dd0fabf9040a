"""Finding a word must not hold a map: its pass allocates little more than plain generation, at FLUX's own lengths."""

import pytest
import torch

from saccade.attach import attach
from saccade.metrics.allocations import peak_allocated
from saccade.models.random_flux import flux
from saccade.systems.word_map import WordMap

TOKENS, TEXT = 64 * 64, 512


def peak(*watched: WordMap) -> tuple[int, list[tuple[int, ...]]]:
    """Bytes at most alive in a forward, and the shapes of the words' maps."""
    model, inputs = flux(text=TEXT, height=64, width=64, heads=2, layers=1)
    with torch.no_grad(), attach(model, *watched) as run:
        most = peak_allocated(lambda: model(**inputs)[0])
        return most, [tuple(word.heat(run.state)["word"].shape) for word in watched]


@pytest.mark.slow
@pytest.mark.host
def test_finding_a_word_takes_less_than_half_as_much_memory_again_as_drawing() -> None:
    plain, watched = peak(), peak(WordMap(tokens={"word": (3, 4)}))
    assert watched[1] == [(1, 1, 64, 64)]
    assert plain[0] > 0
    assert watched[0] < 1.5 * plain[0], f"{watched[0] / plain[0]:.2f} times"
    assert watched[0] < 4 * (TOKENS + TEXT) ** 2, "a whole map of one head alone would be more"
