"""What hosts of video and sound have of their own: places, references, sound beside the picture, what is left alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import MissingError
from saccade.core.rows import Rows
from saccade.core.site import Where, at
from saccade.papers.headhunter import SoftPAG
from saccade.run.attached_model import family_of
from saccade.run.schedule import Schedule
from saccade.seam.family import Family
from tests.hosts.host import output
from tests.hosts.models import audio, videos
from tests.hosts.stand_ins import Kept, Looking, Masked, Same, looking

pytestmark = pytest.mark.host
HOSTS = {host.name: host for module in (videos, audio) for host in module.HOSTS}
FAMILIES = {name: family_of(host.build()[0]) for name, host in HOSTS.items()}
ROTATED = [name for name, family in FAMILIES.items() if family.rotary is not None]
PROJECTED = [name for name, family in FAMILIES.items() if not {"project", "hidden"} & set(family.unsupported)]
LONE = ("cosmos_controlnet", "mochi")  # it gives a list, and rows that see no other
ENTERED = [name for name, family in FAMILIES.items() if family.enter is not None and "enter" not in family.unsupported]
GUIDED = [name for name, family in FAMILIES.items() if family.guidance is not None and name not in LONE]
ITEMS: dict[str, Callable[[AttentionCall], Any]] = {
    "hidden": lambda call: call.host.hidden,
    "project": lambda call: call.host.project(call.host.hidden)[0],
    "rotary": lambda call: call.host.rotary.angles(),
    "raw": lambda call: call.host.raw(call.q),
}
OF_TOKENS = ("timestep_indices", "token_tags", "position_ids")
PLANNED, EVERY_KIND = Where(), Where(kinds=("joint", "self", "cross"))


def calls_of(
    name: str, *needs: str, look: Callable[[AttentionCall], Any], where: Where = PLANNED, **more: Any
) -> dict[str, Any]:
    """What `look` returns at every site in one forward, some of whose arguments are others."""
    model, inputs = HOSTS[name].build()
    found: dict[str, Any] = {}

    def keep(call: AttentionCall) -> None:
        found.setdefault(call.site.name, look(call))

    with attach(model, looking(keep, *needs), where=where):
        output(model, {**inputs, **more})
    return found


def layouts(name: str, **more: Any) -> dict[str, tuple[str, str]]:
    """What every site reads, and by what."""
    return calls_of(
        name, look=lambda call: (call.layout_q.describe(), call.layout_k.describe()), where=EVERY_KIND, **more
    )


@pytest.mark.parametrize("name", ROTATED)
def test_the_rotary_table_undoes_the_hosts_rotation(name: str) -> None:
    rough = 2e-2 if name == "kandinsky5" else 2e-6  # it rotates in bfloat16

    def look(call: AttentionCall) -> tuple[Tensor, Tensor]:
        image = call.layout_k.span("image")
        return call.host.raw(call.k)[:, :, image], call.host.project(call.host.hidden[:, image])[0]

    found = calls_of(name, "host.rotary", "host.raw", "host.hidden", "host.project", look=look)
    for raw, projected in found.values():
        torch.testing.assert_close(raw, projected, rtol=max(rough, 1e-4), atol=rough)


@pytest.mark.parametrize("name", PROJECTED)
def test_projecting_what_entered_gives_the_values_of_the_call(name: str) -> None:
    def look(call: AttentionCall) -> tuple[Tensor, Tensor]:
        image = call.layout_k.span("image")
        return call.v[:, :, image], call.host.project(call.host.hidden[:, image])[1]

    for v, projected in calls_of(name, "host.hidden", "host.project", look=look).values():
        torch.testing.assert_close(v, projected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", ENTERED)
def test_stream_tokens_entered_are_what_attention_sees(name: str) -> None:
    def look(call: AttentionCall) -> tuple[Tensor, Tensor]:
        image = call.layout_q.span("image")
        return call.host.hidden[:, image], call.host.enter(call.host.stream[:, image])

    for hidden, entered in calls_of(name, "host.hidden", "host.stream", "host.enter", look=look).values():
        torch.testing.assert_close(entered, hidden, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", HOSTS)
def test_what_a_family_promises_is_there_and_what_it_denies_is_missing(name: str) -> None:
    family = FAMILIES[name]
    for item, look in ITEMS.items():
        if item == "project" and "hidden" in family.unsupported:
            continue
        if family.missing(item, "self") is None:
            needs = {f"host.{item}", "host.hidden"} if item == "project" else {f"host.{item}"}
            assert all(isinstance(x, Tensor) for x in calls_of(name, *needs, look=look).values())
        else:
            with pytest.raises(MissingError, match=rf"{family.name} offers no '{item}' at site '.*'; \w+"):
                calls_of(name, f"host.{item}", look=look)


@pytest.mark.parametrize("name", GUIDED)
def test_weak_rows_widen_what_is_of_a_row_and_nothing_else(name: str) -> None:
    """By the conditional row of a pair: the other is steered by as much."""
    model, inputs = HOSTS[name].build()
    plain, system = output(model, inputs), SoftPAG(layers=(0,), kind="identity", w=2.0)
    with attach(model, system, rows=Rows.of("uncond", "cond"), where=at(kind=_kind(FAMILIES[name]))):
        steered = output(model, inputs)
    added = (steered - plain).unflatten(0, (-1, 1)) if steered.ndim == 1 else (steered - plain)[:, None]
    assert steered.shape == plain.shape and added.abs().max() > 1e-5
    if steered.ndim > 1:
        torch.testing.assert_close(added[0], added[1], rtol=1e-4, atol=1e-5)


def _kind(family: Family) -> Any:
    return "joint" if "joint" in family.sites.values() else "self"


def test_rows_that_come_one_by_one_are_what_they_are_alone() -> None:
    """Mochi's rows have words, masks and state of their own."""
    model, inputs = HOSTS["mochi"].build()
    together = two_steps(model, inputs)
    for row in range(2):
        alone = {k: v[row : row + 1] if isinstance(v, Tensor) else v for k, v in inputs.items()}
        torch.testing.assert_close(two_steps(model, alone)[:, 0], together[:, row], rtol=1e-4, atol=1e-5)


def two_steps(model: Any, inputs: dict[str, Any]) -> Tensor:
    """With a window, and something kept from the first step to the second."""
    times = [500.0, 250.0]
    with attach(model, Masked(), Looking(Kept()), schedule=times):
        steps = [output(model, {**inputs, "timestep": inputs["timestep"] * 0 + time}) for time in times]
    return torch.stack(steps)


def test_rows_that_come_one_by_one_have_their_own_roles() -> None:
    model, inputs = HOSTS["mochi"].build()
    found: list[tuple[Any, int]] = []

    def look(call: AttentionCall) -> None:
        assert call.rows is not None and call.mask is not None
        seen = call.mask.materialize(call.layout_q, call.layout_k)[0, 0, 0, call.layout_k.span("text")]
        found.append((call.rows.roles, int(seen.sum())))

    with attach(model, looking(look), rows=Rows.of("uncond", "cond")):
        output(model, inputs)
    assert found == [(("uncond",), 5), (("cond",), 2)] * 2


def test_what_needs_one_row_beside_another_is_refused_where_rows_come_one_by_one() -> None:
    model, inputs = HOSTS["mochi"].build()
    with attach(model, SoftPAG(layers=(0,), w=2.0), rows=Rows.of("uncond", "cond")):
        with pytest.raises(MissingError, match=r"Mochi offers no 'rows.weak' at site .*; each batch row is a call"):
            output(model, inputs)


def test_mochi_projects_the_videos_tokens() -> None:
    model, inputs = HOSTS["mochi"].build()
    module, entered, found = model.transformer_blocks[0].attn1, [], []
    module.register_forward_pre_hook(lambda _, args, given: entered.append(given["hidden_states"]), with_kwargs=True)

    def look(call: AttentionCall) -> None:
        project = call.host.project(entered[0][len(found) : len(found) + 1])
        found.append((call.v[:, :, :18], project[1]))

    with attach(model, looking(look, "host.project"), where=at("transformer_blocks.0.attn1")):
        output(model, inputs)
    for v, projected in found:
        torch.testing.assert_close(v, projected, rtol=1e-4, atol=2e-6)


def test_framepack_alone_is_cut_to_its_words() -> None:
    model, inputs = HOSTS["framepack"].build()
    one = {k: v[:1] if isinstance(v, Tensor) and not k.startswith("indices") else v for k, v in inputs.items()}
    one["encoder_attention_mask"] = torch.tensor([[1, 1, 1, 0, 0, 0]])
    found: list[str] = []
    with attach(model, looking(lambda call: found.append(call.layout_q.describe().rsplit(" | ", 1)[1]))):
        output(model, one)
    assert set(found) == {"text 3"}


def test_a_first_frame_that_is_not_there_weighs_nothing() -> None:
    """HunyuanVideo 1.5 from text alone: tokens of an empty picture stand in padding."""
    model, inputs = HOSTS["hunyuan_video15"].build()
    found: list[Tensor] = []

    def look(call: AttentionCall) -> None:
        assert call.mask is not None
        found.append(call.mask.materialize(call.layout_q, call.layout_k)[:, 0, 0, call.layout_k.span("text")].sum(-1))

    with attach(model, Masked(), looking(look)):
        for picture in (inputs["image_embeds"], torch.zeros(2, 2, 8)):
            output(model, {**inputs, "image_embeds": picture})
    assert [seen.tolist() for seen in found[::2]] == [[5 + 2 + 2, 2 + 1 + 2], [5 + 2, 2 + 1]]


def test_sparse_attention_of_kandinskys_own_is_refused() -> None:
    model, inputs = HOSTS["kandinsky5"].build()
    with attach(model, Same()), pytest.raises(ValueError, match="sparse_params are given: with NABLA attention"):
        output(model, {**inputs, "sparse_params": {"to_fractal": True}})


def test_kandinsky_tells_video_sound_and_their_words_apart() -> None:
    block = {name.split(".", 2)[2]: found for name, found in layouts("kandinsky6").items() if ".1." in name}
    video, sound, words = "image 18 (3x2x3)", "image 5 (5x1x1)", "text 6"
    assert block == {
        "video_dec_block.self_attention": (video, video),
        "video_dec_block.cross_attention": (video, words),
        "audio_dec_block.self_attention": (sound, sound),
        "audio_dec_block.cross_attention": (sound, words),
        "va_cross_attention": (video, sound),
        "av_cross_attention": (sound, video),
    }


def test_a_silent_video_runs_the_sites_of_video_alone() -> None:
    found = layouts("kandinsky6", audio_hidden_states=None)
    assert {name.split(".", 2)[2] for name in found} == {
        "video_dec_block.self_attention",
        "video_dec_block.cross_attention",
    }


def test_a_picture_that_cosmos_reads_beside_the_text_is_left_alone() -> None:
    from diffusers import CosmosTransformer3DModel

    torch.manual_seed(0)
    model = CosmosTransformer3DModel(
        in_channels=4, out_channels=4, num_layers=1, concat_padding_mask=False, img_context_dim_in=8,
        img_context_num_tokens=3, img_context_dim_out=36, **videos.COSMOS,
    ).eval()  # fmt: skip
    inputs = {**videos.video(), "timestep": torch.tensor([0.5, 0.5])}
    inputs["encoder_hidden_states"] = inputs["encoder_hidden_states"], torch.randn(2, 3, 8)
    plain, keys = output(model, inputs), []
    with attach(model, looking(lambda call: keys.append(call.k.shape[2])), where=at(kind="cross")):
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)
    assert keys == [6]


def test_times_that_follow_no_rule_are_not_looked_up() -> None:
    schedule = Schedule([3.0, 2.0, 1.0])
    schedule.refresh()
    with pytest.raises(ValueError, match=r"cannot be looked up in a list of times; .* run.step\(i, of=n\)"):
        schedule.clock(0.5, None)


def test_blocks_that_decode_read_what_was_encoded() -> None:
    found = layouts("motif_video")
    assert found["single_transformer_blocks.0.attn"][0] == "image 18 (3x2x3) | picture 2 | text 6"
    assert found["single_transformer_blocks.0.cross_attn"] == ("image 18 (3x2x3)", "text 6")
    assert found["single_transformer_blocks.1.attn"][0] == "image 18 (3x2x3) | encoded 18 (3x2x3)"


def test_frames_of_another_size_are_another_reference() -> None:
    """One more picture of 1 x 3 tokens behind the reference of MiniMax-H3."""
    _, inputs = HOSTS["minimax_h3"].build()
    picture = torch.cartesian_prod(torch.tensor([4.5]), torch.arange(1.0), torch.arange(3.0))
    more = {name: torch.cat((inputs[name][:8], inputs[name][5:8], inputs[name][8:])) for name in OF_TOKENS}
    more["position_ids"][8:11] = picture
    more["audio_indices"] = inputs["audio_indices"] + 3
    more["video_indices"] = torch.cat((torch.arange(4, 11), torch.arange(13, 25)))
    found = layouts("minimax_h3", **more, hidden_states=torch.randn(2, 19, 8))
    assert {read for pair in found.values() for read in pair} == {
        "text 4 | reference1 4 (1x2x2) | reference2 3 (1x1x3) | sound 2 | image 12 (2x2x3)"
    }


def test_what_reads_a_face_by_hand_is_left_alone() -> None:
    model, inputs = HOSTS["consisid"].build()
    with attach(model, Same()) as run:
        output(model, inputs)
    assert {"local_facial_extractor", "perceiver_cross_attention"} <= {site.name for site in run.report().sites}


def test_a_window_in_time_joins_the_hosts_own() -> None:
    """ACE-Step's every second block looks no further than its own window, under any plan."""
    own = calls_of("ace_step", look=lambda call: call.bias)
    assert [bias is not None for bias in own.values()] == [True, False]
    far = own["layers.0.self_attn"].materialize(6, 6)[0, 0] < -1e30
    assert torch.equal(far, (torch.arange(6)[:, None] - torch.arange(6)).abs() > 2)


def test_attention_that_is_a_difference_is_planned_twice() -> None:
    model, inputs = HOSTS["stable_audio3"].build()
    found: list[str] = []
    with attach(model, Masked(), looking(lambda call: found.append(call.site.name))):
        output(model, inputs)
    assert found == [f"transformer_blocks.{block}.self_attn" for block in (0, 0, 1, 1)]


def test_sound_that_is_padding_stays_hidden_under_a_plan() -> None:
    model, inputs = HOSTS["longcat_audio"].build()
    other = torch.where(inputs["attention_mask"][..., None], inputs["hidden_states"], 9.0)
    with attach(model, Masked()):
        one, two = output(model, inputs), output(model, {**inputs, "hidden_states": other})
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
