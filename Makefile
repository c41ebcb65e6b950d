# Two commands do all the set-up: `make quickstart` and `make test`.
VENV ?= .venv
PYTHON ?= python3
WORKERS ?= $(shell nproc)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow lint docs faults clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt scripts/install.sh
	PYTHON=$(PYTHON) bash scripts/install.sh $(VENV)
	@touch $@

$(TESTABLE): $(INSTALLED)
	PYTHON=$(PYTHON) bash scripts/install.sh $(VENV) dev
	@touch $@

quickstart: $(INSTALLED)  ## train Pre-, Post-, HybridNorm and HybridNorm* on real text, print the table
	$(BIN)/normlab sweep experiments/quickstart.yaml
	$(BIN)/normlab report quickstart

test: $(TESTABLE) lint  ## style, types and the fast tests
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile

test-slow: $(TESTABLE)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(TESTABLE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(TESTABLE)  ## measure every placement, norm and preset anew, and draw the gallery
	$(BIN)/python -m pytest tests --evidence=docs/verification.json
	$(BIN)/normlab placements docs
	$(BIN)/python scripts/calibrate_detectors.py

faults: $(TESTABLE)  ## do every fault to a small sweep, as root: docs/faults.md
	$(BIN)/python scripts/fault_table.py

clean:  ## remove the environment and caches (never runs/ or results/)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
