"""What each family of `tests.hosts.models` offers to mechanisms, checked against what really passes attention."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.errors import MissingError
from saccade.core.layout import Layout
from saccade.run.attached_model import family_of
from tests.hosts.host import Host, output
from tests.hosts.stand_ins import looking
from tests.hosts.tiny import MORE

pytestmark = pytest.mark.host
more_hosts = pytest.mark.parametrize("host", MORE, ids=lambda host: host.name)
Pair = tuple[Tensor, Tensor]


def visual(layout: Layout) -> slice:
    """Where the first image, video or sound stands; everything where there is only text."""
    pictured = [segment.name for segment in layout.of("image")]
    return layout.span(pictured[0]) if pictured else slice(None)


def compared(host: Host, look: Callable[[AttentionCall, slice], Pair], *needs: str) -> None:
    """Both of what `look` finds for the image's tokens are the same at every site; skips what the host lacks."""
    model, inputs = host.build()
    family, found = family_of(model), dict[str, Pair]()
    if lacking := [need for need in needs if need.removeprefix("host.") in (*family.unsupported, *host.lacks)]:
        pytest.skip(f"offers no {lacking[0]}")
    if set(family.sites.values()) == {"cross"}:
        pytest.skip("has cross-attention alone")

    def keep(call: AttentionCall) -> None:
        found[call.site.name] = look(call, visual(call.layout_q))

    with attach(model, looking(keep, *needs)) as run:
        output(model, inputs)
    assert set(found) == {site.name for site in run.sites}
    near = {"rtol": 1e-4, "atol": 2e-6}
    if "host.raw" in needs and host.turns_in != torch.float32:
        near = dict.fromkeys(near, 4 * torch.finfo(host.turns_in).eps)
    for site, (one, other) in found.items():
        torch.testing.assert_close(one, other, **near, msg=lambda m, site=site: f"{site}: {m}")


@more_hosts
def test_what_enters_lies_in_the_order_of_the_queries(host: Host) -> None:
    compared(
        host, lambda call, _: (torch.tensor(call.host.hidden.shape[1]), torch.tensor(call.q.shape[2])), "host.hidden"
    )


@more_hosts
def test_projecting_what_entered_gives_the_values_of_the_call(host: Host) -> None:
    def look(call: AttentionCall, image: slice) -> Pair:
        return call.v[:, :, visual(call.layout_k)], call.host.project(call.host.hidden[:, image])[1]

    compared(host, look, "host.hidden", "host.project")


@more_hosts
def test_the_rotary_table_undoes_the_hosts_rotation(host: Host) -> None:
    def look(call: AttentionCall, image: slice) -> Pair:
        return call.host.raw(call.k)[:, :, image], call.host.project(call.host.hidden[:, image])[0]

    compared(host, look, "host.rotary", "host.raw", "host.hidden", "host.project")


@more_hosts
def test_stream_tokens_entered_are_what_attention_sees(host: Host) -> None:
    def look(call: AttentionCall, image: slice) -> Pair:
        return call.host.hidden[:, image], call.host.enter(call.host.stream[:, image])

    compared(host, look, "host.hidden", "host.stream", "host.enter")


@more_hosts
def test_what_is_not_offered_is_missing_with_the_mend(host: Host) -> None:
    model, inputs = host.build()
    family = family_of(model)
    for item in family.unsupported:
        needing: Any = looking(lambda call: None, f"host.{item}")
        with pytest.raises(MissingError, match=rf"{family.name} offers no '{item}'"), attach(model, needing):
            output(model, inputs)
