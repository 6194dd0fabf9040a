"""What a trained network prefers, judged on networks whose preference is known; and the pictures."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.papers.position_bias import Causal, Retrieval, Window, plot_depths
from saccade.papers.position_bias.lesson import Lesson, accuracy, preferences
from saccade.papers.position_bias.san import SAN

TASK = Retrieval(pairs=4, repeats=1, classes=60, width=8, labels=30, noise=0.0)


class Chooser(nn.Module):
    """Finds the item asked without fail, and of two places that hold it takes the first or the last one's label."""

    def __init__(self, vectors: Tensor, first: bool) -> None:
        super().__init__()
        self.vectors, self.first = vectors, first

    def forward(self, x: Tensor) -> Tensor:
        same = (x[:, 0:-1:2] == x[:, -1:]).all(-1).int()
        at = same.argmax(1) if self.first else same.shape[1] - 1 - same.flip(1).argmax(1)
        label = x[torch.arange(len(x)), 2 * at + 1]
        return -torch.cdist(label, self.vectors)


def preferred(first: bool) -> dict[str, float]:
    world = TASK.world(np.random.default_rng(0))
    network: Any = Chooser(world.vectors, first)
    found = preferences(network, TASK, world, texts=200, seed=1)
    return {f"{early}/{late}": gap for early, late, gap in found}


def test_a_preference_for_earlier_places_is_positive() -> None:
    early, late = preferred(True), preferred(False)
    assert list(early) == ["first/middle", "first/last", "middle/last"]
    assert all(gap > 0.9 for gap in early.values()) and all(gap < -0.9 for gap in late.values())


def test_accuracy_is_the_share_of_right_labels() -> None:
    world = TASK.world(np.random.default_rng(0))
    network: Any = Chooser(world.vectors, first=True)
    asked = TASK.draw(world, np.random.default_rng(3), 20)
    assert accuracy(network, asked) == 1
    half = asked._replace(label=torch.where(torch.arange(20) < 5, (asked.label + 1) % 30, asked.label))
    assert accuracy(network, half) == 0.75


def test_a_lesson_is_fresh_texts_and_a_falling_loss() -> None:
    torch.manual_seed(0)
    task = Retrieval(pairs=2, repeats=2, classes=3, width=8, labels=3, noise=0.0)
    lesson = Lesson(SAN(width=8, labels=3), task, task.world(np.random.default_rng(0)), batch=64)
    rng = np.random.default_rng(1)
    optimiser, losses = torch.optim.Adam(lesson.module.parameters(), 1e-2), []
    for _ in range(150):
        loss = lesson.module(lesson.batch(rng))["loss"]
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]


def test_a_picture_has_a_panel_for_each_kind_and_marks_the_predicted_peak() -> None:
    kinds = {"a": (Causal(), 0.0), "b": (Window(width=3), 0.0), "c": (Causal(), 0.5)}
    figure = plot_depths(kinds, tokens=20, layers=(1, 4, 8))
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    (line,) = figure.axes[2].lines
    assert [int(x) for x in line.get_xdata()] == [19, 15, 9] and not figure.axes[0].lines  # type: ignore[union-attr]
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None and shown.shape == (3, 20) and float(shown[2].max()) == 1
