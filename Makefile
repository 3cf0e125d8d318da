# Everything starts from a bare Python: `make demo` trains a small model, `make test` checks the project.

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
MYPT := $(BIN)/mypt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# One torch thread for each of the workers: tiny models gain nothing from more.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-browser test-distributed lint types unit format coverage docs clean

help:  ## list these targets
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  make %-18s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed  ## install, train a small model for ten seconds, let it write
	$(MYPT) train demo --preset tiny --fresh
	@echo
	$(MYPT) generate demo --prompt "The " --max-new-tokens 300

test: lint types unit  ## all that a change has to pass: lint, types and tests

test-distributed: .venv/installed-dev  ## one run on several processes under torchrun, and what can happen to one of them
	$(PYTEST) -rs -m distributed

test-browser: .venv/installed-dev  ## the board in a real browser: needs chromium and chromedriver
	$(PYTEST) -rs -m browser -n 0

lint: .venv/installed-dev  ## ruff, without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev  ## mypy, strict
	$(BIN)/mypy

unit: .venv/installed-dev  ## the tests alone; the reason of each one that is skipped comes last
	$(PYTEST) -rs

format: .venv/installed-dev  ## format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: .venv/installed-dev  ## the tests, and the lines that none of them reaches
	$(PYTEST) --cov=mypt --cov-report=term-missing:skip-covered

docs: .venv/installed-dev  ## the pages of docs/ as a site; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Built site/index.html"

clean:  ## remove .venv and everything that tools leave behind
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage site

.venv/bare:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'mypt needs Python 3.11 or newer; call make PYTHON=...')"
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/bare pyproject.toml constraints.txt
	@echo "Installing mypt into .venv (a few minutes the first time)"
	$(INSTALL) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing the tools for lint, types, tests and the pages"
	$(INSTALL) --editable '.[dev]'
	@touch $@
