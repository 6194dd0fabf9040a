"""The house rules that a machine can check: public names, imports, sizes, annotations, versions."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import saccade
import saccade.core.errors

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
EVERYTHING = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]
TREES = {path: ast.parse(path.read_text(), str(path)) for path in EVERYTHING}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

TEXTS = ("*.md", "*.toml", "*.yml", "*.txt", "docs/**/*.md", ".ci/run", "Makefile")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
# torch itself imports triton
HEAVY = ("diffusers", "transformers", "timm", "accelerate", "matplotlib", "skimage", "scipy", "torchmetrics")


def _where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def _find(paths: list[Path], offends: Callable[[ast.AST], bool]) -> list[str]:
    return [_where(path, node) for path in paths for node in ast.walk(TREES[path]) if offends(node)]


def _name(call: ast.AST) -> str:
    return ast.unparse(call.func) if isinstance(call, ast.Call) else ""


def _packages() -> Iterator[str]:
    yield "saccade"
    for module in pkgutil.walk_packages(saccade.__path__, "saccade."):
        if module.ispkg:
            yield module.name


@pytest.mark.parametrize("package", list(_packages()))
def test_every_package_says_what_is_public(package: str) -> None:
    assert isinstance(getattr(importlib.import_module(package), "__all__", None), list)


@pytest.mark.parametrize("package", list(_packages()))
def test_public_names_are_sorted_and_importable(package: str) -> None:
    module = importlib.import_module(package)
    names = list(getattr(module, "__all__", ()))
    assert names == sorted(set(names))
    assert [name for name in names if getattr(module, name, None) is None] == []


def test_the_root_lists_every_layer() -> None:
    hidden = {"cli", "experiments", "studies", "ui"}
    layers = {name.removeprefix("saccade.") for name in _packages() if name.count(".") == 1} - hidden
    assert layers | set(saccade._VERBS) | {"__version__"} <= set(saccade.__all__)


def test_an_unknown_public_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'atach'; it has .*attach"):
        saccade.__getattr__("atach")


def test_importing_a_module_does_not_hide_the_function_of_its_name() -> None:
    for name in saccade._VERBS:
        importlib.import_module(f"saccade.{name}")
        assert callable(getattr(saccade, name))


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, saccade; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {*HEAVY, "torch"} & set(run.stdout.split())


@pytest.mark.parametrize("module", ["saccade.attach", "saccade.compare", "saccade.systems", "saccade.models"])
def test_the_doors_load_host_libraries_only_when_used(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(run.stdout.split())


def test_no_file_exceeds_its_length() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in EVERYTHING}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_function_exceeds_its_length() -> None:
    def too_long(node: ast.AST) -> bool:
        return isinstance(node, FUNCTION) and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES

    assert _find(EVERYTHING, too_long) == []


def test_every_argument_and_result_is_annotated() -> None:
    def bare(node: ast.AST) -> bool:
        if not isinstance(node, FUNCTION):
            return False
        given = node.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
        return node.returns is None or any(a.annotation is None for a in named if a.arg not in ("self", "cls"))

    assert _find(SOURCES, bare) == []


def test_no_banned_calls() -> None:
    banned = {"print", "eval", "exec", "breakpoint", "pickle.load", "pickle.loads"}
    assert _find(SOURCES, lambda node: _name(node) in banned or _name(node).endswith(".cuda")) == []


def test_checkpoints_are_never_unpickled() -> None:
    def unsafe(node: ast.AST) -> bool:
        return _name(node) == "torch.load" and "weights_only=True" not in ast.unparse(node)

    assert _find(SOURCES, unsafe) == []


def test_no_bare_except_and_no_global() -> None:
    def banned(node: ast.AST) -> bool:
        return isinstance(node, ast.Global) or (isinstance(node, ast.ExceptHandler) and node.type is None)

    assert _find(EVERYTHING, banned) == []


def test_annotations_stay_visible_to_the_shape_checker() -> None:
    assert _find(EVERYTHING, lambda node: isinstance(node, ast.ImportFrom) and node.module == "__future__") == []


def test_modules_are_named_after_their_subject() -> None:
    empty = re.compile(r"_?(util|helper|common|misc)")
    assert [str(path.relative_to(ROOT)) for path in EVERYTHING if empty.match(path.stem)] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path in SOURCES if TREES[path].body and ast.get_docstring(TREES[path]) is None]
    assert [str(path.relative_to(ROOT)) for path in silent] == []


def test_nothing_depends_on_a_folder_of_one_machine() -> None:
    absolute = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|opt|work|mnt|Users)/\w")
    texts = [*EVERYTHING, *(path for name in TEXTS for path in ROOT.glob(name))]
    assert [str(path.relative_to(ROOT)) for path in texts if absolute.search(path.read_text())] == []


def test_one_version_everywhere() -> None:
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert {saccade.__version__, PROJECT["version"], released[0], cited[1]} == {saccade.__version__}


def test_constraints_pin_every_tested_requirement_within_its_range() -> None:
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1].isalnum()]
    pinned = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    extras = PROJECT["optional-dependencies"]
    asked = [Requirement(line) for line in (*PROJECT["dependencies"], *sum(extras.values(), []))]
    tested = [ask for ask in asked if ask.name not in ("saccade", "timm")]  # timm brings a torchvision built for CUDA
    assert [str(ask) for ask in tested if not ask.specifier.contains(pinned[canonicalize_name(ask.name)])] == []
    assert not [name for name in pinned if name.startswith(("nvidia", "cuda", "torchvision"))]


def test_exceptions_form_one_tree_with_one_suffix() -> None:
    for path in SOURCES:
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.ClassDef) and any("Error" in ast.unparse(base) for base in node.bases):
                bases = {ast.unparse(base) for base in node.bases}
                assert node.name.endswith("Error") and ("SaccadeError" in bases or node.name == "SaccadeError"), path
                tree = saccade.core.errors.__doc__ or ""
                assert node.name in tree, f"{node.name} is missing from the tree in core.errors"


def _raised(function: ast.FunctionDef) -> set[str]:
    """Exceptions a function raises itself, not those of functions within it."""
    found: set[str] = set()
    open_nodes: list[ast.AST] = list(function.body)
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, FUNCTION):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            name = ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc).rpartition(".")[2]
            found |= {name} if name[:1].isupper() and name.endswith("Error") else set()
        open_nodes.extend(ast.iter_child_nodes(node))
    return found - {"NotImplementedError"}


def _public_functions(body: list[ast.stmt], about: str = "") -> Iterator[tuple[ast.FunctionDef, str]]:
    """Public functions and methods, each with the text that documents it; a constructor's is its class's too."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node.body, ast.get_docstring(node) or "")
        if isinstance(node, ast.FunctionDef):
            makes = node.name in ("__init__", "__post_init__")
            if makes or not node.name.startswith("_"):
                yield node, (ast.get_docstring(node) or "") + (about if makes else "")


def test_public_docstrings_say_what_is_raised() -> None:
    silent = [
        f"{_where(path, function)} {function.name}: {', '.join(sorted(_raised(function)))}"
        for path in SOURCES
        if path.parent.name != "cli"  # docstrings of commands are their help; errors become exit codes
        for function, about in _public_functions(TREES[path].body)
        if not all(name in about for name in _raised(function))
    ]
    assert silent == []
