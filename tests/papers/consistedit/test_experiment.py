"""ConsistEdit's experiment: its edits, their scores, and what its page makes of them."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.core.state import Tape
from saccade.data import scenes
from saccade.experiments import Figures, Results
from saccade.experiments.page import made
from saccade.experiments.results import newest
from saccade.papers.consistedit.edit_scores import iou, overlaps, score
from saccade.papers.consistedit.edits import SIDE, WORDS, Batch, Case, Kind, cases, edited_object, tokens_of
from saccade.papers.consistedit.experiment import EXPERIMENT, KINDS, ORDERS, OrderTable, shown

DOCS = Path(__file__).resolve().parents[3] / "docs"
SCENE = scenes.sample(np.random.default_rng(0), count=1)
PICTURE = scenes.render(SCENE, SIDE).astype(float) / 255


def case(kind: Kind) -> Case:
    """One object of the scene, to become another."""
    source = scenes.describe(SCENE, np.random.default_rng(0))
    (want,) = source.wants
    wanted = next(word for word in WORDS[kind] if word != getattr(want, kind))
    target = replace(source, wants=(replace(want, **{kind: wanted}),))
    return Case(source=source, target=target, phrase="", word=want.shape, wanted=wanted, seed=0)


def batch(kind: Kind) -> Batch:
    """The scene as a source whose maps see nothing."""
    one, nothing = case(kind), torch.zeros(1, 1, 8, 8)
    seen = edited_object(PICTURE, one)
    return Batch(cases=(one,), sources=PICTURE[None], objects=(seen,), tape=Tape(), heat=nothing, best=nothing)


def changed(kind: Kind) -> np.ndarray:
    """The scene with the edit made."""
    thing = replace(SCENE.things[0], **{kind: case(kind).wanted})
    return scenes.render(replace(SCENE, things=(thing,)), SIDE).astype(float) / 255


@pytest.mark.parametrize("kind", ["colour", "shape"])
def test_a_target_differs_from_its_source_in_one_word(kind: Kind) -> None:
    for one in islice(cases(kind), 20):
        before, after = one.source.text.split(), one.target.text.split()
        assert [word for word, old in zip(after, before, strict=True) if word != old] == [one.wanted]
        assert getattr(one.target.wants[0], kind) == one.wanted


def test_a_source_left_as_it_is_keeps_everything_and_is_no_edit() -> None:
    (row,) = score("colour", PICTURE[None], batch("colour"))
    assert (row["made"], row["all"], row["iou"], row["canny_ssim"], row["kept_psnr"]) == (0, 0, 1, 1, 99)


@pytest.mark.parametrize("kind", ["colour", "shape"])
def test_an_edit_is_seen_and_all_else_untouched(kind: Kind) -> None:
    (row,) = score(kind, changed(kind)[None], batch(kind))
    assert row["made"] == 1
    assert row["kept_psnr"] > 30
    assert row["iou"] > 0.9 if kind == "colour" else 0.3 < row["iou"] < 1


def test_the_exact_mask_holds_the_object() -> None:
    seen = batch("colour").objects[0]
    pixels = np.kron(tokens_of(seen), np.ones((8, 8), bool))
    assert not (seen.mask & ~pixels).any()
    assert tokens_of(seen).sum() < 64


def test_overlap_is_intersection_over_union() -> None:
    a, b = np.array([[True, True, False]]), np.array([[False, True, True]])
    assert iou(a, b) == pytest.approx(1 / 3)
    masks = torch.from_numpy(np.stack([a, a]))[:, None]
    assert overlaps(masks, torch.from_numpy(np.stack([a, b]))[:, None]) == pytest.approx([1, 1 / 3])


def test_every_order_is_between_arms_there_are() -> None:
    assert [order for order in ORDERS if not {order.more, order.less} <= set(KINDS[order.kind])] == []


def test_the_table_of_orders_tells_verdicts(tmp_path: Path) -> None:
    gaps = [(0.1, 0.2, 0.3), (-0.3, -0.2, -0.1), (-0.1, 0.0, 0.1)]
    orders = [order for order in ORDERS if order.kind == "shape"]
    rows = [vars(order) | {"difference": list(gaps[number % 3])} for number, order in enumerate(orders)]
    found = Results(device="", date="", versions={}, settings={"edits": 4}, tables={"orders": rows})
    lines = OrderTable("shape")(found, Figures(folder=tmp_path, name="consistedit")).splitlines()[2:]
    assert [line.split("**")[1] for line in lines[:3]] == ["confirmed", "refuted", "undecided"]
    assert "| 0.200 [0.100, 0.300] |" in lines[0]


def test_an_interval_is_shown_with_its_ends() -> None:
    assert shown(2)([0.123, 0.456, 0.789]) == "0.46 [0.12, 0.79]"


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    page = (DOCS / EXPERIMENT.page).read_text()
    figures = Figures(folder=tmp_path, name="consistedit")
    parts = made(EXPERIMENT.sections, newest(DOCS / "results", "consistedit"), figures)
    assert [name for name, text in parts.items() if f"<!-- figures: {name} -->\n{text}\n<!-- end -->" not in page] == []
