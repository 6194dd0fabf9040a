"""Systems as one writes them on the command line, read without evaluating anything.

    clear(radius=8)                     the same as  clear:radius=8
    clear(radius=8, where=at("*single*", during=(0.2, 1.0)))
    flashbias(prior=SpatialDistance(weight=0.1)) + clear:radius=8      a stack of two

An option is a plain value, `at(...)`, a bare word for text, or the name of an option class of that field with options
of its own.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from saccade.core.catalogue import lookup
from saccade.core.mechanism import System
from saccade.core.site import at
from saccade.core.text_calls import TextCall, as_call, check_options

Stack = tuple[System, ...]


def parse_stack(text: str) -> Stack:
    """The systems of `a + b:x=1`, in order.

    Raises ValueError naming the system or option that is unknown, with those there are.
    """
    try:
        tree = ast.parse("+".join(_call_form(term) for term in split(text, "+")), mode="eval").body
    except SyntaxError:
        raise ValueError(
            f"system '{text}' cannot be read; write it as name, name(option=value) or name:option=value,option=value"
        ) from None
    return tuple(_system(node, text) for node in _terms(tree))


def split(text: str, mark: str) -> Iterator[str]:
    """The pieces of `text` between marks that stand outside brackets and quotes."""
    depth, quote, start = 0, "", 0
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == mark and depth == 0:
            yield text[start:i].strip()
            start = i + 1
    yield text[start:].strip()


def option_classes(hint: Any) -> dict[str, type]:
    """The dataclasses an option of this type may be, by name: those named in the type, and their subclasses."""
    found = [cls for cls in _parts_of(hint) if isinstance(cls, type)]
    found += [sub for cls in found for sub in _subclasses(cls)]
    return {cls.__name__: cls for cls in found if is_dataclass(cls)}


def _call_form(term: str) -> str:
    """`clear:radius=8,pool=4` as `clear(radius=8,pool=4)`."""
    name, colon, rest = term.partition(":")
    return f"{name}({rest})" if colon and "(" not in name else term


def _terms(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _terms(node.left)
        yield from _terms(node.right)
    else:
        yield node


def _system(node: ast.expr, text: str) -> System:
    call = _named(node, text)
    name, entry = call.name, lookup(call.name)
    if not entry.attaches:
        raise ValueError(f"'{name}' is an architecture: it is built and trained, not attached; see saccade show {name}")
    return _build(entry.load(), name, call.options, text)


def _named(node: ast.expr, text: str) -> TextCall:
    if (call := as_call(node)) is None:
        raise ValueError(f"'{ast.unparse(node)}' in '{text}' must be a name with options by name, as clear(radius=8)")
    return call


def _build(make: Any, name: str, options: Mapping[str, ast.expr], text: str) -> Any:
    known = {f.name: f for f in fields(make) if f.init}
    check_options(f"'{name}'", options, list(known))
    hints = get_type_hints(make)
    given = {option: _value(value, hints[option], f"{name}.{option}", text) for option, value in options.items()}
    needed = (n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING)
    if missing := [n for n in needed if n not in given]:
        raise ValueError(f"'{name}' needs {', '.join(missing)}; write {name}({missing[0]}=...)")
    return make(**given)


def _value(node: ast.expr, hint: Any, option: str, text: str) -> Any:
    match node:
        case ast.Call(func=ast.Name(id="at")):
            places = [ast.literal_eval(argument) for argument in node.args]
            return at(*places, **{str(k.arg): ast.literal_eval(k.value) for k in node.keywords})
        case ast.Call() | ast.Name():
            return _object(node, hint, option, text)
        case ast.Dict():
            keys = [_literal(key, option) if key else None for key in node.keys]
            return dict(zip(keys, (_value(value, hint, option, text) for value in node.values), strict=True))
        case ast.Tuple() | ast.List():
            return tuple(_value(item, hint, option, text) for item in node.elts)
        case _:
            return _literal(node, option)


def _object(node: ast.Call | ast.Name, hint: Any, option: str, text: str) -> Any:
    choices = option_classes(hint)
    call = _named(node, text)
    name = call.name
    matching = {cls_name.lower(): cls for cls_name, cls in choices.items()}
    if name.lower() not in matching:
        if isinstance(node, ast.Name) and _takes_text(hint):
            return node.id  # a bare word: kernel=sdpa
        allowed = f"one of {', '.join(sorted(choices))}" if choices else "a plain value"
        raise ValueError(f"{option}={ast.unparse(node)} must be {allowed}")
    return _build(matching[name.lower()], name, call.options, text)


def _literal(node: ast.expr, option: str) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(
            f"{option}={ast.unparse(node)} must be a plain value: a number, text in quotes, a tuple"
        ) from None


def _takes_text(hint: Any) -> bool:
    return any(part is str or isinstance(part, str) for part in _parts_of(hint))


def _parts_of(hint: Any) -> tuple[Any, ...]:
    """A type and all types and literals within it."""
    return (hint, *(part for argument in get_args(hint) for part in _parts_of(argument)))


def _subclasses(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__() if cls is not type else ():
        if sub.__module__.startswith("saccade"):
            yield sub
            yield from _subclasses(sub)
