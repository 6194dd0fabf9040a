"""The mask on tiny random models of the real classes: the released outputs, who reaches whom, nothing else changed."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.core.masks import Table
from saccade.core.site import at
from saccade.papers.mask2dit import Mask2DiT, captions_apart, count_scores, in_a_row
from saccade.systems.dense import Dense
from tests.hosts.tiny import BY_NAME, output
from tests.papers.mask2dit.three_scenes import (
    ALL_TEXT,
    CLIP,
    FRAMES,
    SCENES,
    TEXT,
    changed,
    golden,
    inputs,
    model,
    of_clip,
    transformer,
)  # fmt: skip

pytestmark = pytest.mark.host
SYSTEM = Mask2DiT(text_tokens=TEXT)


def out(host: Any, given: dict[str, Any], *systems: Any, **options: Any) -> Tensor:
    with attach(host, *systems, **options), torch.no_grad():
        return output(host, given)


@pytest.mark.parametrize("kernel", [None, "spans", "gather", "reference"])
def test_the_real_class_under_the_mask_gives_the_released_codes_numbers(kernel: str | None) -> None:
    stored, host, seen = golden(), transformer(), {}
    weights = {name.removeprefix("w/"): value for name, value in stored.items() if name.startswith("w/")}
    host.load_state_dict(weights)
    for i, block in enumerate(host.transformer_blocks):
        block.register_forward_hook(
            lambda _, __, result, i=i: seen.update({f"blk{i}.video": result[0], f"blk{i}.text": result[1]})
        )
    host.transformer_blocks[0].attn1.register_forward_hook(
        lambda _, __, result: seen.update({"blk0.attn_out_video": result[0], "blk0.attn_out_text": result[1]})
    )
    given = {
        "hidden_states": stored["in/x"], "encoder_hidden_states": stored["in/text"], "timestep": stored["in/t"],
        "image_rotary_emb": (stored["in/rope_cos"], stored["in/rope_sin"]), "return_dict": False,
    }  # fmt: skip
    found = out(host, given, SYSTEM, *(() if kernel is None else (Dense(kernel=kernel),)))
    torch.testing.assert_close(
        found, stored["normal/out"], rtol=1e-5, atol=1e-5 * float(stored["normal/out"].abs().max())
    )
    assert len(seen) == 6
    for name, value in seen.items():
        torch.testing.assert_close(value[:1], stored[f"normal/{name}"], rtol=1e-5, atol=1e-5)
    assert (out(host, given) - stored["normal/out"]).abs().max() > 1e-2  # without the mask


def test_another_caption_changes_a_clip_in_two_layers_and_not_in_one() -> None:
    for layers in (1, 2):
        host, given = model(layers), inputs()
        one, two = (out(host, x, SYSTEM) for x in (given, changed(given, text=1)))
        moved = [bool((of_clip(one, i) - of_clip(two, i)).any()) for i in range(SCENES)]
        assert moved == ([False, True, False] if layers == 1 else [True, True, True])
        plain = (out(host, given) - out(host, changed(given, text=1))).abs()
        assert of_clip(plain, 0).max() > 1e-6


def test_another_clip_changes_a_clip_and_no_other_caption_in_one_layer() -> None:
    host, given, seen = model(1), inputs(), []
    host.transformer_blocks[0].register_forward_hook(lambda _, __, result: seen.append(result[1]))
    one, two = (out(host, x, SYSTEM) for x in (given, changed(given, clip=1)))
    assert (of_clip(one, 0) - of_clip(two, 0)).abs().max() > 1e-4
    text = seen[0].unflatten(1, (SCENES, TEXT)) - seen[1].unflatten(1, (SCENES, TEXT))
    assert not text[:, [0, 2]].any() and text[:, 1].abs().max() > 1e-4


def test_block_diagonal_scenes_are_strangers_to_any_depth() -> None:
    host, given = model(2), inputs()
    alone = Mask2DiT(text_tokens=TEXT, mask="block_diagonal")
    one, two = (out(host, x, alone) for x in (given, changed(given, text=1, clip=1)))
    assert torch.equal(of_clip(one, 0), of_clip(two, 0)) and torch.equal(of_clip(one, 2), of_clip(two, 2))
    assert not torch.equal(of_clip(one, 1), of_clip(two, 1))


def test_scenes_without_places_may_change_places() -> None:
    host, given = model(2), inputs() | {"image_rotary_emb": None}
    order = torch.tensor([2, 0, 1])
    moved = given | {
        "hidden_states": given["hidden_states"].unflatten(1, (SCENES, FRAMES))[:, order].flatten(1, 2),
        "encoder_hidden_states": given["encoder_hidden_states"].unflatten(1, (SCENES, TEXT))[:, order].flatten(1, 2),
    }
    found = out(host, given, SYSTEM).unflatten(1, (SCENES, FRAMES))[:, order].flatten(1, 2)
    torch.testing.assert_close(out(host, moved, SYSTEM), found, atol=1e-12, rtol=1e-10)


def test_one_scene_and_no_mask_are_bitwise_the_host() -> None:
    host, given = model(2, torch.float32), inputs(torch.float32)
    plain = out(host, given)
    for system in (Mask2DiT(text_tokens=ALL_TEXT), Mask2DiT(mask="none")):
        assert torch.equal(out(host, given, system), plain)
    looks = repr(host)
    assert not torch.equal(out(host, given, SYSTEM), plain)
    assert torch.equal(out(host, given), plain) and repr(host) == looks


def test_the_report_counts_the_scores() -> None:
    host, given = model(2, torch.float32), inputs(torch.float32)
    with attach(host, SYSTEM, schedule=(400,)) as run, torch.no_grad():
        host(**given | {"timestep": torch.tensor([400, 400])})
        density = {site.density for site in run.report().sites}
    assert density == {count_scores(SCENES, TEXT, CLIP) / (SCENES * (TEXT + CLIP)) ** 2}


def test_half_precision_and_gradients_keep_captions_apart() -> None:
    host, given = model(1, torch.bfloat16), inputs(torch.bfloat16)
    one, two = (out(host, x, SYSTEM) for x in (given, changed(given, text=1)))
    assert one.dtype == torch.bfloat16 and torch.equal(of_clip(one, 0), of_clip(two, 0))
    host, given = model(1), inputs()
    words = given["encoder_hidden_states"].requires_grad_()
    with attach(host, SYSTEM):
        (grad,) = torch.autograd.grad(of_clip(host(**given)[0], 0).square().sum(), words)
    by_scene = grad.unflatten(1, (SCENES, TEXT)).abs().sum((0, 2, 3))
    assert by_scene[0] > 0 and not by_scene[1:].any()


def hand_table(*scenes: tuple[bool, int]) -> Table:
    """From (video, scene) of each token."""
    allow = [[a[1] == b[1] or (a[0] and b[0]) for b in scenes] for a in scenes]
    return Table(torch.arange(len(scenes)), torch.arange(len(scenes)), torch.tensor(allow))


class ByHand:
    """A table of all pairs at joint sites, or from each caption to its clip in cross-attention."""

    name = "by hand"

    def __init__(self, table: Table) -> None:
        self.table = table

    def plan(self, site: Any, clock: Any) -> tuple[Table, ...]:
        return (self.table,)


def test_flux_has_panels_as_scenes() -> None:
    host, given = BY_NAME["flux"].build()
    panels = [(True, c // 2) for _ in range(4) for c in range(4)]
    wanted = out(host, given, ByHand(hand_table(*((False, i // 3) for i in range(6)), *panels)))
    found = out(host, given, Mask2DiT(text_tokens=3, along="columns"))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    assert (found - out(host, given)).abs().max() > 1e-4


def test_hunyuan_video_has_its_captions_behind_the_clips_and_refined_apart() -> None:
    host, given = BY_NAME["hunyuan_video"].build()
    given |= {"encoder_attention_mask": torch.ones(2, 6).long()}
    tokens = [*((True, t) for t in range(3) for _ in range(6)), *((False, i // 2) for i in range(6))]
    wanted = out(host, given, ByHand(hand_table(*tokens)))
    found = out(host, given, Mask2DiT(scenes=3, text_tokens=2))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    seen: list[Tensor] = []
    host.context_embedder.register_forward_hook(lambda _, __, result: seen.append(result))
    other = given | {"encoder_hidden_states": given["encoder_hidden_states"].clone()}
    other["encoder_hidden_states"][:, 2:4] += 1
    with captions_apart(host, 3):
        one, two = (out(host, x, Mask2DiT(scenes=3, text_tokens=2)) for x in (given, other))
    assert torch.equal(seen[-2][:, :2], seen[-1][:, :2]) and not torch.equal(seen[-2][:, 2:4], seen[-1][:, 2:4])
    assert not torch.equal(one, two) and torch.equal(out(host, given, Mask2DiT(scenes=3, text_tokens=2)), found)
    assert not torch.equal(seen[0], seen[-2])


def test_wan_reads_captions_apart_and_its_video_densely() -> None:
    host, given = BY_NAME["wan"].build()
    where = at(kind="cross")
    system = Mask2DiT(scenes=3, text_tokens=2, where=where)
    own = Table(torch.arange(18) // 6, torch.arange(6) // 2, torch.eye(3).bool())
    wanted = out(host, given, ByHand(own), where=where)
    found = out(host, given, system, where=where)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    assert (found - out(host, given)).abs().max() > 1e-5


@pytest.mark.bad_input
def test_inputs_that_are_no_scenes_are_named() -> None:
    host, given = model(1, torch.float32), inputs(torch.float32)
    with pytest.raises(ValueError, match="the text has 12 tokens, no multiple of text_tokens=5"):
        out(host, given, Mask2DiT(text_tokens=5))
    with pytest.raises(
        ValueError, match=r"has 6 frames, which are no 4 scenes of one length; give clips of one length"
    ):
        out(host, given, Mask2DiT(text_tokens=3))
    with pytest.raises(ValueError, match="5 captions are no whole number of videos of scenes=3"):
        in_a_row(torch.zeros(5, 4, 12), 3)
    with pytest.raises(ValueError, match="has no token refiner"), captions_apart(host, 3):
        pass
    refined, said = BY_NAME["hunyuan_video"].build()
    with captions_apart(refined, 4), pytest.raises(ValueError, match="the text has 6 tokens, no multiple of scenes=4"):
        refined(**said)
    with captions_apart(refined, 3), pytest.raises(ValueError, match="hides padding, which stands inside the row"):
        refined(**said)


def test_captions_stand_in_a_row_video_by_video() -> None:
    words = torch.arange(6.0)[:, None, None].expand(6, 2, 1)
    assert in_a_row(words, 3)[..., 0].tolist() == [[0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 5, 5]]
    assert Layout.joint(text=6, grid=(3, 1, 1)).text_n == in_a_row(words, 3).shape[1]


@pytest.mark.compile
def test_a_compiled_model_has_one_graph() -> None:
    host, given = model(1, torch.float32), inputs(torch.float32)
    wanted = out(host, given, SYSTEM)
    counters.clear()
    found = out(torch.compile(host, backend="eager", fullgraph=True), given, SYSTEM)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
