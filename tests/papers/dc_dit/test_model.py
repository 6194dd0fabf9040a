"""DC-DiT: sizes, budgets, gradients, official names, and rows that do not see each other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.models import Architecture
from saccade.nn.packing import ragged
from saccade.nn.registry import mixers
from saccade.nn.routing import record_routing
from saccade.papers import DCDiT
from saccade.papers.dc_dit.keep_routers import Predictability
from saccade.papers.dc_dit.model import SIZES, DCDiTConfig, lite_guided

TINY = DCDiTConfig(
    layout=("c1", ("D2",), "c2"), width=64, heads=2, narrow=32, side=8, channels=3, classes=5, ratio_group=None
)
NESTED = replace(TINY, layout=("c1", ("c2", ("D1",), "c1"), "c1"))
Batch = tuple[Tensor, Tensor, Tensor]


def _batch() -> Batch:
    torch.manual_seed(1)
    return torch.randn(3, 3, 8, 8), torch.rand(3), torch.tensor([0, 4, 5])


def _stirred(model: DCDiT) -> DCDiT:
    """Weights that are no longer zero anywhere, and a router that keeps about half."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, std=0.1)
        if "norm" in name and name.endswith("weight"):
            torch.nn.init.ones_(weight)
    for score in (module for module in model.modules() if isinstance(module, Predictability)):
        torch.nn.init.normal_(score.scorer[-1].weight, std=5)  # type: ignore[arg-type]
    return model.eval()


def _kept(model: DCDiT, *batch: Any, **options: Any) -> list[list[int]]:
    """Tokens kept in each row by each router, before any tail is dropped."""
    with record_routing(model) as found, torch.no_grad():
        model(*batch, **options)
    return [routings[0].index[..., 0].sum(1).tolist() for routings in found.values()]


def _lengths(model: DCDiT, *batch: Any, **options: Any) -> tuple[int, ...]:
    """Tokens of each row that reach the DiT blocks."""
    found: list[tuple[int, ...]] = []
    main = next(module for name, module in model.named_modules() if name.endswith("blocks.0.mixer"))
    handle = main.register_forward_pre_hook(lambda module, given: found.append(given[1].lengths))
    with torch.no_grad():
        model(*batch, **options)
    handle.remove()
    return found[0]


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (SIZES["S"], 34_760_457),
        (SIZES["B"], 137_129_481),
        (SIZES["L"], 469_612_553),
        (SIZES["XL"], 689_589_513),
        (replace(SIZES["B"], side=64), 139_488_777),
        (replace(SIZES["XL"], side=64), 693_128_457),
    ],
)
def test_sizes(config: DCDiTConfig, count: int) -> None:
    assert DCDiT.parameters_of(config) == count


@pytest.mark.parametrize(("size", "millions"), [("B", 137.5), ("XL", 690.4)])
def test_sizes_with_the_first_router(size: str, millions: float) -> None:
    assert round(DCDiT.parameters_of(replace(SIZES[size], router="neighbours")) / 1e6, 1) == millions


@pytest.mark.parametrize(("part", "count"), [("router", 203_329), ("encoder", 693_600), ("decoder", 693_312)])
def test_sizes_of_parts(part: str, count: int) -> None:
    with torch.device("meta"):
        stage = DCDiT.of("S").stage
    assert sum(weight.numel() for weight in getattr(stage, part).parameters()) == count


@pytest.mark.parametrize("config", [TINY, NESTED])
def test_a_fresh_model_answers_zero_and_keeps_its_corners(config: DCDiTConfig) -> None:
    model = DCDiT(config)
    out, losses = model(*_batch())
    assert out.shape == (3, 6, 8, 8) and not out.any() and set(losses) == {"ratio"}
    assert min(_kept(model, *_batch())[0]) >= 2


@pytest.mark.parametrize("dechunk", ["smooth", "nearest", "ema"])
@pytest.mark.parametrize("router", ["predictability", "neighbours", "sequence"])
def test_one_picture_does_not_see_the_others(router: str, dechunk: Any) -> None:
    model, (x, t, labels) = _stirred(DCDiT(TINY, router=router, dechunk=dechunk)), _batch()
    assert len({*_kept(model, x, t, labels)[0]}) > 1  # rows of different lengths
    whole = model(x, t, labels).out
    for i in range(3):
        torch.testing.assert_close(whole[i : i + 1], model(x[i : i + 1], t[i : i + 1], labels[i : i + 1]).out)


def test_nor_in_a_stage_inside_another() -> None:
    model, (x, t, labels) = _stirred(DCDiT(NESTED)), _batch()
    outer, inner = _kept(model, x, t, labels)
    assert len({*outer}) > 1 and all(2 <= few <= many for few, many in zip(inner, outer, strict=True))
    whole = model(x, t, labels).out
    torch.testing.assert_close(whole[:1], model(x[:1], t[:1], labels[:1]).out, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", mixers())
def test_any_mixer_keeps_rows_apart_or_says_why_it_cannot(name: str) -> None:
    try:
        model, (x, t, labels) = _stirred(DCDiT(TINY, mixer=name)), _batch()
        whole = model(x, t, labels).out
    except (ValueError, TypeError) as error:
        assert len(str(error)) > 20
        return
    torch.testing.assert_close(whole[:1], model(x[:1], t[:1], labels[:1]).out)


def test_a_mixer_that_needs_a_grid_is_refused() -> None:
    from saccade.nn.part import MixerOutput, TokenPositions, sides
    from saccade.nn.registry import MIXERS, mixer

    @mixer("needs_grid")
    class NeedsGrid(torch.nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()

        def forward(self, x: Tensor, place: TokenPositions) -> MixerOutput:
            sides(place, x.shape[1], "needs_grid")
            return MixerOutput(x, {})

    try:
        with pytest.raises(ValueError, match=r"needs_grid needs a grid \(h, w\) of \d+ tokens; place.grid=\(\)"):
            DCDiT(TINY, mixer="needs_grid")(*_batch())
    finally:
        del MIXERS["needs_grid"]


def test_rotations_follow_the_places_on_the_grid() -> None:
    model, batch = _stirred(DCDiT(TINY, mixer="attention(rotary=True)")), _batch()
    found: list[Tensor] = []
    main = model.get_submodule("stage.inner.blocks.0.mixer")
    main.register_forward_pre_hook(lambda module, given: found.append(given[1].places))
    with record_routing(model) as routings, torch.no_grad():
        model(*batch)
    keep = routings["stage.router"][0].index[..., 0].bool()
    cells = keep.nonzero()[:, 1]
    assert torch.equal(found[0], torch.stack((cells // 8, cells % 8), dim=-1).float())


def test_tails_are_dropped_by_row() -> None:
    model, batch = _stirred(DCDiT(TINY)), _batch()
    natural = _kept(model, *batch)[0]
    assert _lengths(model, *batch) == tuple(natural)
    shares = torch.tensor([0.0, 0.5, 0.9])
    wanted = tuple(n - (n * tenths) // 10 for n, tenths in zip(natural, (0, 5, 9), strict=True))
    assert _lengths(model, *batch, rho=shares) == wanted and _kept(model, *batch, rho=shares)[0] == natural
    alone = model(*(part[1:2] for part in batch), rho=0.5).out
    torch.testing.assert_close(model(*batch, rho=shares).out[1:2], alone)


def test_the_ratio_loss_stays_on_what_was_kept_before() -> None:
    model, batch = _stirred(DCDiT(TINY)), _batch()
    assert torch.equal(model(*batch, rho=0.6).losses["ratio"], model(*batch).losses["ratio"])
    assert model(*batch, ratio=8.0).losses["ratio"] != model(*batch).losses["ratio"]


def test_the_ratio_loss_is_weighted_and_averaged_over_stages() -> None:
    for config, stages in ((TINY, 1), (NESTED, 2)):
        model, batch = _stirred(DCDiT(config)), _batch()
        with record_routing(model) as found:
            loss = model(*batch).losses["ratio"]
        wanted, there = torch.zeros(()), None
        for (routing,) in found.values():
            keep, p = routing.index[..., 0].bool(), routing.probs[..., 1]
            there = torch.ones_like(keep) if there is None else there
            r, mean = keep[there].float().mean(), p[there].mean()
            wanted = wanted + 4 / 3 * ((1 - r) * (1 - mean) + 3 * r * mean)
            there = ragged(tuple(keep.sum(1).tolist()))
        torch.testing.assert_close(loss, 0.03 * wanted / stages)


def test_gradients_reach_the_router_three_ways() -> None:
    batch = _batch()

    def reaches(lead: str, **options: Any) -> bool:
        model = _stirred(DCDiT(TINY, **options))
        if lead == "no gate":
            model.stage.router.register_forward_hook(
                lambda module, given, routing: routing._replace(weight=routing.weight.detach())
            )
        out, losses = model(*batch)
        (losses["ratio"] if lead == "ratio" else out.square().sum()).backward()
        return any(weight.grad is not None and bool(weight.grad.any()) for weight in model.stage.router.parameters())

    assert reaches("ratio", dechunk="nearest")
    assert reaches("gate", dechunk="nearest")
    assert reaches("no gate") and not reaches("no gate", dechunk="nearest")


@pytest.mark.parametrize("config", [TINY, NESTED, replace(TINY, router="neighbours", modulation="affine")])
def test_every_weight_learns(config: DCDiTConfig) -> None:
    model = _stirred(DCDiT(config, condition_norm=True))
    out, losses = model(*_batch())
    (out.square().sum() + losses["ratio"]).backward()
    assert [n for n, w in model.named_parameters() if w.grad is None or not w.grad.any()] == []


def test_the_way_around_starts_at_zero_if_asked() -> None:
    assert not DCDiT(TINY, zero_residual=True).stage.residual.weight.any()
    assert DCDiT(TINY).stage.residual.weight.any()  # as in the released code


@pytest.mark.parametrize("config", [TINY, NESTED])
def test_stored_and_read(tmp_path: Path, config: DCDiTConfig) -> None:
    model = _stirred(DCDiT(config))
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path).eval()
    assert again.config == model.config
    assert torch.equal(again(*_batch()).out, model(*_batch()).out)
    assert DCDiT(config, layout=[*config.layout]).config == config  # lists as in the official files


def test_official_names_round_trip() -> None:
    model, other = _stirred(DCDiT(TINY)), DCDiT(TINY)
    state = model.official_state()
    assert other.load_official(state).complete
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert not [name for name in state if name.startswith(("stage.", "pixels.", "final.", "time.", "label."))]
    assert {
        "pos_embed",
        "x_embedder.proj.weight",
        "hnet.encoder.layers.0.cond_proj.1.weight",
        "hnet.encoder.layers.0.skip_proj.bias",
        "hnet.encoder.rmsnorm.weight",
        "hnet.routing_module.context_predictor.weight",
        "hnet.routing_module.residual_scorer.3.bias",
        "hnet.residual_proj.weight",
        "hnet.main_network.main_network.layers.1.adaLN_modulation.1.weight",
        "hnet.main_network.main_network.rmsnorm.weight",
        "hnet.decoder.layers.1.conv2.weight",
        "final_layer.adaLN_modulation.1.bias",
    } <= set(state)


def test_a_half_precise_model_routes_in_single_precision() -> None:
    model, (x, t, labels) = _stirred(DCDiT(TINY)).bfloat16(), _batch()
    with record_routing(model) as found:
        out = model(x.bfloat16(), t, labels).out
    assert out.dtype == torch.bfloat16 and found["stage.router"][0].probs.dtype == torch.float32


def test_attention_in_half_precision_is_an_option() -> None:
    batch = _batch()
    exact, half = (_stirred(DCDiT(TINY, mixer=f"attention(bf16={on})"))(*batch).out for on in (False, True))
    moved = (half - exact).norm() / exact.norm()
    assert 0 < moved < 2**-7  # the last place of bfloat16


def test_lite_guidance_is_one_call_with_a_share_for_each_row() -> None:
    model, (x, t, labels) = _stirred(DCDiT(TINY, learned_variance=False)), _batch()
    labels = labels.clamp(max=4)
    led = lite_guided(model, labels, scale=1.25, rho=0.9, channels=2)(x, t)
    conditional, free = model(x, t, labels).out, model(x, t, torch.full_like(labels, 5), rho=0.9).out
    torch.testing.assert_close(led[:, :2], (free + 1.25 * (conditional - free))[:, :2])
    torch.testing.assert_close(led[:, 2:], conditional[:, 2:])
    assert torch.equal(lite_guided(model, labels, scale=1.0)(x, t), conditional)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": 1.0}, "ratio=1.0 must be above 1"),
        ({"sigma": 0.0}, "sigma=0.0 must be above 0"),
        ({"narrow": 48}, "width=48 must be a multiple of 32"),
        ({"width": 40, "heads": 2}, "out=40 must be a multiple of 32"),
        ({"ratio_group": 0}, "ratio_group=0 must be at least 1"),
        ({"layout": ("c2", ("c2",), "c2")}, "'c2' in the layout must be 'D' and a number of blocks"),
        ({"layout": ("D2", ("D2",), "c2")}, "'D2' in the layout must be 'c' and a number of blocks"),
        ({"layout": ("c2", ("D2",))}, "must be like"),
        ({"layout": ("D2",)}, "keeps every token; put convolutions around it, or use DiT"),
        ({"mixer": ("attention",)}, "mixer names 1 parts for 2 blocks"),
        ({"router": "cosine"}, "router='cosine' is unknown"),
        ({"dechunk": "mean"}, "dechunk='mean' must be one of"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DCDiT(TINY, **changes)


def test_bad_input() -> None:
    model, (x, t, labels) = DCDiT(TINY), _batch()
    with pytest.raises(ValueError, match=r"rho=1.0 must be in \[0, 1\)"):
        model(x, t, labels, rho=1.0)
    with pytest.raises(ValueError, match="rho has 2 numbers for 3 rows"):
        model(x, t, labels, rho=torch.zeros(2))
    with pytest.raises(ValueError, match=r"must be \(batch, 3, 8, 8\)"):
        model(x[..., :4], t, labels)
    with pytest.raises(ValueError, match="a batch of 3 rows cannot be parted into groups of ratio_group=2; train on"):
        DCDiT(TINY, ratio_group=2).train()(x, t, labels)
    assert "ratio" in DCDiT(TINY, ratio_group=2).eval()(x, t, labels).losses
    with pytest.raises(ValueError, match=r"a batch of 3 rows .* groups of ratio_group=16; .* set ratio_group=None"):
        DCDiT(TINY, ratio_group=DCDiTConfig().ratio_group).train()(x, t, labels)
