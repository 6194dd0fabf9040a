"""What a probe reads of a model nobody named, and that the family it writes keeps what `attach` promises."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.cli import main
from saccade.core.errors import SaccadeError
from saccade.core.layout import Layout
from saccade.families import Family, probe
from saccade.families.probing.naming import patterns
from saccade.run.attached_model import family_of, sites_of
from tests.hosts.host import Host, output
from tests.hosts.stand_ins import Masked, Same
from tests.hosts.test_contract import traces
from tests.hosts.test_every_host import EVERY_KIND
from tests.hosts.tiny import BY_NAME, DRAWING

pytestmark = pytest.mark.host
EVERY = DRAWING
SHARE = 0.8  # of the hosts that draw, variants of a class each for itself, whose proposed family must keep the contract


def tokens(layout: Layout) -> list[Any]:
    """What a layout says but for the names of its segments."""
    return [(segment.kind, segment.n, segment.grid) for segment in layout.segments]


def disagreement(host: Host) -> str | None:
    """How the family a probe writes differs from the library's own, None where it passes all that it must."""
    model, inputs = host.build()
    own = family_of(model)
    proposed = probe(model, inputs).family
    with attach(model, Masked(host.window), where=EVERY_KIND):
        wanted = output(model, inputs)
    before = output(model, inputs)
    with attach(model, family=proposed, where=EVERY_KIND):
        if not torch.equal(output(model, inputs), before):
            return "an empty stack is not the host"
    read, known = ({site.name: site.kind for site, _ in sites_of(model, family)} for family in (proposed, own))
    if read != known:
        return f"sites {set(read.items()) ^ set(known.items())}"
    for site, _ in sites_of(model, own):
        mine, theirs = (family.layout(model, inputs, site) for family in (proposed, own))
        if [tokens(layout) for layout in mine] != [tokens(layout) for layout in theirs]:
            return f"{site.name}: {[x.describe() for x in mine]}, not {[x.describe() for x in theirs]}"
    with attach(model, Masked(host.window), family=proposed, where=EVERY_KIND):
        if not torch.equal(output(model, inputs), wanted):
            return "a window gives another output"
    return None


def breach(host: Host) -> str | None:
    """What the family a probe writes does not keep of the contract, None where it keeps all.

    Every site is there, and attends to its own tokens or to others as it does; images stand where they stand, on their
    grids, so that no text or padding is taken for them; an empty stack is the host, and a window acts as it should.
    What the other tokens are called is not part of it: a reference may be `extra`.
    """
    model, inputs = host.build()
    own, proposed = family_of(model), probe(model, inputs).family
    read, known = (
        {site.name: (site.kind == "cross", *(images(x) for x in family.layout(model, inputs, site)))
         for site, _ in sites_of(model, family)}
        for family in (proposed, own)
    )  # fmt: skip
    if read != known:
        return f"{sorted(set(read.items()) ^ set(known.items()), key=str)[:4]}"
    before = output(model, inputs)
    with attach(model, family=proposed, where=EVERY_KIND):
        if not torch.equal(output(model, inputs), before):
            return "an empty stack is not the host"
    with attach(model, Masked(host.window), where=EVERY_KIND):
        wanted = output(model, inputs)
    with attach(model, Masked(host.window), family=proposed, where=EVERY_KIND):
        return None if torch.equal(output(model, inputs), wanted) else "a window gives another output"


def images(layout: Layout) -> tuple[tuple[int, int, Any], ...]:
    """Where images stand in the sequence, and their grids."""
    spans = [(layout.span(segment.name), segment.grid) for segment in layout.of("image")]
    return tuple((span.start, span.stop, grid) for span, grid in spans)


def tried(host: Host) -> str | None:
    try:
        return breach(host)
    except Exception as error:  # what a probe cannot read counts against it
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("name", ["flux", "pixart", "hunyuan_dit"])
def test_a_proposed_family_is_as_good_as_the_librarys_own(name: str) -> None:
    assert disagreement(BY_NAME[name]) is None


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_most_classes_are_read_without_their_family() -> None:
    found = {host.name: tried(host) for host in EVERY}
    failed = {name: why for name, why in found.items() if why is not None}
    share = 1 - len(failed) / len(found)
    print(f"{len(found) - len(failed)} of {len(found)} read, {share:.0%}; not: {failed}")
    assert share >= SHARE, failed


def test_it_says_what_attention_sees_and_leaves_the_model_as_it_was() -> None:
    model, inputs = BY_NAME["hunyuan_video"].build()
    before, clean = output(model, inputs), traces(model)
    found = probe(model, inputs)
    assert traces(model) == clean and torch.equal(output(model, inputs), before)
    rows = {record["names"]: record for record in found.records()}
    joint = rows["transformer_blocks.*.attn"]
    assert joint["queries"] == joint["keys"] == "hidden_states 18 | encoder_hidden_states 6"
    assert (joint["kind"], joint["number"], joint["rows"]) == ("joint", 2, 1)
    refiner = next(row for name, row in rows.items() if name.startswith("context_embedder"))
    assert refiner["kind"] == "left alone" and found.padding == "encoder_attention_mask"
    family = found.family
    assert isinstance(family, Family) and family.text == "last" and family.left_alone


@pytest.mark.parametrize("name", ["wan", "sd3"])
def test_a_proposed_layout_holds_for_other_sizes(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    family, own = probe(model, inputs).family, family_of(model)
    other = {**inputs, "hidden_states": torch.randn(1, *inputs["hidden_states"].shape[1:-2], 8, 4)}
    for site, _ in sites_of(model, own):
        mine, theirs = (tuple(map(tokens, f.layout(model, other, site))) for f in (family, own))
        assert mine == theirs


def test_patterns_are_as_few_as_tell_names_from_others() -> None:
    names = [f"blocks.{i}.attn" for i in range(3)]
    assert patterns(names, {"refiner.0.attn"}) == ("blocks.*.attn",)
    assert patterns(names[:1], set(names[1:])) == ("blocks.0.attn",)
    assert patterns(["a.0.b.1.c", "a.0.b.2.c"], {"a.1.b.1.c"}) == ("a.0.b.*.c",)


def test_what_cannot_be_probed_says_why() -> None:
    model, inputs = BY_NAME["pixart"].build()
    with (
        attach(model, Same()) as run,
        pytest.raises(SaccadeError, match=f"is attached by run .*{run.name[4:6].strip()}"),
    ):
        probe(model, inputs)
    with pytest.raises(ValueError, match="PixArtTransformer2DModel is in training, .* call eval"):
        probe(model.train(), inputs)


INPUTS = """
from tests.hosts.tiny import BY_NAME

def make():
    return BY_NAME["pixart"].build()
"""


def test_the_command_takes_a_file_of_inputs_and_writes_the_family(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = tmp_path / "given.py", tmp_path / "family.py"
    given.write_text(INPUTS)
    assert run("PixArtTransformer2DModel", "--inputs", str(given), "--out", str(out)) == 0
    shown = capsys.readouterr().out
    assert "transformer_blocks.*.attn2" in shown and "padding: encoder_attention_mask" in shown
    names: dict[str, Any] = {}
    exec(out.read_text(), names)
    assert names["FAMILY"].kind("transformer_blocks.7.attn2") == "cross"


def test_the_command_makes_a_small_model_of_a_class_or_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = BY_NAME["flux"].build()
    model.save_config(tmp_path / "transformer")
    assert run(str(tmp_path)) == 0
    assert 'text="first"' in capsys.readouterr().out
    assert run("DiTTransformer2DModel", "--json") == 0
    assert '"kind": "self"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("Linear",), "model='Linear' is neither a folder nor a model of diffusers"),
        (("DiTTransformer2DModel", "--inputs", "/nowhere.py"), "inputs='/nowhere.py' is no file"),
        (("DiTTransformer2DModel", "--out", "/nowhere/a.py"), "out='/nowhere/a.py' lies in no folder there is"),
        (("StableCascadeUNet",), "StableCascadeUNet has 3[0-9]{3} million parameters even with two layers"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert re.search(message, capsys.readouterr().err)


def test_arguments_whose_names_say_too_little_must_be_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.families.probing.made._runs", lambda model, given: False)
    assert run("DiTTransformer2DModel") == 2
    assert "no arguments made by their names fit DiTTransformer2DModel.forward(hidden_" in capsys.readouterr().err


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(("hosts", "probe", *words))
    return int(stop.value.code or 0)
