# Two commands for users, `make demo` and `make test`; CI and contributors call the others too.
.DEFAULT_GOAL := help
.PHONY: help demo test lint types contracts docs format constraints compiler clean

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2
ALONE := compile or timing  # torch.compile cannot trace runtime shape checks; a clock tolerates no neighbour

help:
	@echo "make demo   compare attention systems on the model in the box: a table and report.html"
	@echo "make test   run every test that needs no GPU"
	@echo "Both create .venv first if it is missing. For CI: make lint types contracts docs; to mend style: make format."

demo: .venv/ready compiler
	$(BIN)/saccade compare --output report.html

test: .venv/ready compiler
	@status=0; \
	$(PYTEST) -m "$(strip $(ALONE))" || status=$$?; \
	$(PYTEST) -m "not ($(strip $(ALONE)))" -n $(WORKERS) --jaxtyping-packages=saccade,shape_checks.check || status=$$?; \
	exit $$status

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/ready
	$(BIN)/pyright --pythonpath $(BIN)/python

contracts: .venv/ready
	$(BIN)/lint-imports

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(PYTEST) tests/test_docs.py -q

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

constraints: .venv/ready
	@(sed -n 1p constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//') > .venv/constraints.txt
	mv .venv/constraints.txt constraints.txt

clean:
	rm -rf .venv site report.html report.json

# The stamp is newer than what it was installed from, so a second call installs nothing. timm comes without torchvision:
# where that was built for another torch, transformers and diffusers find it, import it and break.
.venv/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "saccade needs Python 3.11 or newer; name one with make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps timm
	@touch $@

compiler:
	@command -v "$${CXX:-g++}" >/dev/null || command -v clang++ >/dev/null || \
		echo "no C++ compiler found: compiled kernels are off, the eager ones run"
