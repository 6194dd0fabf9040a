"""The planner with a scripted text model: prompts, answers in prose, faults, repair, what is asked again."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.papers.siamlayout import (
    CaptionedBox,
    Hint,
    captioned,
    layout_faults,
    layout_prompt,
    parse_layout,
    plan_layout,
    repair,
    serialise,
)
from saccade.papers.siamlayout.boxes import overlap
from saccade.papers.siamlayout.proposals import ALIKE, SMALLEST, Proposed

BOXES = captioned(["a red circle", "a [blue] square"], [(0.1, 0.1, 0.4, 0.4), (0.5, 0.5, 0.9, 0.9)])
ANY = st.floats(-2, 3, allow_nan=False)


def scripted(*answers: str) -> tuple[Callable[[str], str], list[str]]:
    asked: list[str] = []

    def model(prompt: str) -> str:
        asked.append(prompt)
        return answers[min(len(asked), len(answers)) - 1]

    return model, asked


def test_a_layout_is_written_and_read_again() -> None:
    assert [(p.caption, p.box) for p in parse_layout(serialise(BOXES))] == [(b.caption, b.box) for b in BOXES]
    wordy = f"Sure [as asked]:\n```json\n{serialise(BOXES)}\n```\nI hope [1, 2] this helps."
    assert parse_layout(wordy) == parse_layout(serialise(BOXES))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("no", "holds no JSON list of entries"),
        ("[1, 2]", "holds no JSON list of entries"),
        ('[{"box": [0, 0, 1, 1]}]', "entry 0, .* has no caption"),
        ('[{"caption": "a", "box": [0, 0, 1]}]', "entry 0, 'a', has box=.*give four numbers"),
        ('[{"caption": "a", "box": [0, 0, 1, "1"]}]', "entry 0, 'a', has box=.*give four numbers"),
        ('[{"caption": "a", "box": [0, 0, 1, NaN]}]', "entry 0, 'a', has box=.*give four numbers"),
        ('[{"caption": "a", "box": [0, 0, 1, true]}]', "entry 0, 'a', has box=.*give four numbers"),
    ],
)
def test_an_answer_that_is_no_layout_says_why(answer: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_layout(answer)


def test_prompts_say_task_caption_hints_and_rules() -> None:
    hints = (Hint(caption="a cat", point=(0.5, 0.25)), Hint(caption="a dog", box=(0, 0, 0.5, 0.5)))
    written = layout_prompt("generate", "two pets", most=7)
    assert "two pets" in written and "At most 7 entries" in written and '{"caption": text' in written
    for task in ("complete", "optimise"):
        found = layout_prompt(task, "two pets", hints)  # type: ignore[arg-type]
        assert '"point": [0.5, 0.25]' in found and '"box": [0, 0, 0.5, 0.5]' in found


def test_a_model_is_asked_again_with_what_was_wrong() -> None:
    model, asked = scripted("I cannot", serialise(BOXES))
    assert plan_layout(model, "two things") == BOXES
    assert len(asked) == 2 and "could not be used: answer='I cannot' holds no JSON list" in asked[1]
    model, asked = scripted("I cannot")
    with pytest.raises(ValueError, match="model gave no layout in tries=3: answer='I cannot'"):
        plan_layout(model, "two things", tries=3)
    assert len(asked) == 3
    model, _ = scripted('[{"caption": "a", "box": [0.5, 0.5, 0.5, 0.5]}]')
    with pytest.raises(ValueError, match="no entry has a usable box"):
        plan_layout(model, "two things")


def test_completing_keeps_what_is_known() -> None:
    hint = Hint(caption="a green star", box=(0.0, 0.0, 0.3, 0.3))
    model, asked = scripted(serialise(BOXES))
    found = plan_layout(model, "three things", task="complete", hints=(hint,))
    assert found[0] == CaptionedBox(caption="a green star", box=(0.0, 0.0, 0.3, 0.3))
    assert found[1:] == BOXES and "a green star" in asked[0]
    again = serialise([CaptionedBox(caption="a star", box=(0.0, 0.0, 0.3, 0.3)), *BOXES])
    assert plan_layout(scripted(again)[0], "three things", task="complete", hints=(hint,)) == found  # not twice


def test_hints_belong_to_tasks_that_have_them() -> None:
    model, _ = scripted(serialise(BOXES))
    with pytest.raises(ValueError, match="task='optimise' needs hints"):
        plan_layout(model, "x", task="optimise")
    with pytest.raises(ValueError, match="task='generate' takes no hints"):
        plan_layout(model, "x", hints=(Hint(caption="a", point=(0, 0)),))
    with pytest.raises(ValueError, match="task='draw' is unknown"):
        plan_layout(model, "x", task="draw")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give one of them"):
        Hint(caption="a")
    with pytest.raises(ValueError, match=r"point=\(2, 0\) of 'a' must lie in"):
        Hint(caption="a", point=(2, 0))


def test_masks_and_scribbles_become_boxes() -> None:
    mask = np.zeros((10, 20))
    mask[2:5, 4:8] = 1
    assert Hint.of_mask("a", mask).box == (0.2, 0.2, 0.4, 0.5)
    with pytest.raises(ValueError, match="must be .* and not empty"):
        Hint.of_mask("a", np.zeros((4, 4)))


def test_faults_name_the_entry() -> None:
    wrong = [
        Proposed(caption="far", box=(0.5, 0.5, 1.5, 0.9)), Proposed(caption="turned", box=(0.5, 0.5, 0.2, 0.9)),
        Proposed(caption="tiny", box=(0.5, 0.5, 0.51, 0.51)), *BOXES, Proposed(caption="twin", box=BOXES[0].box),
    ]  # fmt: skip
    found = layout_faults(wrong, most=5)
    assert found[0] == "6 entries are more than 5"
    for number, text in ((0, "reaches beyond 1"), (1, "must be 0 <= x0"), (2, "area below"), (5, "the box of entry 3")):
        assert any(line.startswith(f"entry {number},") and text in line for line in found)
    assert layout_faults(BOXES) == [] and len(found) == 5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", " "]), st.tuples(ANY, ANY, ANY, ANY)), max_size=14))
def test_a_repaired_layout_has_no_faults_and_is_left_alone(entries: list[tuple[str, tuple[float, ...]]]) -> None:
    proposed = [Proposed(caption=caption, box=box) for caption, box in entries]  # type: ignore[arg-type]
    found = repair(proposed)
    assert layout_faults(found) == [] and len(found) <= 10
    assert repair(found) == found
    for i, one in enumerate(found):
        x0, y0, x1, y1 = one.box
        assert (x1 - x0) * (y1 - y0) >= SMALLEST
        assert all(overlap(one.box, other.box) <= ALIKE for other in found[:i])
    assert json.loads(serialise(found)) is not None
