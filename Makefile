# Two commands for users, `make demo` and `make test`; CI and contributors call the others too.
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint types contracts docs package check-tag format constraints python compiler clean

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2
CHECKED := --jaxtyping-packages=saccade,shape_checks.check
export PYTHONDONTWRITEBYTECODE :=# what one pass of the tests compiles the next one reads

# The tests of one tier, in three passes: torch.compile cannot trace run-time shape checks, and a clock tolerates no
# neighbour. A pass that finds no test (status 5) is fine. $(call tests,which of them,how they are shared out,files)
# A file is read only where it can hold one of them: to import all takes most of a minute.
define tests
status=0; run() { $(PYTEST) "$$@" || [ $$? -eq 5 ] || status=1; }; \
run -m "$(1) and not compile and not timing" -n $(WORKERS) $(2) $(CHECKED) $(3); \
run -m "$(1) and compile and not timing" -n $(WORKERS) $(2) $$(grep -rl --include='*.py' 'mark\.compile' tests); \
run -m "$(1) and timing" $$(grep -rl --include='*.py' 'mark\.timing' tests); \
exit $$status
endef

help:
	@echo "make demo   compare attention systems on the bundled model: a table and report.html"
	@echo "make test   run the quick tests: minutes on two cores, no GPU needed; make test-slow runs the others"
	@echo "All create .venv first if it is missing. For CI: make lint types contracts docs; to mend style: make format."
	@echo "For a release: make package builds it, installs the wheel alone and runs it; make check-tag TAG=v0.1.0."

demo: .venv/ready compiler
	$(BIN)/saccade compare --output report.html

test: .venv/ready compiler
	@$(call tests,not slow)

# File by file, since what several of these tests share takes longest to make
test-slow: .venv/ready compiler
	@$(call tests,slow,--dist loadfile,$$(grep -rl --include='*.py' 'mark\.slow' tests))

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python scripts/check_words.py

types: .venv/ready
	$(BIN)/pyright --pythonpath $(BIN)/python

contracts: .venv/ready
	$(BIN)/lint-imports

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The wheel alone, with what pip gives a user today, does the package's main job where nothing of this folder is at hand.
# For the versions that the tests ran on: PIP_CONSTRAINT=$PWD/constraints.txt make package.
package: python
	rm -rf dist
	@set -e; room=$$(mktemp -d); trap 'rm -rf "$$room"' EXIT; \
	$(PYTHON) -m venv "$$room/build"; \
	"$$room/build/bin/pip" install --quiet --disable-pip-version-check build twine; \
	"$$room/build/bin/python" -m build --outdir dist; \
	"$$room/build/bin/twine" check --strict dist/*; \
	$(PYTHON) -m venv "$$room/user"; \
	"$$room/user/bin/pip" install --quiet --disable-pip-version-check "$$(echo dist/*.whl)[diffusers]"; \
	cd "$$room"; \
	user/bin/saccade list; \
	user/bin/saccade generate "a red circle" --steps 4 --height 64 --width 64 --out circle.png; \
	test -s circle.png

check-tag:
	@version=$$(sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml); \
	test "$$TAG" = "v$$version" || { echo "TAG='$$TAG' must be v$$version, after the version in pyproject.toml"; exit 1; }; \
	grep -qF "## [$$version] - " CHANGELOG.md || { echo "CHANGELOG.md needs a section ## [$$version] - DATE"; exit 1; }

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

constraints: .venv/ready
	@(sed -n 1p constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//') > .venv/constraints.txt
	mv .venv/constraints.txt constraints.txt

clean:
	rm -rf .venv dist site report.html report.json

# The stamp is newer than what it was installed from, so a second call installs nothing. timm comes without torchvision:
# where that was built for another torch, transformers and diffusers find it, import it and break.
.venv/ready: pyproject.toml constraints.txt | python
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps timm
	@touch $@

python:
	@test -n "$(PYTHON)" || { echo "saccade needs Python 3.11 or newer; name one with make PYTHON=/path/to/python3.11"; exit 1; }

compiler:
	@for compiler in $${CXX:-g++ clang++ c++}; do command -v "$$compiler" >/dev/null && exit; done; \
		echo "no C++ compiler found: compiled kernels are off, the eager ones run"
