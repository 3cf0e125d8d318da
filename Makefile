# Everything starts from a bare Python: `make demo` trains a small model, `make test` checks the project.

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
MYPT := $(BIN)/mypt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint types unit clean

demo: .venv/installed
	$(MYPT) train demo --preset tiny --fresh
	@echo
	$(MYPT) generate demo --prompt "The " --max-new-tokens 300

test: lint types unit

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

# One torch thread for each of the workers: tiny models gain nothing from more.
unit: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/bare:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'mypt needs Python 3.11 or newer; call make PYTHON=...')"
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/bare pyproject.toml constraints.txt
	@echo "Installing mypt into .venv (a few minutes the first time)"
	$(INSTALL) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing the tools for lint, types and tests"
	$(INSTALL) --editable '.[dev]'
	@touch $@
