"""Agreement with the released code: tokens, encoder, decoder, pointer, checkpoint names, sinusoids of three axes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from saccade.models.checkpoint_names import LoadError
from saccade.papers.oat import OAT, Search
from saccade.papers.oat.positions import PositionCode, PositionKind, time_code
from saccade.papers.oat.search import fixation_places, object_places

FOLDER = Path(__file__).resolve().parents[2] / "goldens" / "oat"
PAD = 7
CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def case() -> dict[str, Tensor]:
    return load_file(FOLDER / "case_model.safetensors")


@pytest.fixture(scope="module")
def weights(case: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("weights."): value for name, value in case.items() if name.startswith("weights.")}


@pytest.fixture
def model(case: dict[str, Tensor], weights: dict[str, Tensor]) -> OAT:
    sizes = {"width": 32, "heads": 4, "hidden": 32, "depth": 2, "decoder_depth": 2, "places": 3, "table_width": 6}
    made = OAT(**sizes, features="vectors", target_position="true").eval()
    assert made.load_official(weights).complete
    made.positions.set_table(case["position_table"])
    return made


@pytest.fixture
def search(case: dict[str, Tensor]) -> Search:
    blank = (case["decoder_in"] - time_code(5, 32))[0, 0, :16]  # what the released code's crop of ones looks like
    return Search(objects=case["encoder_in"][:, :6, :16], grid=(2, 3), target=case["target"], blank=blank)


def test_places_are_those_of_the_released_code(case: dict[str, Tensor], search: Search) -> None:
    torch.testing.assert_close(object_places(search, "true"), case["src_row_col_flag"])
    torch.testing.assert_close(fixation_places(search, case["sequence"][:, :-1]), case["tgt_row_col_flag"])


def test_every_stage_is_that_of_the_released_code(case: dict[str, Tensor], model: OAT, search: Search) -> None:
    sequence, looks = case["sequence"][:, :-1], model.looks(search)
    torch.testing.assert_close(model.object_tokens(search, looks), case["encoder_in"], **CLOSE)
    torch.testing.assert_close(model.fixation_tokens(search, sequence, looks), case["decoder_in"], **CLOSE)
    encoded = model.encode(case["encoder_in"]).out
    torch.testing.assert_close(encoded, case["encoder_out"], **CLOSE)
    decoded = model.decode(case["decoder_in"], encoded, sequence != PAD).out
    torch.testing.assert_close(decoded, case["decoder_out"], **CLOSE)
    for head in range(2):
        scores = model.pointer.scores(decoded, encoded)[..., head]
        torch.testing.assert_close(scores, case[f"head{head}_scores_with_pad"], **CLOSE)
    torch.testing.assert_close(model(search, sequence).out, case["logits"], **CLOSE)


def test_weights_bear_the_released_names_both_ways(model: OAT, weights: dict[str, Tensor]) -> None:
    found = model.official_state()
    assert found.keys() == weights.keys() and len(found) == 70
    assert all(torch.equal(found[name], weights[name]) for name in found)


def test_a_whole_released_file_loads_with_its_prefix_and_unused_layers(model: OAT, weights: dict[str, Tensor]) -> None:
    unused = ("generator.weight", "LinearEmbedding.bias", "onedpositional_encoding.pos_embedding")
    file = {"state_dict": {f"model.{name}": value for name, value in weights.items()}}
    file["state_dict"] |= {f"model.{name}": torch.ones(2) for name in unused}
    fresh = OAT(model.config)
    assert fresh.load_official(file).complete
    assert torch.equal(fresh.pointer.heads[1].key.weight, model.pointer.heads[1].key.weight)


def test_other_names_are_refused(model: OAT, weights: dict[str, Tensor]) -> None:
    with pytest.raises(LoadError, match="1 unexpected: transformer_encoder.norm.weight"):
        model.load_official({**weights, "transformer_encoder.norm.weight": torch.ones(32)})
    with pytest.raises(LoadError, match=r"1 missing: pointer.readout.bias \(in the file readout.bias\)"):
        model.load_official({name: value for name, value in weights.items() if name != "readout.bias"})


def test_the_crops_layers_have_released_names_and_vectors_of_other_lengths_have_none() -> None:
    assert {"cnn_embedding.cnn1.0.weight", "cnn_embedding.cnn2.0.bias", "cnn_embedding.fc.weight"} <= OAT(
        width=24, heads=2, hidden=8, depth=1, decoder_depth=1, places=4
    ).official_state().keys()
    with pytest.raises(ValueError, match="have no official name: appearance.weight"):
        OAT(width=24, heads=2, hidden=8, depth=1, decoder_depth=1, places=4, features=5).official_state()


@pytest.mark.parametrize(("kind", "name"), [("sinusoid", "sin_original"), ("linear", "sin_linear")])
def test_sinusoids_of_three_axes_are_those_of_the_released_code(kind: PositionKind, name: str) -> None:
    wanted = load_file(FOLDER / "case_positions_and_metrics.safetensors")[name]
    places = torch.cartesian_prod(*(torch.arange(size) for size in wanted.shape[:3])).float()
    found = PositionCode(kind, 11, 12, alpha=0.9)(places[None])
    torch.testing.assert_close(found.view_as(wanted), wanted, atol=1e-6, rtol=0)
