# Each target is the only command you need: it makes .venv and installs what is missing, then does its work.
#
#   make quickstart   the whole job, offline, on a small world: demo/*-report/report.html
#   make test         the tests that need no GPU, no server and no browser, and take under ten seconds each
#   make test-all     every test (what the machine cannot run is skipped with its reason)
#   make check        lint, format and types, as continuous integration runs them
#   make bench        every script of benchmarks/, each of which prints the number of one claim about speed
#   make docs         writes the pages and figures that docs/ has of the code, and checks the links of every page
#
# Torch is installed first and alone. On Linux the ordinary package index gives its CUDA build, which also runs on a CPU
# but is large. To get the small CPU build, point pip at an index or folder that has it before the first `make`, with
# pip's own variables (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS): pip then prefers it, because 2.13.0+cpu sorts above 2.13.0.

SHELL := /bin/bash
VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: quickstart test test-all check bench docs clean
.DELETE_ON_ERROR:

quickstart: $(READY)
	$(BIN)/pairwright quickstart -o demo

test: $(READY)
	$(BIN)/python -m pytest -n 2

test-all: $(READY)
	$(BIN)/python -m pytest -n 2 -m ""

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict src

bench: $(READY)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

docs: $(READY)
	$(BIN)/python docs/build.py

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Any Python from 3.11 on will do; PYTHON=... chooses one.
$(READY): pyproject.toml constraints.txt
	@python="$(PYTHON)"; \
	for each in python3.11 python3.12 python3.13 python3; do \
	    [ -n "$$python" ] && break; \
	    "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python="$$each"; \
	done; \
	[ -n "$$python" ] || { echo "pairwright needs Python 3.11 or newer; install one, or say make PYTHON=/path/to/it" >&2; exit 2; }; \
	"$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	@touch $@
