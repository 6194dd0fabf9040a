"""The adapter alone: published sizes, files, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from saccade.models.checkpoint_names import LoadError
from saccade.models.macs import macs
from saccade.papers.siamlayout import SIZES, AdapterConfig, LayoutAdapter, LayoutStream
from saccade.papers.siamlayout.branches import Around, DoubleBranch
from tests.papers.siamlayout.tiny import adapter, host, layout

pytestmark = pytest.mark.host


def count(part: Any) -> int:
    return sum(p.numel() for p in part.parameters())


def test_parameters_of_the_published_sizes() -> None:
    with torch.device("meta"):
        full, low, flux = (LayoutAdapter(SIZES[name]) for name in SIZES)
    assert count(full.position_net) == 7_920_448
    assert [count(block) for block in full.double_blocks[:-1]] == [54_294_528] * 23  # type: ignore[index]
    assert count(full.double_blocks[23]) == 23_608_320 and count(full) == 1_280_302_912
    assert count(low.double_blocks[0]) == 13_762_560 and round(count(low) / 1e9, 2) == 0.33
    assert len(flux.double_blocks) == 19 and len(flux.single_blocks) == 38
    assert flux.position_net.null_text.shape == (3072,) and flux.position_net.text_embedder is None


def test_multiply_adds_of_a_block_at_1024_pixels() -> None:
    n, m, d = 4096, 10, 1536
    with torch.device("meta"):
        branch = DoubleBranch(d, 24, qk_norm=False)
        tokens = torch.zeros(1, n, d), torch.zeros(1, m, d), Around(block=None, temb=torch.zeros(1, d))
    linears = 5 * n * d**2 + 12 * m * d**2 + 6 * d**2
    assert macs(branch, *tokens) == linears + 2 * (n + m) ** 2 * d
    assert round(macs(branch, *tokens) / 1e9) == 100


@pytest.mark.parametrize("options", [{}, {"rank": 2}, {"variant": "m3"}, {"variant": "adapter"}])
def test_a_file_gives_the_same_adapter(options: dict[str, Any], tmp_path: Path) -> None:
    made = adapter(host("sd3"), **options)
    file = made.save(tmp_path)
    again = LayoutAdapter.load(file)
    assert file.name == "layout.safetensors" and again.config == made.config
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), again.state_dict().values(), strict=True))


def test_files_with_unknown_or_missing_weights_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    from saccade.models.stored import read_metadata

    file = adapter(host("flux")).save(tmp_path)
    said, stored = read_metadata(file), load_file(file)
    save_file({**stored, "double_blocks.0.more": torch.zeros(1)}, tmp_path / "more.safetensors", metadata=said)
    with pytest.raises(LoadError, match=r"1 unexpected: double_blocks\.0\.more"):
        LayoutAdapter.load(tmp_path / "more.safetensors")
    stored.pop("position_net.null_box")
    save_file(stored, tmp_path / "less.safetensors", metadata=said)
    with pytest.raises(LoadError, match=r"1 missing: position_net\.null_box"):
        LayoutAdapter.load(tmp_path / "less.safetensors")
    save_file(stored, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="says of no layout adapter in its metadata"):
        LayoutAdapter.load(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match=r"holds no layout\.safetensors"):
        LayoutAdapter.load(tmp_path / "nowhere")


def test_it_begins_with_the_weights_of_the_model() -> None:
    model = host("flux")
    made = LayoutAdapter.of(model)
    own, theirs = made.double_blocks[1], model.transformer_blocks[1]
    assert torch.equal(own.attn.to_q.weight, theirs.attn.to_q.weight.float())  # type: ignore[union-attr]
    assert torch.equal(own.attn.add_k_proj.weight, theirs.attn.add_k_proj.weight.float())  # type: ignore[union-attr]
    assert torch.equal(own.norm.linear.weight, theirs.norm1_context.linear.weight.float())  # type: ignore[union-attr]
    assert not own.out.weight.any() and not own.out.bias.any()  # type: ignore[union-attr]
    single = made.single_blocks[0]
    assert torch.equal(single.proj_out.weight, model.single_transformer_blocks[0].proj_out.weight.float())  # type: ignore[union-attr]


def test_low_rank_terms_start_as_released() -> None:
    torch.manual_seed(0)
    made = LayoutAdapter(AdapterConfig(host="sd3", dim=256, heads=4, double=2, text_width=8, rank=16))
    branch: Any = made.double_blocks[0]
    for terms in (*branch.attn.values(), branch.norm, branch.ff[1], branch.out):
        assert not terms.up.weight.any() and terms.down.weight.std().item() == pytest.approx(1 / 16, rel=0.1)
    assert branch.ff[0].up.weight.std().item() == pytest.approx(1 / 16, rel=0.1)
    assert "to_add_out" in branch.attn and "to_add_out" not in made.double_blocks[1].attn  # type: ignore[operator]


def test_options_that_do_not_go_together_are_refused() -> None:
    good: dict[str, Any] = {"host": "sd3", "dim": 8, "heads": 2, "double": 1, "text_width": 4}
    with pytest.raises(ValueError, match="rank=4 goes with host='sd3' and variant='siamese', not with 'flux'"):
        AdapterConfig(**{**good, "host": "flux", "rank": 4})
    with pytest.raises(ValueError, match="variant='other' is unknown"):
        AdapterConfig(**{**good, "variant": "other"})
    with pytest.raises(ValueError, match="rank=0 must be a whole number of at least 1"):
        AdapterConfig(**good, rank=0)
    with pytest.raises(ValueError, match="Linear is none of SD3Transformer2DModel, FluxTransformer2DModel"):
        LayoutAdapter.of(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="official names are known of SD3's siamese adapter"):
        LayoutAdapter(AdapterConfig(**good, rank=2)).official()


def test_a_stream_refuses_what_does_not_fit() -> None:
    model, other = host("sd3"), host("flux")
    made = adapter(model)
    with pytest.raises(ValueError, match="host='sd3' of the adapter is 'flux' in this FluxTransformer2DModel"):
        LayoutStream(other, made)
    with pytest.raises(ValueError, match="qk_norm=False of the adapter is True"):
        LayoutStream(host("sd3.5"), made)
    with pytest.raises(ValueError, match=r"scale=-1 must be 0 or more"):
        LayoutStream(model, made, scale=-1)
    with pytest.raises(ValueError, match="mask_padding=True is not for variant='m3'"):
        LayoutStream(model, adapter(model, variant="m3"), mask_padding=True)
    with LayoutStream(model, made) as stream:
        with pytest.raises(ValueError, match="carries a layout already"):
            LayoutStream(model, made)
        from tests.papers.siamlayout.tiny import inputs

        with (
            stream.holding(layout("sd3", (1, 1, 1))),
            pytest.raises(ValueError, match="has 3 rows and hidden_states 2"),
        ):
            model(**inputs("sd3"))
        with stream.holding(layout("flux")), pytest.raises(ValueError, match=r"text of shape .* one pooled vector"):
            model(**inputs("sd3"))
        made.float()
        with stream.holding(layout("sd3")), pytest.raises(ValueError, match=r"in torch\.float32, the model on cpu in"):
            model(**inputs("sd3"))
