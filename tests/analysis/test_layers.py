"""Scores of a probe and the layer sets they give."""

from pathlib import Path

import numpy as np
import pytest

from saccade.analysis import LayerScores, LayerSets, plot_layers
from saccade.core.errors import SelectorError
from saccade.core.site import Site

SITES = tuple(f"transformer_blocks.{i}.attn" for i in range(3)) + tuple(
    f"single_transformer_blocks.{i}.attn" for i in range(5)
)


def scores(seed: int = 0, moves: int = 3, pictures: int = 4) -> LayerScores:
    rng = np.random.default_rng(seed)
    mse = 10 ** -rng.uniform(1, 4, (len(SITES), moves, pictures))
    return LayerScores(model="m", sites=SITES, moves=tuple(f"move {i}" for i in range(moves)), mse=mse, about={"x": 1})


def test_closeness_is_the_mean_of_psnr_and_not_the_psnr_of_the_mean() -> None:
    found = scores()
    by_hand = [np.mean([-10 * np.log10(e) for e in found.mse[i].ravel()]) for i in range(len(SITES))]
    np.testing.assert_allclose(found.closeness, by_hand)
    assert not np.allclose(found.closeness, -10 * np.log10(found.mse.mean((1, 2))))
    low_first = np.argsort(found.closeness)
    assert found.ranked == tuple(SITES[i] for i in low_first)


def test_sets_are_the_ends_of_the_ranking() -> None:
    sets = scores().sets(2 / 8, 3 / 8)
    assert sets.position == scores().ranked[:2] and sets.content == scores().ranked[5:] and sets.sites == SITES
    default = scores().sets()
    assert (len(default.position), len(default.content)) == (1, 2)
    assert scores().sets(0, 0) == LayerSets(sites=SITES)
    many = LayerScores(model="", sites=tuple(map(str, range(57))), moves=("m",), mse=np.random.rand(57, 1, 1))
    assert (len(many.sets().position), len(many.sets().content)) == (7, 13)  # as the paper chose for FLUX.1-dev


def test_a_move_that_changes_nothing_is_infinitely_close() -> None:
    found = scores()
    found.mse[2] = 0
    assert found.closeness[2] == np.inf and found.ranked[-1] == SITES[2] and found.sets().content[-1] == SITES[2]


def test_agreement_is_spearmans() -> None:
    from scipy.stats import spearmanr

    found = scores(moves=2)
    assert found.stability()["depth"] == pytest.approx(spearmanr(range(8), found.closeness).statistic)
    assert found.stability()["moves"] == pytest.approx(spearmanr(*found.psnr.mean(2).T).statistic)
    assert np.isnan(scores(moves=1).stability()["moves"])


def test_scores_come_back_from_a_file(tmp_path: Path) -> None:
    found = scores()
    found.save(tmp_path / "new" / "a.json")
    again = LayerScores.load(tmp_path / "new" / "a.json")
    assert np.array_equal(again.mse, found.mse) and again.sites == SITES and again.moves == found.moves
    assert (again.model, again.about) == ("m", {"x": 1}) and len(list((tmp_path / "new").iterdir())) == 1
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no scores of a probe .*make it by saccade probe"):
        LayerScores.load(tmp_path / "b.json")


def test_layers_by_number_are_layers_by_name() -> None:
    sets = LayerSets.numbered(SITES, position=(0, 4), content=(7,))
    assert sets == LayerSets(sites=SITES, position=(SITES[0], SITES[4]), content=(SITES[7],))
    for number in (8, -1):
        with pytest.raises(ValueError, match=rf"content=\[{number}\] are no layers of a model of 8"):
            LayerSets.numbered(SITES, content=(number,))
    with pytest.raises(ValueError, match=r"position names \['x'\], which are not among the 8 sites"):
        LayerSets(sites=SITES, position=("x",))


def test_sets_know_their_model() -> None:
    sets = LayerSets.numbered(SITES, position=(4,))
    assert sets.covers(Site(name=SITES[4], layer=4), "position") and sets.covers(Site(name=SITES[5], layer=5), "all")
    assert not sets.covers(Site(name=SITES[5], layer=5), "position")
    for stranger in (Site(name=SITES[4], layer=3), Site(name="other", layer=8)):
        with pytest.raises(SelectorError, match="layer sets of 8 layers do not know layer .*probe this one"):
            sets.covers(stranger, "all")


@pytest.mark.parametrize("shares", [(0.6, 0.6), (-0.1, 0.2), (0.1, 1.2)])
def test_shares_that_cannot_be_are_named(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="of 8 layers; make them smaller|must be in .0, 1., a share of the layers"):
        scores().sets(*shares)


def test_the_picture_has_a_bar_for_each_layer_and_the_colours_of_its_set() -> None:
    sets = LayerSets.numbered(SITES, position=(0, 4), content=(7,))
    (axes,) = plot_layers(scores(), sets).axes
    bars = {round(bar.get_x() + bar.get_width() / 2): bar for bar in axes.patches}
    assert len(bars) == 8 and [bars[i].get_height() for i in range(8)] == pytest.approx(list(scores().closeness))
    colours = [bars[i].get_facecolor() for i in range(8)]
    assert colours[0] == colours[4] != colours[7] and len({*colours}) == 3
    assert len(axes.lines) == 3 + 1  # moves, and where a stack of blocks begins
