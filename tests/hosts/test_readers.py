"""What each family says of its tokens and offers to mechanisms, checked against what really passes attention."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import MissingError, StateError
from saccade.core.site import at
from saccade.families import FAMILIES
from saccade.seam.rotary import Rotary
from tests.hosts.stand_ins import looking
from tests.hosts.tiny import BY_NAME, attach_options, flux_inputs, output

pytestmark = pytest.mark.host
FAMILY = {f.name: f for f in FAMILIES}
OF = {
    "cogvideox": "CogVideoX", "dit": "DiT", "flux": "FLUX", "hunyuan_video": "HunyuanVideo", "pixart": "PixArt",
    "qwen_image": "Qwen-Image", "sd3": "SD3", "wan": "Wan", "beit": "timm BEiT", "deit": "timm ViT", "eva": "timm EVA",
    "vit": "timm ViT",
}  # fmt: skip


def calls_of(name: str, *needs: str, look: Callable[[AttentionCall], Any] = lambda call: call) -> dict[str, Any]:
    """What `look` returns at every site of a host in one forward."""
    model, inputs = BY_NAME[name].build()
    found: dict[str, Any] = {}

    def keep(call: AttentionCall) -> None:
        found[call.site.name] = look(call)

    with attach(model, looking(keep, *needs), **attach_options(BY_NAME[name])):
        output(model, inputs)
    return found


LAYOUTS = {
    "cogvideox": "text 6 | image 36 (3x3x4)",
    "dit": "image 16 (1x4x4)",
    "flux": "text 6 | image 16 (1x4x4)",
    "hunyuan_video": "image 18 (3x2x3) | text 6",
    "pixart": "image 16 (1x4x4)",
    "qwen_image": "text 6 | image 20 (1x4x5)",
    "wan": "image 18 (3x2x3)",
    "beit": "prefix 1 | image 64 (1x8x8)",
    "deit": "prefix 2 | image 64 (1x8x8)",
    "eva": "prefix 3 | image 48 (1x6x8)",
    "vit": "prefix 1 | image 64 (1x8x8)",
    "plain": "text 3 | image 16 (1x4x4)",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_says_what_the_tokens_are(name: str) -> None:
    found = calls_of(name, look=lambda call: (call.layout_q.describe(), call.layout_k.describe(), call.q.shape[2]))
    for layout_q, layout_k, n in found.values():
        assert layout_q == layout_k == LAYOUTS[name]
        assert n == sum(int(part.split()[1]) for part in LAYOUTS[name].split(" | "))


def test_sd3_tells_its_two_attentions_apart() -> None:
    found = calls_of("sd3", look=lambda call: (call.site.kind, call.layout_q.describe()))
    assert found == {
        "transformer_blocks.0.attn": ("joint", "image 16 (1x4x4) | text 6"),
        "transformer_blocks.0.attn2": ("self", "image 16 (1x4x4)"),
        "transformer_blocks.1.attn": ("joint", "image 16 (1x4x4) | text 6"),
    }


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("inference", [False, True])
def test_places_that_change_in_place_are_read_again(inference: bool, unseen: bool) -> None:
    model, inputs = BY_NAME["flux"].build()
    other = flux_inputs(height=2, width=8)["img_ids"]
    grids: list[Any] = []
    with torch.inference_mode(inference), attach(model, looking(lambda call: grids.append(call.layout_q.image.grid))):
        inputs["img_ids"] = ids = inputs["img_ids"].clone()
        model(**inputs)
        (ids.data if unseen else ids).copy_(other)
        model(**inputs)
    assert list(dict.fromkeys(grids)) == [(1, 4, 4), (1, 2, 8)]


@pytest.mark.parametrize("name", ["flux", "sd3", "cogvideox", "hunyuan_video", "qwen_image"])
def test_text_is_where_the_layout_says(name: str) -> None:
    """Change the prompt: at the first joint site only the text span of `hidden` changes."""
    model, inputs = BY_NAME[name].build()
    seen: list[tuple[AttentionCall, torch.Tensor]] = []
    first = looking(lambda call: seen.append((call, call.host.hidden)) if call.site.index == 0 else None, "host.hidden")
    with attach(model, first):
        output(model, inputs)
        output(model, {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"] + 1})
    (call, one), (_, two) = seen
    moved = ((one - two).abs().amax(dim=(0, 2)) > 1e-6).nonzero().flatten()
    span = call.layout_q.span("text")
    assert moved.numel() and span.start <= moved.min() and moved.max() < span.stop


def test_flux_reads_its_grid_from_ids_also_when_not_square() -> None:
    model, _ = BY_NAME["flux"].build()
    grids = []
    with attach(model, looking(lambda call: grids.append(call.layout_q.image.grid))):
        output(model, flux_inputs(height=3, width=7))
        output(model, flux_inputs(height=5, width=2))
    assert set(grids[:4]) == {(1, 3, 7)} and set(grids[4:]) == {(1, 5, 2)}


def test_flux_reference_tokens_are_not_image_tokens() -> None:
    model, inputs = BY_NAME["flux"].build()
    more = flux_inputs(height=2, width=3)
    more["img_ids"][:, 0] = 1
    both = {k: torch.cat((inputs[k], more[k]), dim=1) for k in ("hidden_states",)}
    both["img_ids"] = torch.cat((inputs["img_ids"], more["img_ids"]))
    layouts = []
    with attach(model, looking(lambda call: layouts.append(call.layout_q.describe()))):
        output(model, {**inputs, **both})
    assert set(layouts) == {"text 6 | image 16 (1x4x4) | reference1 6 (1x2x3)"}


@pytest.mark.parametrize("numbers", [(1, 1), (1, 2)])
def test_flux_references_begin_anew_or_by_number(numbers: tuple[int, int]) -> None:
    """Kontext counts one picture; those who give several let each begin at the same place, or number them on."""
    model, inputs = BY_NAME["flux"].build()
    for number, (height, width) in zip(numbers, ((2, 3), (3, 1)), strict=True):
        more = flux_inputs(height=height, width=width)
        more["img_ids"][:, 0] = number
        inputs["hidden_states"] = torch.cat((inputs["hidden_states"], more["hidden_states"]), dim=1)
        inputs["img_ids"] = torch.cat((inputs["img_ids"], more["img_ids"]))
    layouts = []
    with attach(model, looking(lambda call: layouts.append(call.layout_q.describe()))):
        output(model, inputs)
    assert set(layouts) == {"text 6 | image 16 (1x4x4) | reference1 6 (1x2x3) | reference2 3 (1x3x1)"}


def test_flux_ids_that_are_no_raster_give_no_grid() -> None:
    model, inputs = BY_NAME["flux"].build()
    shuffled = {**inputs, "img_ids": inputs["img_ids"][torch.randperm(16)]}
    layouts = []
    with attach(model, looking(lambda call: layouts.append(call.layout_q.describe()))):
        output(model, shuffled)
    assert set(layouts) == {"text 6 | image 16"}


@pytest.mark.parametrize("name", ["flux", "hunyuan_video", "qwen_image", "wan", "eva"])
def test_the_rotary_table_undoes_the_hosts_rotation(name: str) -> None:
    """Raw k from `raw` is the one the module's own projection and norm give before rotary."""

    def look(call: AttentionCall) -> tuple[torch.Tensor, torch.Tensor]:
        image = call.layout_k.span("image")
        hidden = call.host.hidden[:, image]
        return call.host.raw(call.k)[:, :, image], call.host.project(hidden)[0]

    found = calls_of(name, "host.rotary", "host.raw", "host.hidden", "host.project", look=look)
    for site, (raw, projected) in found.items():
        torch.testing.assert_close(raw, projected, rtol=1e-4, atol=2e-6, msg=lambda m, site=site: f"{site}: {m}")


@pytest.mark.parametrize("name", OF)
def test_projecting_what_entered_gives_the_values_of_the_call(name: str) -> None:
    def look(call: AttentionCall) -> tuple[torch.Tensor, torch.Tensor]:
        image = call.layout_k.span("image")
        return call.v[:, :, image], call.host.project(call.host.hidden[:, image])[1]

    for v, projected in calls_of(name, "host.hidden", "host.project", look=look).values():
        torch.testing.assert_close(v, projected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", ["flux", "sd3", "beit", "deit", "eva", "vit"])
def test_stream_tokens_entered_are_what_attention_sees(name: str) -> None:
    def look(call: AttentionCall) -> tuple[torch.Tensor, torch.Tensor]:
        image = call.layout_k.span("image")
        return call.host.hidden[:, image], call.host.enter(call.host.stream[:, image])

    found = calls_of(name, "host.hidden", "host.stream", "host.enter", look=look)
    for hidden, entered in found.values():
        torch.testing.assert_close(entered, hidden)


def test_raw_is_the_operand_itself_where_nothing_is_rotated() -> None:
    for same in calls_of("sd3", "host.raw", look=lambda call: call.host.raw(call.q) is call.q).values():
        assert same


def test_turning_by_a_change_of_base_equals_rotating_with_that_base() -> None:
    torch.manual_seed(0)
    rotary = Rotary(ids=torch.randint(0, 64, (20, 3)).float(), theta=1e4, axes_dim=(4, 4, 8))
    raw = torch.randn(2, 3, 20, 16)
    turned = rotary.turn(rotary.turn(raw, rotary.angles()), rotary.angles(theta=2e4) - rotary.angles())
    torch.testing.assert_close(turned, rotary.turn(raw, rotary.angles(theta=2e4)), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", OF)
def test_what_the_table_promises_is_there_and_what_it_denies_is_missing(name: str) -> None:
    family = FAMILY[OF[name]]
    give = {
        "hidden": lambda call: call.host.hidden,
        "stream": lambda call: call.host.stream,
        "enter": lambda call: call.host.enter(call.host.stream[:, :1]),
        "project": lambda call: call.host.project(call.host.hidden)[0],
        "rotary": lambda call: call.host.rotary.angles(),
        "raw": lambda call: call.host.raw(call.q),
    }
    for item, look in give.items():
        if family.missing(item, "self") is None:
            needs = {f"host.{item}", "host.hidden", "host.stream"} if item in ("enter", "project") else {f"host.{item}"}
            needs -= {f"host.{i}" for i in family.unsupported}
            assert all(isinstance(x, torch.Tensor) for x in calls_of(name, *needs, look=look).values())
        else:
            with pytest.raises(MissingError, match=rf"{family.name} offers no '{item}' at site '.*'; \w+"):
                calls_of(name, f"host.{item}")


def test_an_item_that_was_not_declared_is_an_error_with_the_mend() -> None:
    with pytest.raises(StateError, match="put 'host.hidden' in the mechanism's `needs`"):
        calls_of("flux", look=lambda call: call.host.hidden)
    with pytest.raises(StateError, match="put 'host.rotary' in the mechanism's `needs`"):
        calls_of("flux", look=lambda call: call.host.rotary)


def test_attention_to_a_first_frame_is_left_alone() -> None:
    """Image-to-video Wan attends twice in one module; the keys of the frame are no text tokens."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=16, ffn_dim=32, num_layers=1, rope_max_seq_len=32, image_dim=16, added_kv_proj_dim=24,
    ).eval()  # fmt: skip
    inputs = {
        "hidden_states": torch.randn(1, 4, 1, 4, 4),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(1, 512, 16),
        "encoder_hidden_states_image": torch.randn(1, 5, 16),
        "return_dict": False,
    }
    plain, keys = output(model, inputs), []
    with attach(model, looking(lambda call: keys.append(call.k.shape[2])), where=at(kind="cross")):
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)
    assert keys == [512]
