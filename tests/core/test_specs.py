"""Systems from the command line: what is written is what is built, and nothing is evaluated."""

import pytest

from saccade.cli.options import call_options
from saccade.core.site import at
from saccade.core.specs import option_classes, parse_stack, split
from saccade.papers.clear import Clear
from saccade.papers.flashbias import FlashBias
from saccade.papers.flashbias.place_priors import Alibi, SpatialDistance
from saccade.systems.dense import Dense


@pytest.mark.parametrize(
    ("text", "stack"),
    [
        ("dense", (Dense(),)),
        ("dense()", (Dense(),)),
        ("clear(radius=8)", (Clear(radius=8),)),
        ("clear:radius=8", (Clear(radius=8),)),
        ("clear:radius=8,pool=4", (Clear(radius=8, pool=4),)),
        (" clear( radius = 2.5 , proportional = True ) ", (Clear(radius=2.5, proportional=True),)),
        ("dense:kernel=sdpa", (Dense(kernel="sdpa"),)),
        ("dense(kernel='sdpa')", (Dense(kernel="sdpa"),)),
        ("clear:radius=8 + flashbias", (Clear(radius=8), FlashBias())),
        ("flashbias(prior=Alibi())", (FlashBias(prior=Alibi()),)),
        ("flashbias(prior=alibi)", (FlashBias(prior=Alibi()),)),
        (
            "flashbias(prior={'*single*': SpatialDistance(), '*': Alibi})",
            (FlashBias(prior={"*single*": SpatialDistance(), "*": Alibi()}),),
        ),
        (
            'clear(radius=8, where=at("*single*", heads=(0, 2), during=(0.2, 1.0)))',
            (Clear(radius=8, where=at("*single*", heads=(0, 2), during=(0.2, 1.0))),),
        ),
    ],
)
def test_what_is_written_is_what_is_built(text: str, stack: tuple) -> None:
    assert parse_stack(text) == stack


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cleer(radius=8)", "no system is named 'cleer'; there are .*clear, consistedit, "),
        ("clear(radios=8)", r"'clear' has no option 'radios' \(did you mean 'radius'\?\); it has radius, pool"),
        ("clear:sigma=8", "'clear' has no option 'sigma'; it has radius, pool, proportional"),
        ("clear", r"'clear' needs radius; write clear\(radius=...\)"),
        ("clear(8)", "'clear\\(8\\)' in 'clear\\(8\\)' must be a name with options by name"),
        ("clear(radius=8", "system 'clear\\(radius=8' cannot be read; write it as name"),
        ("clear(radius=-1)", "radius=-1"),
        ("clear(radius=__import__('os').getpid())", "clear.radius=.* must be"),
        ("clear(radius=2*4)", "clear.radius=2 \\* 4 must be a plain value"),
        ("flashbias(prior=Nothing())", "flashbias.prior=Nothing\\(\\) must be one of .*Alibi"),
        ("", "system '' cannot be read"),
    ],
)
def test_mistakes_are_named_with_what_is_possible(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_stack(text)


def test_marks_within_brackets_and_quotes_do_not_split() -> None:
    assert list(split("a(x=1+2) + b('+')+c", "+")) == ["a(x=1+2)", "b('+')", "c"]


def test_option_classes_are_found_through_unions_mappings_and_subclasses() -> None:
    assert {"Alibi", "SpatialDistance"} <= set(option_classes(dict[str, Alibi | SpatialDistance] | None))
    assert option_classes(int | None) == {}


def test_call_options_are_literals_or_text() -> None:
    given = call_options(["guidance_scale=3.5", "negative_prompt=blurry", "true_cfg=None", "sizes=(1, 2)"])
    assert given == {"guidance_scale": 3.5, "negative_prompt": "blurry", "true_cfg": None, "sizes": (1, 2)}


def test_a_call_option_without_a_value_is_named() -> None:
    with pytest.raises(ValueError, match="option 'guidance' must read name=value"):
        call_options(["guidance"])
